"""What a suite finds: figures against their targets, tables and raw numbers; as JSON, and as text for people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from edgevit.targets.processor import best_instruction_set, instruction_sets, multiplies_int8_exactly
from edgevit.types import Interval, Machine, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results, written by run.py -->", "<!-- end of results -->"
NEEDS_VNNI = "needs a processor with an int8 dot product (VNNI)"

Status = Literal["reached", "missed", "not measurable here"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What every suite is told."""

    work: Path
    """An empty directory for models and builds; several gigabytes for the largest sizes."""
    smoke: bool = False
    """The smallest model and few repeats: shows that the suite works, and measures nothing worth keeping."""
    quick: bool = False
    """The suite's own models with few repeats: a first look, not for the record."""
    models: tuple[str, ...] = ()
    """Names of the zoo without `zoo:`; empty for the suite's own."""
    bundles: Path | None = None
    """Where `sequences`, `phrases` and `mobile` find what an earlier run has made, peers' too, and leave theirs."""
    optimum: Path | None = None
    """The Python of an environment with optimum-intel, for `sequences` and `checkpoints`; None: it is left out."""
    olive: Path | None = None
    """The same with Olive and optimum-onnx, for `checkpoints`."""
    quantizer: Path | None = None
    """The Python of an environment with ai-edge-quantizer, for `mobile`; None: it is left out."""
    say: Callable[[str], None] = print
    """Takes a line about what is being done."""


class Figure(Value, frozen=True, kw_only=True):
    """A number and the target it was to reach."""

    name: str
    target: str
    """In words: `at most 0.36 ×`."""
    measured: str
    """As it is printed, with its unit and interval."""
    value: float
    interval: Interval | None = None
    status: Status
    reason: str = ""
    """Why it cannot be measured here; empty otherwise."""


class Table(Value, frozen=True, kw_only=True):
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


class Findings(Value, frozen=True, kw_only=True):
    """What a suite returns."""

    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]
    raw: dict[str, Any]
    """Every measured number, as JSON values."""
    warnings: tuple[str, ...] = ()


class Result(Value, frozen=True, kw_only=True):
    """One run of one suite."""

    schema: int = 1
    suite: str
    started: str
    """UTC, ISO 8601."""
    seconds: float
    shortened: str = ""
    """`smoke` or `quick` for a run that is not for the record."""
    machine: Machine
    findings: Findings


# ------------------------------------------------------------------------------------------------ quantities


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """How a kind of number is printed."""

    unit: str
    digits: int
    scale: float = 1.0
    """What one printed unit is in the number's own."""

    def __call__(self, value: float) -> str:
        return f"{self.number(value)} {self.unit}"

    def number(self, value: float) -> str:
        return f"{round(value / self.scale, self.digits) + 0.0:.{self.digits}f}"  # + 0.0 makes a minus zero zero


RATIO = Quantity(unit="×", digits=3)
DECIBEL = Quantity(unit="dB", digits=1)
MILLISECONDS = Quantity(unit="ms", digits=2)
MICROSECONDS = Quantity(unit="µs", digits=1)
SECONDS = Quantity(unit="s", digits=1)
POINTS = Quantity(unit="points", digits=2)
PERCENT = Quantity(unit="%", digits=2)
MEGABYTES = Quantity(unit="MB", digits=1, scale=1e6)
GIGABYTES = Quantity(unit="GB", digits=2, scale=1e9)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure is to reach."""

    limit: float
    quantity: Quantity
    at_least: bool = False
    needs_vnni: bool = False
    whose: str = ""
    """Who was measured at the limit: `NNCF`."""

    def __str__(self) -> str:
        text = f"at {'least' if self.at_least else 'most'} {self.quantity(self.limit)}"
        return f"{text} ({self.whose})" if self.whose else text


def figure(name: str, value: float, target: Target, interval: Interval | None = None) -> Figure:
    """The figure judged by its point value; a target for another kind of processor is not judged here."""
    measurable = not target.needs_vnni or multiplies_int8_exactly(instruction_sets())
    within = value >= target.limit if target.at_least else value <= target.limit
    return Figure(
        name=name,
        target=str(target),
        measured=with_interval(target.quantity, value, interval),
        value=value,
        interval=interval,
        status=("reached" if within else "missed") if measurable else "not measurable here",
        reason="" if measurable else NEEDS_VNNI,
    )


def with_interval(quantity: Quantity, value: float, interval: Interval | None) -> str:
    if interval is None:
        return quantity(value)
    return f"{quantity(value)} ({quantity.number(interval.low)} to {quantity.number(interval.high)})"


# --------------------------------------------------------------------------------------------------- files


def slug(machine: Machine) -> str:
    """`amd-epyc-avx2`: the processor's name, and the widest instruction set because many share a name."""
    name = re.sub(r"[^a-z0-9]+", "-", machine.cpu.lower()).strip("-")
    return f"{name}-{best_instruction_set(machine.instruction_sets).replace('_', '-')}"


def write_result(result: Result, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.suite}-{slug(result.machine)}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(_rounded(msgspec.to_builtins(result))), indent=1) + b"\n")
    return path


def read_results(folder: Path) -> list[Result]:
    """All recorded runs, in the order of their file names."""
    return [msgspec.json.decode(path.read_bytes(), type=Result) for path in sorted(folder.glob("*.json"))]


def _rounded(value: Any) -> Any:
    """Six significant digits are more than any clock here has, and halve the files."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


# ----------------------------------------------------------------------------------------------------- text


def markdown(results: Iterable[Result]) -> str:
    """Figures and tables of the runs, as README.md shows them."""
    return "\n".join(line for result in results for line in (*_heading(result), *_body(result)))


def plain(result: Result) -> str:
    """The same for a terminal."""
    return "\n".join(_body(result)) + "\n"


def update_readme(results: Sequence[Result], path: Path = README) -> None:
    """Replaces what stands between the two markers."""
    replace_between(path, BEGIN, END, markdown(results))


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n\n{text}\n{end}{after}", encoding="utf-8")


def machine_line(result: Result) -> str:
    machine = result.machine
    return f"{machine.cpu}, {best_instruction_set(machine.instruction_sets)}, {machine.cores} cores"


def _heading(result: Result) -> list[str]:
    packages = result.machine.packages
    versions = ", ".join(
        f"{name} {packages[name]}" for name in ("torch", "openvino", "onnxruntime", "nncf") if name in packages
    )
    return [f"### {result.suite}, {machine_line(result)}", "", f"{result.started[:10]}, {versions}.", ""]


def _body(result: Result) -> list[str]:
    findings = result.findings
    lines = [f"Warning: {warning}." for warning in findings.warnings]
    if findings.figures:
        rows = tuple(
            (item.name, item.target, item.measured, f"{item.status}{f': {item.reason}' if item.reason else ''}")
            for item in findings.figures
        )
        lines += markdown_table(("figure", "target", "measured", "status"), rows)
    for table in findings.tables:
        lines += [table.title, "", *markdown_table(table.columns, table.rows)]
        if table.note:
            lines += [table.note, ""]
    return lines


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown that also reads well as plain text."""
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in (columns, *rows)
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:], ""]
