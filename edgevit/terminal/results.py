"""The result of each command: lines and tables for people, or one JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.report.formats import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from edgevit.measure import Change
    from edgevit.pipeline import ExportResult
    from edgevit.pipeline.commands import Verification
    from edgevit.pipeline.diagnosis import Diagnosis
    from edgevit.pipeline.finishing import Finishing
    from edgevit.progress import Progress
    from edgevit.report.rows import Table
    from edgevit.types import BenchReport, ParityReport, SweepReport


class Terminal:
    """Prints the result of each command to `out`; `progress` is what the work reports to meanwhile."""

    def __init__(self, out: TextIO, progress: Progress, *, json: bool) -> None:
        from rich.console import Console

        self.progress = progress
        self._json = json
        self._out = out
        self._console = Console(file=out)

    def exported(self, result: ExportResult) -> None:
        from edgevit.report import at_terminal, headline, read_report

        if self._json:
            self._document(result)
            return
        data = read_report(result.path / "report.json")
        self._line(f"{clean(data.model)}: {headline(data)}")
        self._table(at_terminal.summary(data))
        if data.bench and any(entry.generation for entry in data.bench.entries):
            self._table(at_terminal.writing(data.bench))
        for line in at_terminal.remarks(data):
            self._paragraph(line)
        self._line(f"bundle: {result.path}")
        self._line(f"report: {(result.path / 'report.html').resolve().as_uri()}")
        if result.choice is not None and result.choice.build:
            self._line(f"choice: {result.choice.reason}")

    def bench(self, report: BenchReport, changes: Sequence[Change] | None) -> None:
        from edgevit.report import at_terminal

        if self._json:
            self._document(report if changes is None else {"report": report, "changes": changes})
            return
        self._table(at_terminal.measurements(report))
        if any(entry.generation for entry in report.entries):
            self._table(at_terminal.writing(report))
        for name, reason in report.not_executed.items():
            self._paragraph(f"{name}: not executed: {reason}")
        for warning in report.warnings:
            self._paragraph(f"note: {warning}")
        self._changes(changes or ())

    def parity(self, report: ParityReport) -> None:
        from edgevit.report import at_terminal

        if self._json:
            self._document(report)
            return
        self._table(at_terminal.ladder(report))
        for rung in report.rungs:
            if rung.verdict != "passed" or len(report.rungs) == 1:
                self._paragraph(f"{rung.name}: {rung.verdict}: {rung.reason}")

    def swept(self, report: SweepReport) -> None:
        from edgevit.report.sweep import lines_table

        if self._json:
            self._document(report)
            return
        self._table(lines_table(report))
        self._line(f"report: {(Path(report.path) / 'sweep.html').resolve().as_uri()}")

    def predictions(self, names: Sequence[str], results: Sequence[Any]) -> None:
        if self._json:
            self._document([{"input": name, "result": result} for name, result in zip(names, results, strict=True)])
            return
        for name, result in zip(names, results, strict=True):
            self._line(f"{clean(name, 400)}: {_shown(result)}")
            for note in getattr(result, "notes", ()):
                self._line(f"  note: {clean(note)}")

    def verification(self, result: Verification) -> None:
        if self._json:
            self._document(result)
            return
        for problem in result.problems:
            self._line(f"damaged: {problem}")
        for check in result.builds:
            closeness = f" ({check.sqnr_db:.1f} dB on the golden inputs)" if check.sqnr_db is not None else ""
            self._line(f"{check.build}: {check.verdict}{closeness}" + (f": {check.reason}" if check.reason else ""))
        if not result.passed:
            self._line("not to be used; export or copy it again")
        elif result.executed:
            self._line("intact and right on this machine")

    def built(self, result: Finishing) -> None:
        if self._json:
            self._document(result)
            return
        for build in result.builds:
            self._paragraph(f"{build.build}: {build.verdict}: {build.reason}")
        if result.triton is not None:
            self._line(f"Triton repository: {result.triton.path} ({', '.join(result.triton.models)})")
            for name, reason in result.triton.skipped.items():
                self._paragraph(f"{name}: left out: {reason}")

    def inspection(self, found: Any) -> None:
        if self._json:
            self._document(found)
            return
        from edgevit.terminal.inspection import lines

        for line in lines(found):
            self._line(line)

    def diagnosis(self, found: Diagnosis) -> None:
        if self._json:
            self._document(found)
            return
        from edgevit.terminal.inspection import diagnosis_lines

        for line in diagnosis_lines(found):
            self._line(line)

    def _changes(self, changes: Sequence[Change]) -> None:
        for change in changes:
            ratio = f", {change.ratio.value:.2f} × the old latency" if change.ratio else ""
            ratio += f", {change.further.value:.2f} × for a further token" if change.further else ""
            tokens = "" if change.tokens is None else f", {change.tokens} tokens"
            where = f"{change.name}, batch {change.batch_size}, threads {change.threads}{tokens}"
            self._line(f"{where}: {change.kind}{ratio}")
        different = dict.fromkeys(text for change in changes for text in change.machines)
        if different:
            self._paragraph(f"note: the two machines differ ({'; '.join(different)}), which can be all of the change")

    def _document(self, value: Any) -> None:
        encoded = msgspec.json.encode(value, enc_hook=_plain)
        # JSON is UTF-8 whatever the locale says.
        self._out.flush()
        text = msgspec.json.format(encoded, indent=2).decode() + "\n"
        binary = getattr(self._out, "buffer", None)
        if binary is None:
            self._out.write(text)
        else:
            binary.write(text.encode())
            binary.flush()

    def _line(self, text: str) -> None:
        print(text, file=self._out)

    def _paragraph(self, text: str) -> None:
        """A line that is broken between words where the terminal ends; its rest is indented."""
        import textwrap

        width = max(self._console.width, 40)
        print(textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False), file=self._out)

    def _table(self, table: Table) -> None:
        from rich.table import Table as RichTable
        from rich.text import Text

        from edgevit.report import fitted, terminal_table

        width = self._console.width
        roomy = fitted(table, width, gap=2) == table
        shown = terminal_table(table if roomy else fitted(table, width, gap=1))
        rich = RichTable(box=None, padding=(0, 2 if roomy else 1, 0, 0), pad_edge=False, header_style="dim")
        for column in shown.columns:
            rich.add_column(column.header, justify=column.justify, overflow="fold", vertical="bottom")
        for row in shown.rows:
            rich.add_row(*(Text(cell.text, style=cell.style) for cell in row))
        with self._console.capture() as drawn:
            self._console.print(rich)
        # Rich ends the program by itself when nobody reads any more; written here, it is one broken pipe like others.
        self._out.write("\n" + "\n".join(line.rstrip() for line in drawn.get().splitlines()) + "\n\n")
        if shown.caption:
            self._paragraph(shown.caption)


def _shown(result: Any) -> str:
    """A task's result in a line: labels with scores, a tag for each word, a translation, or the numbers of a vector."""
    if hasattr(result, "top"):
        return ", ".join(f"{label} {100 * score:.1f} %" for label, score in result.top)
    if hasattr(result, "words"):
        return " ".join(f"{clean(word.word, 80)}/{word.label or '?'}" for word in result.words)
    if hasattr(result, "text"):
        return clean(result.text, 4000)
    return " ".join(f"{value:.6g}" for value in result)


def _plain(value: Any) -> Any:
    """What msgspec does not write by itself: paths and arrays."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
