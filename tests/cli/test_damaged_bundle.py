"""A bundle that is not what its manifest says, through every command that opens one: one line, and no result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

Command = Callable[..., Any]


def edited(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def flipped(bundle: Path) -> None:
    """One bit of a weights file; the size stays what it was."""
    path = bundle / "openvino-int8" / "model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncated(bundle: Path) -> None:
    os.truncate(bundle / "onnxruntime-int8" / "model.onnx", 1000)


def missing(bundle: Path) -> None:
    (bundle / "openvino-int8" / "model.xml").unlink()


def future(bundle: Path) -> None:
    edited(bundle, lambda manifest: manifest.update(schema=99))


def escaping(bundle: Path) -> None:
    edited(bundle, lambda manifest: manifest["builds"][0]["files"][0].update(path="openvino-float32/../../secret"))


def linked(bundle: Path) -> None:
    target = bundle.parent / "elsewhere.xml"
    (bundle / "openvino-int8" / "model.xml").rename(target)
    (bundle / "openvino-int8" / "model.xml").symlink_to(target)


def not_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{ this is no JSON")


def unknown_key(bundle: Path) -> None:
    edited(bundle, lambda manifest: manifest.update(surprise=1))


def without_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


DAMAGE = [
    (flipped, "has the wrong SHA-256"),
    (truncated, "has the wrong size"),
    (missing, "'openvino-int8/model.xml' is missing"),
    (future, "has schema version 99, this edgevit reads up to version 1"),
    (escaping, "stays inside its directory"),
    (linked, "leads out of"),
    (not_json, "is not valid JSON"),
    (unknown_key, "surprise"),
    (without_manifest, "is not a bundle: expected manifest.json in it"),
]


@pytest.mark.parametrize("command", ["verify", "run", "bench", "parity"])
@pytest.mark.parametrize(("damage", "expected"), DAMAGE, ids=lambda value: getattr(value, "__name__", ""))
def test_every_command_refuses(
    inside: Command,
    digits: Any,
    tmp_path: Path,
    repository: Path,
    command: str,
    damage: Callable[[Path], None],
    expected: str,
) -> None:
    damage(digits.copy(tmp_path / "out"))
    image = [next((repository / "calibration" / "samples").glob("*.png"))] if command == "run" else []
    result = inside(command, tmp_path / "out", *image)
    assert result.status == 1
    assert "Traceback" not in result.err
    if command == "verify" and damage in (flipped, truncated, missing, linked):
        # Verification lists what is wrong with the files; that is its result and no error.
        assert result.err == ""
        assert expected in result.out and "not to be used" in result.out
        found = json.loads(inside("verify", tmp_path / "out", "--json").out)
        assert len(found["problems"]) == 1 and expected in found["problems"][0]
    else:
        assert result.out == ""
        assert expected in result.complaint
        assert len(result.err.splitlines()) == 1


def test_a_file_too_many_is_reported(inside: Command, digits: Any, tmp_path: Path) -> None:
    (digits.copy(tmp_path / "out") / "openvino-int8" / "extra.xml").touch()
    result = inside("verify", tmp_path / "out")
    assert result.status == 1
    assert "'openvino-int8/extra.xml' is not listed in the manifest" in result.out


@pytest.mark.parametrize("command", ["verify", "bench", "parity", "inspect"])
def test_nothing_there(inside: Command, tmp_path: Path, command: str) -> None:
    result = inside(command, tmp_path / "nothing")
    assert (result.status, result.out) == (2, "")
    assert "found nothing" in result.complaint


def test_golden_outputs_that_no_build_gives(inside: Command, digits: Any, tmp_path: Path) -> None:
    """The files are whole, but the builds compute something else than the reference did."""
    from edgevit.bundle import describe_file, read_golden, read_manifest, write_golden, write_manifest

    bundle = digits.copy(tmp_path / "out")
    inputs, outputs = read_golden(bundle / "golden.npz")
    write_golden(bundle / "golden.npz", inputs, {name: np.roll(values, 1, 1) for name, values in outputs.items()})
    manifest = read_manifest(bundle / "manifest.json")
    files = tuple(describe_file(bundle, bundle / file.path) for file in manifest.files)
    write_manifest(bundle, msgspec.structs.replace(manifest, files=files))
    result = inside("verify", bundle)
    assert result.status == 1
    assert "openvino-float32: failed" in result.out and "dB on the golden inputs, found" in result.out


@pytest.mark.parametrize("content", [b"", b"no archive", "cut", "short"])
def test_reference_outputs_that_cannot_be_read(
    inside: Command, digits: Any, tmp_path: Path, content: bytes | str
) -> None:
    """A manifest that vouches for a damaged file: what is in it is still only data."""
    bundle = digits.copy(tmp_path / "out")
    reference = bundle / "reference.npz"
    if content == "cut":
        reference.write_bytes(reference.read_bytes()[:-100])
    elif content == "short":
        np.savez(reference, logits=np.zeros((3, 10), np.float32))
    else:
        reference.write_bytes(content)  # type: ignore[arg-type]

    def vouch(manifest: dict[str, Any]) -> None:
        for file in manifest["files"]:
            if file["path"] == "reference.npz":
                data = reference.read_bytes()
                file.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())

    edited(bundle, vouch)
    result = inside("parity", bundle)
    assert result.status == 1
    assert "reference.npz" in result.complaint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["parity", "--target", "openvino:float16"], "expected one of: openvino:float32, openvino:int8"),
        (["parity", "--evaluation", "no-such-folder"], "found nothing there; check the path"),
        (["parity", "--evaluation", "zoo:nothing"], "expected one of zoo:digits-vit:calibration"),
        (["bench", "--target", "abacus"], "choose one of these"),
        (["bench", "--threads", "0"], "expected threads of at least 1"),
        (["bench", "--rounds", "0"], "expected rounds of at least 1"),
        (["bench", "--seconds", "-1"], "expected seconds above 0"),
        (["bench", "--compare", "pyproject.toml"], "expected the --json output of an earlier edgevit bench"),
        (["bench", "--compare", "no-such.json"], "which cannot be read: No such file or directory"),
        (["run", "no-such.png"], "no-such.png: expected an image file, found nothing there"),
        (["run", "pyproject.toml"], "pyproject.toml: expected an image"),
        (["run", "calibration"], "calibration"),
        (["run", "calibration/samples/0-digit-1258.png", "-t", "abacus"], "no build 'abacus' in the bundle"),
    ],
)
def test_wrong_arguments_for_a_good_bundle(
    inside: Command, digits: Any, monkeypatch: pytest.MonkeyPatch, repository: Path, arguments: list[str], expected: str
) -> None:
    monkeypatch.chdir(repository)
    result = inside(arguments[0], digits.bundle, *arguments[1:])
    assert (result.status, result.out) == (2, "")
    assert expected in result.complaint
