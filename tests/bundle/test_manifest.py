"""A manifest says the same after a round trip, and what is wrong with it is said in one line with its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from edgevit.bundle import (
    MANIFEST,
    SCHEMA,
    Manifest,
    describe_directory,
    describe_file,
    open_bundle,
    read_manifest,
    verify_files,
    write_manifest,
)
from edgevit.errors import BundleError
from edgevit.files import sha256
from edgevit.types import BuildPart, Generation, TextPreprocess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Changes the JSON of a manifest as its text, without any check."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_round_trip(bundle_root: Path) -> None:
    path = bundle_root / MANIFEST
    manifest = read_manifest(path)
    before = path.read_bytes()
    write_manifest(bundle_root, manifest)
    assert path.read_bytes() == before
    assert manifest.schema == SCHEMA
    assert [build.name for build in manifest.builds] == ["openvino-float32", "openvino-int8", "onnxruntime-int8"]
    assert manifest.preprocess.size == (4, 4)
    assert manifest.signature.inputs[0].shape == ("batch", 1, 4, 4)
    assert manifest.calibration is not None
    assert manifest.calibration.samples == 64


def test_it_is_readable_text_that_ends_with_a_newline(bundle_root: Path) -> None:
    text = (bundle_root / MANIFEST).read_text()
    assert text.endswith("}\n")
    assert '\n  "model": "tiny",\n' in text


def test_files_are_described_by_relative_path_size_and_digest(bundle_root: Path) -> None:
    described = describe_directory(bundle_root, bundle_root / "openvino-int8")
    assert [file.path for file in described] == ["openvino-int8/model.bin", "openvino-int8/nested/weights.bin"]
    assert described[0].size == len("model of openvino-int8")
    assert described[0].sha256 == sha256(bundle_root / "openvino-int8" / "model.bin")


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "line 1, column 1"),
        (b'{"schema": 1,\n  "model"', "line 2, column 10"),
        (b'{"schema": 1,\n  oops}', "line 2, column 3"),
        (b"\xff\xfe", "line 1, column 1"),
        (b'{"schema": 1, "\xff": 2}', "not valid JSON"),
        (b'{"deep": ' + b"[" * 200_000, "not valid JSON"),
    ],
)
def test_what_is_not_json_names_its_position(tmp_path: Path, data: bytes, place: str) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    assert place in refusal(tmp_path / MANIFEST)


@pytest.mark.parametrize("data", [b"null", b"[]", b"{}", b'{"name": "package.json of something else"}'])
def test_json_of_another_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    assert "no manifest of edgevit" in refusal(tmp_path / MANIFEST)


def test_a_version_from_the_future_says_upgrade_whatever_else_it_holds(bundle_root: Path) -> None:
    path = edit(bundle_root / MANIFEST, lambda content: content.update(schema=SCHEMA + 1, novelty={"a": 1}))
    message = refusal(path)
    assert f"schema version {SCHEMA + 1}" in message
    assert "pip install --upgrade edgevit" in message
    assert "schema version 0" in refusal(edit(path, lambda content: content.update(schema=0)))


def test_an_unknown_field_is_named_with_its_place(bundle_root: Path) -> None:
    path = edit(bundle_root / MANIFEST, lambda content: content["builds"][1].update(speed=3))
    message = refusal(path)
    assert "speed" in message
    assert "$.builds[1]" in message


def test_a_wrong_type_is_named_with_its_place(bundle_root: Path) -> None:
    path = edit(bundle_root / MANIFEST, lambda content: content["builds"][0]["files"][0].update(size="big"))
    assert "Expected `int`, got `str` - at `$.builds[0].files[0].size`" in refusal(path)


def test_foreign_text_cannot_break_the_line(bundle_root: Path) -> None:
    path = edit(bundle_root / MANIFEST, lambda content: content.update({"a\nb" + "c" * 10_000: 1}))
    assert len(refusal(path)) < 1000


@pytest.mark.parametrize("bad", ["../secret", "/etc/passwd", "C:\\x", "openvino-int8/../../x", "a\\b", ""])
def test_a_path_out_of_the_bundle_is_refused_at_reading(bundle_root: Path, bad: str) -> None:
    path = edit(bundle_root / MANIFEST, lambda content: content["files"][0].update(path=bad))
    assert "stays inside its directory" in refusal(path)


def test_a_build_cannot_be_a_directory_elsewhere(bundle_root: Path) -> None:
    original = (bundle_root / MANIFEST).read_text()
    for target in ("..", "../evil", "a/b", "/abs"):
        (bundle_root / MANIFEST).write_text(original)
        edit(bundle_root / MANIFEST, lambda content, target=target: content["builds"][0].update(target=target))
        refusal(bundle_root / MANIFEST)


def test_a_build_lists_only_files_below_its_own_directory(bundle_root: Path) -> None:
    def point_elsewhere(content: dict[str, Any]) -> None:
        content["builds"][0]["files"][0]["path"] = "plan.toml"

    message = refusal(edit(bundle_root / MANIFEST, point_elsewhere))
    assert "expected a path below 'openvino-float32/'" in message


def test_nothing_is_listed_twice(bundle_root: Path) -> None:
    original = (bundle_root / MANIFEST).read_text()
    assert "twice" in refusal(
        edit(bundle_root / MANIFEST, lambda content: content["builds"].append(content["builds"][0]))
    )
    (bundle_root / MANIFEST).write_text(original)
    assert "twice" in refusal(
        edit(bundle_root / MANIFEST, lambda content: content["files"].append(content["files"][0]))
    )


def test_writing_refuses_what_reading_would(bundle_root: Path) -> None:
    manifest = read_manifest(bundle_root / MANIFEST)
    with pytest.raises(BundleError, match="twice"):
        write_manifest(bundle_root, msgspec.structs.replace(manifest, files=manifest.files * 2))
    assert read_manifest(bundle_root / MANIFEST) == manifest


def test_a_manifest_that_is_missing_or_a_directory(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / MANIFEST)
    (tmp_path / MANIFEST).mkdir()
    assert "Is a directory" in refusal(tmp_path / MANIFEST)


def test_an_enormous_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(1 << 40)
    assert "expected a manifest of at most" in refusal(tmp_path / MANIFEST)


# ------------------------------------------------------------------------------------------- texts and parts


def of_texts(root: Path) -> Manifest:
    """The bundle's manifest as that of an encoder-decoder, with the parts' files and two tokenizers in place."""
    manifest = read_manifest(root / MANIFEST)
    files = [*manifest.files]
    for name in ("source.json", "target.json"):
        (root / name).write_text(name)
        files.append(describe_file(root, root / name))
    builds = []
    for build in manifest.builds:
        for part in ("encoder", "decoder"):
            (root / build.name / part).mkdir()
            (root / build.name / part / "model.bin").write_bytes(part.encode())
        parts = tuple(BuildPart(name=part, signature=build.signature) for part in ("encoder", "decoder"))
        own = describe_directory(root, root / build.name)
        builds.append(msgspec.structs.replace(build, parts=parts, files=own))
    spec = TextPreprocess(tokenizer="source.json", tokenizer_sha256=files[-2].sha256, max_length=8)
    loop = Generation(start_token_id=3, end_token_id=1, pad_token_id=0, max_length=9, tokenizer="target.json")
    return msgspec.structs.replace(
        manifest, preprocess=spec, generation=loop, task="translation", builds=tuple(builds), files=tuple(files)
    )


def test_texts_parts_and_generation_make_the_round_trip(bundle_root: Path) -> None:
    manifest = of_texts(bundle_root)
    write_manifest(bundle_root, manifest)
    assert read_manifest(bundle_root / MANIFEST) == manifest
    assert verify_files(open_bundle(bundle_root, check="hashes")) == ()
    (bundle_root / "source.json").write_text("Source.json")
    assert [problem.path for problem in verify_files(open_bundle(bundle_root))] == ["source.json"]


def test_a_manifest_from_before_there_were_texts_is_read(bundle_root: Path) -> None:
    before = read_manifest(bundle_root / MANIFEST)

    def forget(content: dict[str, Any]) -> None:
        del content["preprocess"]["kind"], content["generation"]
        for build in content["builds"]:
            del build["parts"]

    assert read_manifest(edit(bundle_root / MANIFEST, forget)) == before
    edit(bundle_root / MANIFEST, lambda content: content["preprocess"].update(kind="sound"))
    assert "sound" in refusal(bundle_root / MANIFEST)


@pytest.mark.parametrize("name", ["elsewhere", "../encoder", "encoder/nested", "decoder", ""])
def test_a_part_is_a_directory_of_its_build(bundle_root: Path, name: str) -> None:
    write_manifest(bundle_root, of_texts(bundle_root))
    edit(bundle_root / MANIFEST, lambda content: content["builds"][0]["parts"][0].update(name=name))
    refusal(bundle_root / MANIFEST)


def test_a_tokenizer_is_a_file_of_the_bundle_and_the_models_own(bundle_root: Path) -> None:
    manifest = of_texts(bundle_root)
    write_manifest(bundle_root, manifest)
    original = (bundle_root / MANIFEST).read_text()
    edit(bundle_root / MANIFEST, lambda content: content["generation"].update(tokenizer="absent.json"))
    assert "'absent.json', expected it among its files" in refusal(bundle_root / MANIFEST)
    (bundle_root / MANIFEST).write_text(original)
    edit(bundle_root / MANIFEST, lambda content: content["preprocess"].update(tokenizer_sha256="0" * 64))
    assert "expected the model's own tokenizer" in refusal(bundle_root / MANIFEST)
    with pytest.raises(BundleError, match="among its files"):
        write_manifest(bundle_root, msgspec.structs.replace(manifest, files=manifest.files[:-1]))
