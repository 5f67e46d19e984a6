"""What the README at the top shows of the recorded results: three tables, two pictures, and where they are from."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import front_mobile
import front_texts
from record import DECIBEL, MEGABYTES, MILLISECONDS, RATIO, machine_line, markdown_table, replace_between

if TYPE_CHECKING:
    from collections.abc import Sequence

    from record import Result

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PICTURES = ROOT / "benchmarks" / "pictures"
PICTURE = "vit-base-224.svg"
BEGIN, END = "<!-- measured, written by benchmarks/run.py -->", "<!-- end of measured -->"
MODEL = "vit-base-224"
BASELINE = "openvino-float32"
CLOSENESS = (
    "The weights are untrained, so closeness to float is shown and no accuracy. [How it is measured, and everything "
    "else that was](benchmarks/README.md)."
)
OURS, PEER, FLOAT = "#0072b2", "#d58a00", "#6b7380"
"""Okabe and Ito's hues, which stay apart for colour-blind readers."""


def update_front(results: Sequence[Result], readme: Path = README, pictures: Path = PICTURES) -> None:
    """Replaces what stands between the markers, and the pictures; leaves those of which nothing was recorded."""
    pictures.mkdir(exist_ok=True)
    result = _peers(results)
    if result is not None:
        replace_between(readme, BEGIN, END, front(result))
        (pictures / PICTURE).write_text(draw(result), encoding="utf-8")
    front_texts.update_texts(results, readme, pictures)
    front_mobile.update_mobile(results, readme)


def _peers(results: Sequence[Result]) -> Result | None:
    """The newest run that measured the model which carries the targets."""
    runs = [result for result in results if result.suite == "peers" and MODEL in result.findings.raw]
    return max(runs, key=lambda result: result.started, default=None)


def front(result: Result) -> str:
    from peers import TITLES

    found = result.findings.raw[MODEL]
    rows = []
    for build, title in TITLES.items():
        if build not in found["latency"]:
            continue
        latency, close = found["latency"][build]["p50"], found["closeness"][build]
        ratio = next((RATIO(ratio["value"]) for ratio in found["ratios"].get(build, {}).values()), "1")
        row = (title, MILLISECONDS(latency), ratio, DECIBEL(close["sqnr_db"]), MEGABYTES(found["sizes"][build]))
        rows.append(tuple(f"**{cell}**" for cell in row) if build == "openvino-int8" else row)
    columns = ("ViT-B/16, 224 pixels, batch 1", "latency", "of its engine's float32", "SQNR of the logits", "size")
    # In the picture's words for who cannot see it.
    best, ours = found["latency"]["openvino-int8"]["p50"], found["closeness"]["openvino-int8"]["sqnr_db"]
    share = found["ratios"]["openvino-int8"][BASELINE]["value"]
    text = f"edgevit's int8 on OpenVINO: {MILLISECONDS(best)}, {RATIO(share)} of float32's, at {DECIBEL(ours)}"
    lines = [
        f"![Latency of ViT-B/16 builds. {text}.](benchmarks/pictures/{PICTURE})",
        "",
        *markdown_table(columns, rows),
        textwrap.fill(f"Median of interleaved rounds on {machine_line(result)}. {CLOSENESS}", 120),
        "",
    ]
    return "\n".join(lines)


def draw(result: Result) -> str:
    """The same as horizontal bars, SVG with a white ground so that it can be read in a dark page too."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure
    from peers import TITLES

    found = result.findings.raw[MODEL]
    builds = [build for build in TITLES if build in found["latency"]]
    with mpl.rc_context({"svg.hashsalt": MODEL, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.2, 0.36 * len(builds) + 0.8), layout="constrained")
        axes = figure.add_subplot()
        values = [found["latency"][build]["p50"] for build in builds]
        axes.barh(range(len(builds)), values, color=[_colour(build) for build in builds], height=0.7)
        for row, (build, value) in enumerate(zip(builds, values, strict=True)):
            label = f" {MILLISECONDS(value)}, {DECIBEL(found['closeness'][build]['sqnr_db'])}"
            axes.text(value, row, label, va="center")
        axes.set_yticks(range(len(builds)), [TITLES[build] for build in builds])
        axes.invert_yaxis()
        axes.set_xlim(0, max(values) * 1.22)
        axes.set_xlabel("median latency, ms; beside the bars also the SQNR of the logits against float32")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        buffer = io.StringIO()
        metadata: dict[str, Any] = {"Date": None, "Title": f"Latency of builds of {MODEL}"}
        figure.savefig(buffer, format="svg", metadata=metadata)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _colour(build: str) -> str:
    if not build.endswith("int8"):
        return FLOAT
    return OURS if build.startswith(("openvino", "onnxruntime")) else PEER
