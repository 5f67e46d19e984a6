"""The README's table of what phones and browsers get, beside the vendors' own recipes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from mobile_tables import TITLES, float_of
from record import DECIBEL, MEGABYTES, MILLISECONDS, RATIO, machine_line, markdown_table, replace_between
from vendors import PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from record import Result

BEGIN, END = "<!-- mobile, measured, written by benchmarks/run.py -->", "<!-- end of mobile, measured -->"
MODEL = "vit-small-224"
ENGINES = {
    "ort-mobile": "ONNX Runtime mobile",
    "executorch": "ExecuTorch",
    "litert": "LiteRT",
    "web": "ONNX Runtime Web, Chromium",
}
COLUMNS = ("ViT-S/16, 224 pixels, batch 1", "latency", "of its engine's float32", "SQNR of the logits", "size")


def update_mobile(results: Sequence[Result], readme: Path) -> None:
    """Replaces what stands between the two markers; leaves it where nothing was recorded."""
    runs = [result for result in results if result.suite == "mobile" and MODEL in result.findings.raw]
    if runs:
        replace_between(readme, BEGIN, END, table(max(runs, key=lambda one: one.started)))


def table(result: Result) -> str:
    found = result.findings.raw[MODEL]
    entries = {f"{entry['target']}-{entry['precision']}": entry for entry in found["entries"]}
    rows = [_row(build, entries[build], found) for build in _in_order(entries)]
    held = (
        "One file of each, made for a phone and measured here, in interleaved rounds of one run on "
        f"{machine_line(result)}; a phone has other kernels and other ratios. int8d: the scales of activations as they "
        "come. [All models, Core ML's packages, delegated shares and loading](benchmarks/README.md#results)."
    )
    lines = [
        "Phones and browsers take the same plan; below each engine its vendor's plain recipe, same model, same run:",
        "",
        *markdown_table(COLUMNS, rows),
        textwrap.fill(held, 120),
        "",
    ]
    return "\n".join(lines)


def _in_order(entries: dict[str, Any]) -> list[str]:
    """By engine as `ENGINES` has them, ours first."""
    order = list(ENGINES)
    return sorted(entries, key=lambda one: (order.index(float_of(one).removesuffix("-float32")), one in PEERS))


def _row(build: str, entry: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    ratio = found["ratios"][build].get(float_of(build))
    title = TITLES.get(build) or f"{ENGINES[entry['target']]}, {entry['precision']}"
    return (
        title,
        MILLISECONDS(entry["latency"]["p50"]),
        "1" if ratio is None else RATIO(ratio["value"]),
        DECIBEL(found["closeness"][build]["sqnr_db"]),
        MEGABYTES(found["sizes"][build]),
    )
