"""Outputs are complete or absent, whatever stops the writing; paths never leave their directory."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.errors import BuildError, BundleError, InputError, OutputError, SetError
from edgevit.files import check_relative, inside, is_workplace, sha256, staged_directory, staged_file, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def refuse(code: int) -> Callable[..., None]:
    """A stand-in for a system call that fails with `code`."""

    def call(*_arguments: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code))

    return call


# ------------------------------------------------------------------------------------------------ digests


def test_sha256_is_the_digest_of_the_whole_content(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


# -------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "relative",
    ["/etc/passwd", "..", "../a", "a/../../b", "a/..", ".", "./a", "a//b", "a/", "", "C:\\x", "C:/x", "c:x", "a\\b"],
)
def test_paths_that_are_not_plain_are_refused_on_one_line(tmp_path: Path, relative: str) -> None:
    with pytest.raises(BundleError, match="expected a relative path") as caught:
        inside(tmp_path, relative)
    assert "\n" not in str(caught.value)
    assert repr(relative) in str(caught.value)


def test_plain_paths_are_joined_whether_or_not_they_exist(tmp_path: Path) -> None:
    assert inside(tmp_path, "openvino-int8/model.xml") == tmp_path / "openvino-int8" / "model.xml"
    assert inside(tmp_path, "names with spaces/ü..x") == tmp_path / "names with spaces" / "ü..x"


def test_links_that_lead_out_are_refused_and_links_within_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (root / "out").symlink_to(tmp_path)
    (root / "in").symlink_to("real")
    (root / "loop").symlink_to("loop")
    with pytest.raises(BundleError, match="link that leads out"):
        inside(root, "out/secret")
    assert inside(root, "in/file") == root / "in" / "file"
    assert not inside(root, "loop").is_file()


def test_a_directory_reached_through_a_link_counts_as_itself(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert inside(tmp_path / "link", "a") == tmp_path / "link" / "a"


def test_the_caller_names_the_error(tmp_path: Path) -> None:
    with pytest.raises(SetError, match=r"'set.toml' names the path '\.\./a'"):
        check_relative("../a", "set.toml", SetError)


@given(st.text(alphabet=st.sampled_from("a./\\:C \n\0é~"), max_size=12))
def test_no_text_leads_out(relative: str) -> None:
    root = Path("/tmp/root")
    try:
        path = inside(root, relative)
    except BundleError:
        return
    assert os.path.normpath(path) == str(path)
    assert path != root
    assert path.is_relative_to(root)


# ----------------------------------------------------------------------------------------------- one file


def test_write_atomic_writes_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "a.json", b"one")
    write_atomic(tmp_path / "new" / "a.json", b"two")
    assert (tmp_path / "new" / "a.json").read_bytes() == b"two"
    assert names(tmp_path / "new") == ["a.json"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("call", ["tempfile.mkdtemp", "os.fsync", "pathlib.Path.replace"])
def test_a_disk_that_refuses_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse(code))
        with pytest.raises(OutputError, match=errno.errorcode[code]) as caught:
            write_atomic(path, b"new")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, the device that is always full")
def test_a_truly_full_device_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"disk is full.*ENOSPC"), staged_file(tmp_path / "a") as stage:
        stage.symlink_to("/dev/full")
        stage.write_bytes(b"x")
    assert names(tmp_path) == []


def test_a_file_never_replaces_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="directory has that name"):
        write_atomic(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


# ------------------------------------------------------------------------------------------ one directory


def fill(stage: Path, text: str = "new") -> None:
    (stage / "sub").mkdir()
    (stage / "sub" / "model.bin").write_text(text)
    (stage / "manifest.json").write_text(text)


def test_a_directory_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "out"
    with staged_directory(final) as stage:
        fill(stage)
        assert not final.exists()
        assert all(is_workplace(name) for name in names(final.parent))
    assert (final / "sub" / "model.bin").read_text() == "new"
    assert names(final.parent) == ["out"]


def test_the_new_directory_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    with staged_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit, GeneratorExit])
def test_an_exception_removes_everything_and_passes_through(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), staged_directory(tmp_path / "made" / "here" / "out") as stage:
        fill(stage)
        raise error
    assert names(tmp_path) == []


def test_an_existing_output_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    fill(tmp_path / "out", "old")
    with pytest.raises(OutputError, match=r"exists already.*--force"), staged_directory(tmp_path / "out"):
        pytest.fail("the body must not run")
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_empty_directory_is_no_output_and_a_file_is_never_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    with staged_directory(tmp_path / "empty") as stage:
        fill(stage)
    assert (tmp_path / "empty" / "manifest.json").exists()
    with pytest.raises(OutputError, match="is a file"), staged_directory(tmp_path / "file", replace=True):
        pytest.fail("the body must not run")
    with pytest.raises(OutputError, match="parent of it is a file"), staged_directory(tmp_path / "file" / "out"):
        pytest.fail("the body must not run")
    assert (tmp_path / "file").read_text() == "mine"
    assert names(tmp_path) == ["empty", "file"]


def test_replace_swaps_only_when_the_new_one_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    (out / "only-in-old").write_text("x")
    with pytest.raises(RuntimeError), staged_directory(out, replace=True) as stage:
        fill(stage)
        raise RuntimeError
    assert (out / "manifest.json").read_text() == "old"
    with staged_directory(out, replace=True) as stage:
        fill(stage)
        assert (out / "manifest.json").read_text() == "old"
    assert names(out) == ["manifest.json", "sub"]
    assert (out / "manifest.json").read_text() == "new"
    assert names(tmp_path) == ["out"]


def test_replace_refuses_a_folder_that_is_not_an_output_of_ours(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "family.jpg").write_text("precious")
    with (
        pytest.raises(OutputError, match=r"holds no manifest\.json \(found 'family\.jpg'\)"),
        staged_directory(tmp_path / "photos", replace=True, marker="manifest.json"),
    ):
        pytest.fail("the body must not run")
    assert names(tmp_path / "photos") == ["family.jpg"]


def test_a_failing_swap_puts_the_old_output_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    rename = Path.rename

    def second_fails(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OutputError, match="EIO"), staged_directory(out, replace=True) as stage:
        fill(stage)
    assert (out / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_an_old_output_that_cannot_be_put_back_is_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    fill(out, "old")
    rename = Path.rename

    def only_the_first_works(source: Path, target: Path) -> Path:
        if target.name != "old":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", only_the_first_works)
        with (
            pytest.raises(OutputError, match=r"previous output is kept in '.*old'") as caught,
            staged_directory(out, replace=True) as stage,
        ):
            fill(stage)
    kept = Path(str(caught.value).split("kept in ")[1].strip("'"))
    assert (kept / "manifest.json").read_text() == "old"
    with pytest.raises(OutputError, match="exists already"), staged_directory(out):  # the next run puts it back
        pytest.fail("the body must not run")
    assert (out / "manifest.json").read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("call", ["tempfile.mkdtemp", "os.fsync", "pathlib.Path.mkdir"])
def test_a_disk_that_refuses_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(call, refuse(code))
        with pytest.raises(OutputError, match=errno.errorcode[code]), staged_directory(tmp_path / "out") as stage:
            (stage / "a").write_text("x")
    assert names(tmp_path) == []


def test_a_write_that_the_body_could_not_do_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"permission denied.*EACCES"), staged_directory(tmp_path / "out") as stage:
        raise PermissionError(errno.EACCES, "Permission denied", str(stage / "model.xml"))
    assert names(tmp_path) == []


def test_what_the_body_could_not_read_is_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), staged_directory(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere/input.png")
    with pytest.raises(FileNotFoundError), staged_directory(tmp_path / "out") as stage:
        (stage / "missing").read_text()


def test_an_engine_that_fails_on_a_full_disk_without_saying_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=4096)
    monkeypatch.setattr("shutil.disk_usage", lambda _path: full)
    for said in (RuntimeError("write failed"), BuildError("OpenVINO refused model.onnx: iostream error")):
        with pytest.raises(OutputError, match="disk is full") as caught, staged_directory(tmp_path / "out"):
            raise said
        assert caught.value.__cause__ is said
    with pytest.raises(InputError, match="its own words"), staged_directory(tmp_path / "out"):
        raise InputError("an error that says what is wrong keeps its own words")


def test_a_root_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="found a root"), staged_directory(Path("/")):
        pytest.fail("the body must not run")


def test_a_file_system_without_locks_is_written_and_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / ".out.edgevit-1-abcdefgh"
    stale.mkdir()
    monkeypatch.setattr("fcntl.flock", refuse(errno.ENOLCK))
    with staged_directory(tmp_path / "out") as stage:
        fill(stage)
    assert names(tmp_path) == [stale.name, "out"]


# ------------------------------------------------------------------------------------------------ kill -9

WRITER = """
import sys, time
from pathlib import Path
from edgevit.files import staged_directory

