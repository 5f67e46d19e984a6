"""A damaged bundle never opens, and verification names every difference."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from edgevit.bundle import MANIFEST, Bundle, open_bundle, read_manifest, verify_files
from edgevit.errors import BundleError, InputError
from edgevit.files import staged_directory

MODEL = "openvino-int8/model.bin"


def refusal(root: Path, check: str = "sizes") -> str:
    with pytest.raises((BundleError, InputError)) as caught:
        open_bundle(root, check=check)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)
    return str(caught.value)


def swap_bytes(path: Path) -> None:
    """Another content of the same size."""
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


def test_an_intact_bundle_opens_and_verifies(bundle_root: Path) -> None:
    for check in ("manifest", "sizes", "hashes"):
        bundle = open_bundle(bundle_root, check=check)  # type: ignore[arg-type]
        assert bundle.manifest == read_manifest(bundle_root / MANIFEST)
    assert verify_files(bundle) == ()
    assert open_bundle(str(bundle_root)) == bundle


def test_what_is_no_bundle_says_what_is_there(tmp_path: Path) -> None:
    assert "found nothing" in refusal(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    assert "found a file" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "the directory is empty" in refusal(tmp_path / "empty")
    (tmp_path / "photos" / "cats").mkdir(parents=True)
    for number in range(5):
        (tmp_path / "photos" / f"{number}.jpg").write_text("x")
    assert "found '0.jpg', '1.jpg', '2.jpg', '3.jpg' and 2 more" in refusal(tmp_path / "photos")
    assert "cannot be read" in refusal(tmp_path / ("x" * 300))


def test_a_missing_file(bundle_root: Path) -> None:
    (bundle_root / MODEL).unlink()
    assert f"{MODEL!r} is missing" in refusal(bundle_root)
    bundle = open_bundle(bundle_root, check="manifest")
    assert [(problem.path, problem.kind) for problem in verify_files(bundle)] == [(MODEL, "missing")]


def test_a_missing_directory_names_the_first_file_and_counts_the_rest(bundle_root: Path) -> None:
    shutil.rmtree(bundle_root / "openvino-int8")
    (bundle_root / "openvino-int8").write_text("a file now")
    assert "(and 1 more)" in refusal(bundle_root)


def test_a_wrong_size(bundle_root: Path) -> None:
    with (bundle_root / MODEL).open("ab") as file:
        file.write(b"!")
    message = refusal(bundle_root)
    assert f"{MODEL!r} has the wrong size: expected 22 bytes, found 23 bytes" in message


def test_a_wrong_checksum_names_file_expected_and_found(bundle_root: Path) -> None:
    listed = {file.path: file for build in open_bundle(bundle_root).manifest.builds for file in build.files}[MODEL]
    swap_bytes(bundle_root / MODEL)
    open_bundle(bundle_root, check="sizes")
    message = refusal(bundle_root, "hashes")
    assert f"{MODEL!r} has the wrong SHA-256: expected {listed.sha256}, found " in message
    (problem,) = verify_files(open_bundle(bundle_root))
    assert (problem.kind, problem.expected) == ("wrong hash", listed.sha256)
    assert problem.message in message


def test_unlisted_files_and_links_are_reported_and_left_workplaces_are_not(bundle_root: Path) -> None:
    (bundle_root / "openvino-int8" / "model.blob").write_text("x")
    (bundle_root / "openvino-int8" / "link").symlink_to(bundle_root)
    (bundle_root / ".report.json.edgevit-1-abcdefgh").mkdir()
    (bundle_root / ".report.json.edgevit-1-abcdefgh" / "new").write_text("x")
    problems = verify_files(open_bundle(bundle_root, check="hashes"))
    assert [(problem.path, problem.kind) for problem in problems] == [
        ("openvino-int8/link", "unlisted"),
        ("openvino-int8/model.blob", "unlisted"),
    ]


def test_a_link_that_leads_out_is_refused_even_to_the_right_content(bundle_root: Path, tmp_path: Path) -> None:
    shutil.move(bundle_root / MODEL, tmp_path / "elsewhere.bin")
    (bundle_root / MODEL).symlink_to(tmp_path / "elsewhere.bin")
    assert f"{MODEL!r} leads out of the bundle" in refusal(bundle_root)
    assert [problem.kind for problem in verify_files(open_bundle(bundle_root, check="manifest"))] == ["outside"]


def test_a_manifest_that_is_a_link_out_is_not_read(bundle_root: Path, tmp_path: Path) -> None:
    shutil.move(bundle_root / MANIFEST, tmp_path / "elsewhere.json")
    (bundle_root / MANIFEST).symlink_to(tmp_path / "elsewhere.json")
    assert "link that leads out" in refusal(bundle_root)


def test_a_pipe_in_place_of_a_file_is_not_opened(bundle_root: Path) -> None:
    (bundle_root / MODEL).unlink()
    os.mkfifo(bundle_root / MODEL)
    assert "cannot be read" in refusal(bundle_root, "hashes")


def test_a_path_out_in_a_manifest_made_by_hand_is_a_problem_too(bundle_root: Path) -> None:
    manifest = read_manifest(bundle_root / MANIFEST)
    outside = msgspec.structs.replace(manifest.files[0], path="../secret")
    bundle = Bundle(root=bundle_root, manifest=msgspec.structs.replace(manifest, files=(outside,)))
    assert ("../secret", "outside") in [(problem.path, problem.kind) for problem in verify_files(bundle)]


def test_builds_are_found_by_target_precision_or_name(bundle_root: Path) -> None:
    bundle = open_bundle(bundle_root)
    assert [build.name for build in bundle.builds("openvino")] == ["openvino-float32", "openvino-int8"]
    assert [build.name for build in bundle.builds("openvino:int8")] == ["openvino-int8"]
    assert bundle.builds("openvino-int8") == bundle.builds("openvino:int8")
    assert len(bundle.builds()) == 3
    assert bundle.directory(bundle.builds("openvino:int8")[0]) == bundle_root / "openvino-int8"


def test_an_unknown_build_lists_the_choices(bundle_root: Path) -> None:
    with pytest.raises(InputError, match=r"'tensorrt'.*openvino:float32, openvino:int8, onnxruntime:int8"):
        open_bundle(bundle_root).builds("tensorrt")


HALF = """
import os, signal, sys
from pathlib import Path
from edgevit.bundle import open_bundle, write_manifest
from edgevit.files import staged_directory

source = open_bundle(sys.argv[1])
with staged_directory(Path(sys.argv[2])) as stage:
    for build in source.manifest.builds:
        (stage / build.name).mkdir()
    write_manifest(stage, source.manifest)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_in_the_middle_of_an_export_leaves_nothing_that_loads(bundle_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "fresh" / "out"
    killed = subprocess.run([sys.executable, "-c", HALF, str(bundle_root), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert "found nothing" in refusal(out)
    left = [path for path in out.parent.rglob("*") if path.is_dir()]
    assert left
    for path in left:
        refusal(path)
    with staged_directory(out) as stage:
        shutil.copytree(bundle_root, stage, dirs_exist_ok=True)
    assert verify_files(open_bundle(out)) == ()
    assert [path.name for path in out.parent.iterdir()] == ["out"]
