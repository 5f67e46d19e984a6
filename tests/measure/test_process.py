from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgevit.errors import MeasureError
from edgevit.measure import protocol
from edgevit.measure.process import WorkerProcess, describe_exit

MakeOpening = Callable[..., protocol.Opening]
TIMEOUT = 60.0


def open_and_prepare(worker: WorkerProcess, opening: protocol.Opening) -> protocol.Opened:
    opened = worker.ask(protocol.Open(opening=opening), protocol.Opened)
    worker.ask(protocol.Prepare(batch_size=2, seed=0), protocol.Done)
    return opened


def test_a_process_opens_measures_and_closes_its_session(make_opening: MakeOpening, tmp_path: Path) -> None:
    with WorkerProcess(TIMEOUT) as worker:
        opened = open_and_prepare(worker, make_opening())
        timings = worker.ask(protocol.Measure(seconds=0.0, min_calls=5, settle_calls=2), protocol.Timings)
    assert opened.signature.inputs[0].shape == ("batch", 3, 4, 4)
    assert len(timings.ns) == 5
    log = (tmp_path / "calls.log").read_text().splitlines()
    assert len(log) == 8
    assert len({line for line in log[:7] if line.startswith("fake-float32 2 ")}) == 1  # the same inputs every time
    assert log[7] == "fake-float32 closed"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_process_is_reported_with_its_signal_and_last_words(make_opening: MakeOpening) -> None:
    with WorkerProcess(TIMEOUT) as worker:
        open_and_prepare(worker, make_opening(kill_at=3))
        with pytest.raises(MeasureError) as caught:
            worker.ask(protocol.Measure(seconds=0.0, min_calls=10), protocol.Timings)
        assert "was ended by SIGKILL" in str(caught.value)
        assert "during Measure" in str(caught.value)
        assert "the fake engine is about to die" in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(MeasureError, match="SIGKILL"):  # and it stays dead, without hanging
            worker.ask(protocol.Report(), protocol.Usage)


def test_an_exit_while_opening_is_reported_with_its_status(make_opening: MakeOpening) -> None:
    reason = r"exited with status 7 during Open.*last words"
    with WorkerProcess(TIMEOUT) as worker, pytest.raises(MeasureError, match=reason):
        worker.ask(protocol.Open(opening=make_opening(exits=7)), protocol.Opened)


def test_an_error_while_opening_comes_back_as_its_message(make_opening: MakeOpening) -> None:
    with WorkerProcess(TIMEOUT) as worker, pytest.raises(MeasureError, match=r"^expected a GPU, found none; run this"):
        worker.ask(protocol.Open(opening=make_opening(unavailable=True)), protocol.Opened)


def test_a_process_that_hangs_is_killed(make_opening: MakeOpening) -> None:
    killed = r"during Open within 0\.05 s, found none, and killed"
    with WorkerProcess(timeout=0.05) as worker, pytest.raises(MeasureError, match=killed):
        worker.ask(protocol.Open(opening=make_opening(hangs=True)), protocol.Opened)
    worker.close()  # twice is fine


def test_a_foreign_reply_is_refused(make_opening: MakeOpening) -> None:
    with WorkerProcess(TIMEOUT) as worker, pytest.raises(MeasureError, match="expected Rate during Open, found Opened"):
        worker.ask(protocol.Open(opening=make_opening()), protocol.Rate)


def test_exit_statuses_in_words() -> None:
    assert describe_exit(3) == "exited with status 3"
    assert describe_exit(-11) == "was ended by SIGSEGV"
    assert describe_exit(-9).startswith("was ended by SIGKILL (")
    assert describe_exit(-200) == "was ended by signal 200"


def test_the_module_runs_by_its_name_and_keeps_engine_output_out_of_the_replies(make_opening: MakeOpening) -> None:
    commands = [
        protocol.Open(opening=make_opening()),
        protocol.Prepare(batch_size=1, seed=0),
        protocol.Measure(seconds=0.0),
    ]
    start = (
        "import sys, runpy; sys.path[:] = sys.argv[1:]; runpy.run_module('edgevit.measure.worker', None, '__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, *sys.path],
        input=b"".join(msgspec.json.encode(command) + b"\n" for command in commands),
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr
    replies = [msgspec.json.decode(line, type=protocol.Reply) for line in done.stdout.splitlines()]
    assert [type(reply).__name__ for reply in replies] == ["Opened", "Done", "Timings"]
    assert b"an engine that writes on standard output" in done.stderr


def test_the_process_imports_no_framework_and_no_random_numbers_for_a_cold_start() -> None:
    script = (
        "import sys; sys.path[:] = sys.argv[1:]; import edgevit.measure.worker; "
        "print([name for name in ('torch', 'onnx', 'openvino', 'onnxruntime', 'numpy.random', 'subprocess') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *sys.path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