with staged_directory(Path(sys.argv[1]), replace=True) as stage:
    (stage / "manifest.json").write_text("half")
    print("staged", flush=True)
    time.sleep(600)
"""


def start_writer(out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "staged\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_kill_9_leaves_no_output_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    kill(start_writer(tmp_path / "out"))
    assert len(names(tmp_path)) == 1
    assert is_workplace(names(tmp_path)[0])
    with staged_directory(tmp_path / "out") as stage:
        fill(stage)
    assert names(tmp_path) == ["out"]


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    process = start_writer(tmp_path / "out")
    try:
        before = names(tmp_path)
        with staged_directory(tmp_path / "out") as stage:
            fill(stage)
        assert names(tmp_path) == [*before, "out"]
    finally:
        kill(process)


def test_ctrl_c_in_a_real_process_leaves_nothing(tmp_path: Path) -> None:
    process = start_writer(tmp_path / "out")
    process.send_signal(signal.SIGINT)
    process.wait()
    kill(process)
    assert names(tmp_path) == []


def test_a_swap_cut_short_by_kill_9_is_undone_by_the_next_run(tmp_path: Path) -> None:
    cut = tmp_path / ".out.edgevit-1-abcdefgh"
    (cut / "old").mkdir(parents=True)
    fill(cut / "old", "old")
    (cut / "new").mkdir()
    with pytest.raises(OutputError, match="exists already"), staged_directory(tmp_path / "out"):
        pytest.fail("the body must not run")
    assert (tmp_path / "out" / "manifest.json").read_text() == "old"
    assert names(tmp_path) == ["out"]


def test_workplaces_of_other_outputs_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / ".out.edgevit-1-x.edgevit-22-abcdefgh"
    other.mkdir()
    write_atomic(tmp_path / "out", b"x")
    assert other.is_dir()
