"""Progress: one plain line per finished task in a log, a bar that goes away at a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from edgevit.progress import Silent
from edgevit.terminal.progress import Bars, Lines, terminal_progress


def test_a_log_gets_one_line_per_finished_task(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Lines()
    with progress.task("planning", 3) as advance:
        advance(1, "blocks.0")
        advance(3, total=3)
    progress.note("a note")
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert re.fullmatch(r"planning: \d+\.\d+ s", first)
    assert second == "a note"


def test_a_task_that_fails_gets_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), Lines().task("dividing", None):
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


def drawn(width: int, name: str, detail: str, total: int | None) -> tuple[str, list[str]]:
    """Everything a terminal of that width is sent, and the lines that stay when the task is done."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, legacy_windows=False, color_system=None)
    with Bars(console).task(name, total) as advance:
        advance(2, detail, total=7)
    sent = out.getvalue()
    # What stands after the last time that the bar's line was erased.
    rest = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.rpartition("\x1b[2K")[2])
    return sent, [line for line in rest.splitlines() if line.strip()]


def test_a_terminal_shows_done_of_total_and_keeps_one_line() -> None:
    sent, lines = drawn(80, "measuring", "openvino-int8: latency", None)
    assert "2/7" in sent and "openvino-int8: latency" in sent
    (line,) = lines
    assert re.fullmatch(r"✓ measuring  \d+\.\d+ s", line.strip())


@pytest.mark.parametrize("width", [40, 80])
def test_a_bar_never_takes_two_lines(width: int) -> None:
    sent, _ = drawn(width, "planning scales", "blocks.11.a.very.long.name.of.a.layer.that.does.not.fit" * 3, 9)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", sent)
    assert max(len(line.rstrip()) for line in plain.replace("\r", "\n").splitlines()) <= width
    assert "\x1b[2A" not in sent, "one line up is all a bar of one line needs"


def test_markup_in_names_is_only_text() -> None:
    _, (line,) = drawn(80, "loading [red]x[/nothing]", "[/oops]", 1)
    assert "loading [red]x[/nothing]" in line


def test_no_terminal_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(terminal_progress(), Lines)


def test_silence(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Silent()
    progress.note("nothing")
    with progress.task("nothing", None) as advance:
        advance(1, "nothing", 2)
    assert capfd.readouterr() == ("", "")
