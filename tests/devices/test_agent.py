"""The agent, started by a shell on this machine instead of ssh: files whole or absent, nothing left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from edgevit.devices import Connection, RefusalError
from edgevit.errors import EdgevitError, UnavailableError


@dataclass(frozen=True)
class Shell:
    """A transport that needs no network."""

    cache: Path
    before: str = ""
    name: str = "shell"
    python: str = ""
    keeps: bool = True

    def command(self, script: str) -> list[str]:
        assert "'" not in script, "it is quoted by every login shell alike"
        python = Path(sys.executable).resolve().parent
        home = f"export XDG_CACHE_HOME={shlex.quote(str(self.cache))}; PATH={python}:$PATH"
        return ["sh", "-c", f"{home}; {self.before} exec sh -c {shlex.quote(script)}"]

    def explained(self, status: int, errors: str) -> EdgevitError:
        return UnavailableError(f"{self.name} ended with status {status}: {errors}")


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., Connection]]:
    opened: list[Connection] = []

    def make(before: str = "") -> Connection:
        opened.append(Connection(Shell(tmp_path, before)))
        return opened[-1]

    yield make
    for connection in opened:
        connection.close()


def workplaces(cache: Path) -> list[str]:
    return [path.name for path in (cache / "edgevit").glob("work-*")]


def test_it_says_where_it_is(connect: Any, tmp_path: Path) -> None:
    facts = connect().facts
    assert facts["machine"] == os.uname().machine
    assert Path(facts["work"]).parent == tmp_path / "edgevit" and facts["free"] > 0
    assert facts["python"].split(".")[0] == "3"


def test_what_a_profile_prints_is_not_taken_for_an_answer(connect: Any) -> None:
    assert connect("echo Welcome to the kitchen; echo;").facts["system"] == os.uname().sysname


def test_a_shell_that_prints_without_end_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="its shell prints something else"):
        Connection(Shell(tmp_path, "yes;"))


def test_files_arrive_whole(connect: Any, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(data)
    (tmp_path / "empty").touch()
    connection, moved = connect(), []
    connection.put("bundle/a/model.bin", tmp_path / "source", moved.append)
    connection.put("bundle/empty", tmp_path / "empty", moved.append)
    work = Path(connection.facts["work"])
    assert (work / "bundle/a/model.bin").read_bytes() == data and sum(moved) == len(data)
    assert sorted(path.name for path in (work / "bundle").rglob("*")) == ["a", "empty", "model.bin"]


def test_a_file_that_changed_on_the_way_is_absent(
    connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_bytes(b"what was meant")
    connection = connect()
    with monkeypatch.context() as patch:
        patch.setattr("edgevit.devices.connection.sha256", lambda path: "0" * 64)
        with pytest.raises(RefusalError, match="arrived with SHA-256") as refused:
            connection.put("bundle/model.bin", tmp_path / "source", lambda count: None)
    assert refused.value.kind == "damaged"
    assert list((Path(connection.facts["work"]) / "bundle").iterdir()) == []
    # The connection is as good as before.
    connection.put("bundle/model.bin", tmp_path / "source", lambda count: None)


@pytest.mark.parametrize("path", ["/etc/motd", "../outside", "a/../../b", ""])
def test_no_path_leads_out_of_the_workplace(connect: Any, tmp_path: Path, path: str) -> None:
    (tmp_path / "source").write_bytes(b"")
    with pytest.raises(RefusalError, match="is no path below the workplace"):
        connect().put(path, tmp_path / "source", lambda count: None)


def test_a_full_disk_in_the_middle_of_a_file(tmp_path: Path, connect: Any) -> None:
    connection = connect("ulimit -f 100;")
    (tmp_path / "source").write_bytes(bytes(4_000_000))
    with pytest.raises(RefusalError, match="File too large"):
        connection.put("bundle/model.bin", tmp_path / "source", lambda count: None)
    connection.close()
    assert workplaces(tmp_path) == []


def test_nothing_is_left_when_it_ends(connect: Any, tmp_path: Path) -> None:
    connection = connect()
    assert len(workplaces(tmp_path)) == 1
    connection.close()
    assert workplaces(tmp_path) == []


def test_what_a_crash_left_goes_with_the_next_connection_and_what_is_in_use_stays(connect: Any, tmp_path: Path) -> None:
    (tmp_path / "edgevit" / "work-dead").mkdir(parents=True)
    first = connect()
    second = connect()
    assert sorted(workplaces(tmp_path)) == sorted(Path(one.facts["work"]).name for one in (first, second))


def ready_environment(tmp_path: Path) -> str:
    """An environment that is there already: this Python, without packages."""
    bin_folder = tmp_path / "edgevit" / "venvs" / "ready" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "python").symlink_to(Path(sys.executable).resolve())
    return "ready"


def test_lines_come_while_it_runs_and_the_end_says_how(connect: Any, tmp_path: Path) -> None:
    connection, lines = connect(), []
    assert connection.ask({"do": "venv", "key": ready_environment(tmp_path)}, "looking")["ready"]
    code = "import sys; print(sys.stdin.read()); print('ä'); sys.exit('no more')"
    command = {"do": "run", "arguments": ["-c", code], "input": "given"}
    assert connection.ask(command, "running", lines.append) == {"status": 1, "errors": "no more"}
    assert lines == ["given", "ä"]


def running(tmp_path: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(tmp_path) in " ".join(process.cmdline()) and "sleeper" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


SLEEP = """
import subprocess, sys
print("begun", flush=True)
subprocess.run([sys.executable, "-c", {code!r}, {place!r}])
"""


def sleeping(connection: Connection, tmp_path: Path) -> dict[str, Any]:
    """A command whose child sleeps, as a bench's measuring process would."""
    code = SLEEP.format(code="import time; time.sleep(300)  # sleeper", place=str(tmp_path))
    connection.ask({"do": "venv", "key": ready_environment(tmp_path)}, "looking")
    return {"do": "run", "arguments": ["-c", code], "input": ""}


