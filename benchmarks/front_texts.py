"""The README's table of the small models of texts, and the picture of what they get right by the length of a phrase."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from bootstrap import median_of
from phrases import bleu
from record import MEGABYTES, MILLISECONDS, machine_line, markdown_table, replace_between
from tokens import FLOAT, INT8

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from record import Quantity, Result

BEGIN, END = "<!-- texts, measured, written by benchmarks/run.py -->", "<!-- end of texts, measured -->"
PICTURE = "phrases-by-length.svg"
COLUMNS = ("German phrases, float32 / int8", "right", "BLEU", "size", "one phrase", "phrases per second")
COLOURS = ("#0072b2", "#d55e01", "#009e73", "#b8649a")
"""Okabe and Ito's hues, which stay apart for colour-blind readers."""
LOSS = 5.0
"""Points from the shortest to the longest phrases that are worth a word."""
PANELS = (("exact match of the translation, %", True), ("right tags and kinds, %", False))


def update_texts(results: Sequence[Result], readme: Path, pictures: Path) -> None:
    """Replaces what stands between the two markers, and the picture; leaves both where nothing was recorded."""
    runs = [result for result in results if result.suite == "phrases" and result.findings.raw.get("results")]
    if not runs:
        return
    result = max(runs, key=lambda one: one.started)
    replace_between(readme, BEGIN, END, table(result, _token_times(results)))
    (pictures / PICTURE).write_text(draw(result), encoding="utf-8")


def _token_times(results: Sequence[Result]) -> str:
    """What int8 gains at the size of the paper's base model, from the newest run that measured it."""
    runs = [result for result in results if result.suite == "sequences"]
    if not runs:
        return ""
    builds = max(runs, key=lambda one: one.started).findings.raw["builds"]
    first = {f"{one['target']}-{one['precision']}": one["generation"] for one in builds if one["batch_size"] == 1}
    times = [MILLISECONDS(first[build]["next_token"]["p50"]) for build in (FLOAT, INT8)]
    return f"At the size of the paper's base Transformer a token takes {times[0]} in float32 and {times[1]} in int8. "


def table(result: Result, times: str) -> str:
    found: dict[str, Any] = result.findings.raw["results"]
    rows = [_row(name, builds) for name, builds in found.items()]
    held = (
        "Held-out phrases; right is exact match of translations, tags of words, kinds of phrases. Median of one phrase "
        f"at a time, and all as one list, by OpenVINO on {machine_line(result)}. The LSTM and the GRU carry a phrase "
        f"in one vector of fixed size. {times}[All that was measured](benchmarks/README.md)."
    )
    lines = [
        "Models that read and write texts go the same way, [their decoding loop](#texts) included:",
        "",
        f"![Right answers by the length of the phrase. {_in_words(found)}.](benchmarks/pictures/{PICTURE})",
        "",
        *markdown_table(COLUMNS, rows),
        textwrap.fill(held, 120),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, builds: dict[str, Any]) -> tuple[str, ...]:
    pair = builds[FLOAT], builds[INT8]
    right = [found["task"]["build"] for found in pair]
    scores = [bleu(found) for found in pair]
    return (
        f"`zoo:{name}`",
        f"{right[0]:.1f} / {right[1]:.1f} %",
        " / ".join(scores) if all(scores) else "",
        _both(MEGABYTES, [found["size"] for found in pair]),
        _both(MILLISECONDS, [median_of(found["single_ms"])[0] for found in pair]),
        f"{pair[0]['per_second']:.0f} / {pair[1]['per_second']:.0f}",
    )


def _both(quantity: Quantity, values: Sequence[float]) -> str:
    return f"{quantity.number(values[0])} / {quantity(values[1])}"


def _in_words(found: dict[str, Any]) -> str:
    """For who cannot see the picture: where the shortest and the longest phrases differ, and how little elsewhere."""
    bins = {name: builds[INT8]["lengths"] for name, builds in found.items()}
    losing = {name: (one[0], one[-1]) for name, one in bins.items() if one[0]["build"] - one[-1]["build"] > LOSS}
    said = [
        f"{name} in int8: {first['build']:.1f} % at {first['low']} to {first['high']} tokens, "
        f"{last['build']:.1f} % at {last['low']} to {last['high']}"
        for name, (first, last) in losing.items()
    ]
    least = min((each["build"] for name, one in bins.items() if name not in losing for each in one), default=None)
    return "; ".join(said if least is None else [*said, f"the others at least {least:.1f} % at every length"])


def draw(result: Result) -> str:
    """Two panels, translators and readers; float32 drawn through, int8 dashed. SVG with a white ground."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    found = result.findings.raw["results"]
    with mpl.rc_context({"svg.hashsalt": PICTURE, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(8.6, 3.6), layout="constrained")
        for axes, (label, writes) in zip(figure.subplots(1, 2), PANELS, strict=True):
            _panel(axes, {name: builds for name, builds in found.items() if name.startswith("phrases-") == writes})
            axes.set_ylabel(label)
        buffer = io.StringIO()
        metadata: dict[str, Any] = {"Date": None, "Title": "Right answers by the length of the phrase"}
        figure.savefig(buffer, format="svg", metadata=metadata)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _panel(axes: Axes, models: dict[str, Any]) -> None:
    for (name, builds), colour in zip(models.items(), COLOURS, strict=False):
        for build, line, label in ((FLOAT, "-", name), (INT8, "--", f"{name}, int8")):
            bins = builds[build]["lengths"]
            places = [(one["low"] + one["high"]) / 2 for one in bins]
            axes.plot(places, [one["build"] for one in bins], line, marker="o", markersize=3, color=colour, label=label)
            axes.set_xticks(places, [f"{one['low']}–{one['high']}" for one in bins])
    low, _ = axes.get_ylim()
    axes.set_ylim(min(low, 98), 100.2 if low > 90 else 102)
    axes.set_xlabel("tokens of the phrase")
    axes.grid(visible=True, color="#dfe3e8", linewidth=0.6)
    axes.legend(frameon=False, fontsize=7, loc="lower left")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
