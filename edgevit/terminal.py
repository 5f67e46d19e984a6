"""What the person at the terminal sees: progress on standard error, a table at the end, or one JSON document."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from edgevit.pipeline import ExportResult
    from edgevit.pipeline.commands import Verification
    from edgevit.pipeline.diagnosis import Diagnosis
    from edgevit.progress import Advance
    from edgevit.report.rows import Table
    from edgevit.types import BenchReport, ParityReport


class RichProgress:
    """Bars with the time left, on standard error."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def task(self, name: str, total: int | None) -> Iterator[Advance]:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.text import Text

        class Detail(TextColumn):
            def render(self, task: Any) -> Text:
                return Text(str(task.fields.get("detail", "")), style="dim")

        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            Detail(""),
        )
        with Progress(*columns, console=self._console, transient=False) as progress:
            task = progress.add_task(name, total=total, detail="")

            def advance(done: int, detail: str = "") -> None:
                progress.update(task, completed=done, detail=detail)

            yield advance
            progress.update(task, total=total or 1, completed=total or 1, detail="")


class Terminal:
    """Prints the result of each command and returns its exit status."""

    def __init__(self, *, json: bool) -> None:
        from rich.console import Console

        self._json = json
        self._out = Console(soft_wrap=False)
        self.progress = RichProgress(Console(stderr=True))

    def exported(self, result: ExportResult) -> int:
        from edgevit.report import headline, read_report, summary_table

        data = read_report(result.path / "report.json")
        status = 1 if result.failed else 0
        if self._json:
            return self._document(
                {
                    "bundle": str(result.path),
                    "failed": result.failed,
                    "manifest": result.manifest,
                    "parity": result.parity,
                    "bench": result.bench,
                },
                status,
            )
        self._table(summary_table(data))
        self._line(headline(data))
        self._line(f"bundle: {result.path}")
        self._line(f"report: {(result.path / 'report.html').resolve().as_uri()}")
        for name in result.failed:
            print(f"edgevit: {name} is out of its parity budget; see the report", file=sys.stderr)
        return status

    def bench(self, report: BenchReport, old: BenchReport | None) -> int:
        from edgevit.report import bench_table

        changes = self._changes(report, old)
        if self._json:
            if old is None:
                return self._document(report, 0)
            return self._document({"report": report, "changes": changes}, 0)
        self._table(bench_table(report))
        for name, reason in report.not_executed.items():
            self._line(f"{name}: not executed ({reason})")
        for warning in report.warnings:
            self._line(f"note: {warning}")
        for change in changes:
            self._line(
                f"{change.target}:{change.precision} batch {change.batch_size}, {change.threads} threads: {change.kind}"
                + (f" ({change.ratio.value:.2f} x)" if change.ratio else "")
            )
        return 0

    def parity(self, report: ParityReport) -> int:
        from edgevit.parity.ladder import out_of_budget
        from edgevit.report import ladder_table

        status = 1 if out_of_budget(report) else 0
        if self._json:
            return self._document(report, status)
        self._table(ladder_table(report))
        for rung in report.rungs:
            self._line(f"{rung.name}: {rung.verdict}: {rung.reason}")
        return status

    def predictions(self, names: Sequence[str], results: Sequence[Any]) -> int:
        if self._json:
            pairs = [
                {"input": name, "result": result.tolist() if hasattr(result, "tolist") else result}
                for name, result in zip(names, results, strict=True)
            ]
            return self._document(pairs, 0)
        for name, result in zip(names, results, strict=True):
            if hasattr(result, "top"):
                self._line(f"{name}: " + ", ".join(f"{label} {100 * score:.1f} %" for label, score in result.top))
            else:
                self._line(f"{name}: {result}")
        return 0

    def verification(self, result: Verification) -> int:
        status = 0 if result.passed else 1
        if self._json:
            return self._document(result, status)
        for problem in result.problems:
            self._line(f"damaged: {problem}")
        for check in result.builds:
            closeness = f" ({check.sqnr_db:.1f} dB on the golden inputs)" if check.sqnr_db is not None else ""
            self._line(f"{check.build}: {check.verdict}{closeness}" + (f": {check.reason}" if check.reason else ""))
        self._line("intact and right on this machine" if status == 0 else "not to be used; export or copy it again")
        return status

    def inspection(self, found: Any) -> int:
        if self._json:
            return self._document(found, 0)
        from edgevit.inspection import lines

        for line in lines(found):
            self._line(line)
        return 0

    def diagnosis(self, found: Diagnosis) -> int:
        if self._json:
            return self._document(found, 0)
        machine = found.machine
        self._line(f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.instruction_sets)}")
        for state in found.targets:
            able = ", ".join(name for name, reason in state.precisions.items() if not reason) or "nothing"
            head = f"{state.target} {state.version}".strip()
            self._line(f"{head}: build {_yes(state.build)}, run {_yes(state.run)}; {able}")
            for name, reason in state.precisions.items():
                if reason and state.build:
                    self._line(f"  {name}: {reason}")
            if state.fix:
                self._line(f"  to change that: {state.fix}")
        return 0

    def _changes(self, report: BenchReport, old: BenchReport | None) -> Sequence[Any]:
        if old is None:
            return ()
        from edgevit.measure import compare_reports

        return compare_reports(old, report)

    def _document(self, value: Any, status: int) -> int:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode() + "\n")
        return status

    def _line(self, text: str) -> None:
        self._out.print(text, markup=False, highlight=False, soft_wrap=True)

    def _table(self, table: Table) -> None:
        from rich import box
        from rich.table import Table as RichTable
        from rich.text import Text

        from edgevit.report import terminal_table

        shown = terminal_table(table)
        rich = RichTable(title=shown.caption or None, box=box.SIMPLE_HEAD, title_justify="left")
        for column in shown.columns:
            rich.add_column(column.header, justify=column.justify, overflow="fold")
        for row in shown.rows:
            rich.add_row(*(Text(cell.text, style=cell.style) for cell in row))
        self._out.print(rich)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