def gone(tmp_path: Path) -> bool:
    for _ in range(200):
        if not running(tmp_path) and not workplaces(tmp_path):
            return True
        time.sleep(0.05)
    return False


def test_what_runs_there_ends_with_the_connection_children_and_all(connect: Any, tmp_path: Path) -> None:
    connection = connect()

    def leave(line: str) -> None:
        while len(running(tmp_path)) < 2:
            time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), connection:
        connection.ask(sleeping(connection, tmp_path), "measuring", leave)
    assert gone(tmp_path)


def test_an_agent_that_dies_is_reported_and_the_next_one_cleans_up(connect: Any, tmp_path: Path) -> None:
    connection = connect()
    (agent,) = (one for one in psutil.Process().children(recursive=True) if "exec(sys.stdin" in " ".join(one.cmdline()))

    def kill(line: str) -> None:
        for child in agent.children(recursive=True):
            child.kill()
        agent.send_signal(signal.SIGKILL)

    with pytest.raises(UnavailableError, match=r"ended with status.*it was measuring"):
        connection.ask(sleeping(connection, tmp_path), "measuring", kill)
    assert len(workplaces(tmp_path)) == 1
    again = connect()
    assert workplaces(tmp_path) == [Path(again.facts["work"]).name]


def test_environments_that_were_not_used_for_long_make_room(connect: Any, tmp_path: Path) -> None:
    venvs = tmp_path / "edgevit" / "venvs"
    for age, name in enumerate(["newest", "newer", "old", "oldest"]):
        (venvs / name).mkdir(parents=True)
        os.utime(venvs / name, (1e9 - age, 1e9 - age))
    connection = connect()
    assert not connection.ask({"do": "venv", "key": "new"}, "making an environment")["ready"]
    connection.ask({"do": "keep"}, "keeping it")
    assert sorted(path.name for path in venvs.iterdir()) == ["new", "newer", "newest"]
    prefix = "import sys; print(sys.prefix, end='')"
    assert subprocess.check_output([venvs / "new" / "bin" / "python", "-c", prefix], text=True) == str(venvs / "new")


def test_one_that_is_unfinished_is_never_used(connect: Any, tmp_path: Path) -> None:
    connection = connect()
    connection.ask({"do": "venv", "key": "new"}, "making an environment")
    with pytest.raises(RefusalError) as refused:
        command = {"do": "install", "requirements": ["edgevit-is-not-that"], "offline": True}
        connection.ask(command, "installing")
    assert refused.value.kind == "install"
    connection.close()
    assert not (tmp_path / "edgevit" / "venvs").exists()
    assert connect().ask({"do": "venv", "key": "new"}, "making an environment")["ready"] is False
