"""`model.pt2`: a torch.export archive, and every way in which one could run code."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, open_source
from edgevit.types import FloatModel, ImagePreprocess, OnnxModel

OPTIONS = SourceOptions(
    task="image-classification", preprocess=ImagePreprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
)


@pytest.fixture(scope="module")
def archive(make_vit: Callable[..., FloatModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, exported for 1 to 4 images."""
    path = tmp_path_factory.mktemp("pt2") / "tiny.pt2"
    batch = torch.export.Dim("batch", min=1, max=4)
    program = torch.export.export(make_vit().module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)
    return path


def rewritten(archive: Path, out: Path, change: Callable[[str, bytes], bytes | None], **added: bytes) -> Path:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w") as target:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                target.writestr(name, content)
        root = source.namelist()[0].partition("/")[0]
        for name, content in added.items():
            target.writestr(f"{root}/{name.replace('__', '/')}", content)
    return out


def test_an_archive_becomes_the_model_it_was(
    archive: Path,
    make_vit: Callable[..., FloatModel],
    lower_model: Callable[..., OnnxModel],
    tmp_path: Path,
) -> None:
    from edgevit.graph import storage
    from edgevit.graph.layers import quantizable_layers
    from edgevit.graph.lower import check_against_torch

    model = open_source(str(archive), options=OPTIONS)
    original = make_vit()
    pixels = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model.module(pixels), original.module(pixels))
    assert model.signature == original.signature
    assert model.labels == tuple("0123456789")
    onnx = lower_model(model, tmp_path / "model.onnx")
    assert min(check_against_torch(model, onnx).values()) > 80
    layers = {layer.name for layer in quantizable_layers(storage.load(onnx.path))}
    assert layers == {name for name, value in original.module.named_parameters() if value.ndim in (2, 4)}


def test_what_the_archive_does_not_say_must_be_given(archive: Path) -> None:
    with pytest.raises(InputError, match="give --task image-classification"):
        open_source(str(archive))
    with pytest.raises(InputError, match="expected preprocessing for"):
        open_source(str(archive), options=SourceOptions(task="image-classification"))
    wrong = ImagePreprocess(size=(24, 32), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="expected preprocessing to 3 x 32 x 32 .* found 3 x 24 x 32"):
        open_source(str(archive), options=SourceOptions(task="image-classification", preprocess=wrong))


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (print, ("the bomb went off",))


def pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save(Bomb(), buffer)
    return buffer.getvalue()


def in_model(old: str, new: str) -> Callable[[str, bytes], bytes]:
    def change(name: str, content: bytes) -> bytes:
        if "/models/" not in name:
            return content
        changed, count = re.subn(old.encode(), lambda _: json.dumps(new)[1:-1].encode(), content)
        assert count
        return changed

    return change


def as_constant(kind: str, use_pickle: bool) -> Callable[[str, bytes], bytes]:
    entry = {"path_name": kind, "is_param": False, "use_pickle": use_pickle, "tensor_meta": None}
    config = json.dumps({"config": {"bomb": entry}}).encode()
    return lambda name, content: config if name.endswith("constants_config.json") else content


def keep(name: str, content: bytes) -> bytes:
    return content


def with_sample_inputs(name: str, content: bytes) -> bytes:
    return pickled() if "/sample_inputs/" in name else content


ATTACKS: dict[str, tuple[Callable[[str, bytes], bytes | None], dict[str, bytes], str]] = {
    "sample inputs": (with_sample_inputs, {}, "a pickle that is more than tensors"),
    "a pickled constant": (
        as_constant("tensor_0", use_pickle=True),
        {"data__constants__tensor_0": pickled()},
        "a pickle that is more than tensors",
    ),
    "an object": (
        as_constant("opaque_obj_0", use_pickle=True),
        {"data__constants__opaque_obj_0": pickle.dumps(Bomb())},
        "a pickled object",
    ),
    "compiled code": (keep, {"data__aotinductor__model__x.so": b"\x7fELF"}, "compiled code"),
    "a dimension": (
        in_model(r"Symbol\('s\d+', [^\"]*\)", "print('the bomb went off')"),
        {},
        "a dimension that is no arithmetic",
    ),
    "an operator": (in_model(r"torch\.ops\.aten\.layer_norm\.default", "torch.os.system"), {}, "none of torch's"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_archive_that_could_run_code_is_not_loaded(
    attack: str, archive: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change, added, words = ATTACKS[attack]
    path = rewritten(archive, tmp_path / "attack.pt2", change, **added)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_source(str(path), options=OPTIONS)
    assert "\n" not in str(caught.value)
    assert "bomb" not in capfd.readouterr().out


def test_two_entries_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.pt2"
    path.write_bytes(archive.read_bytes())
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr(next(name for name in file.namelist() if "/models/" in name), b"{}")
    with pytest.raises(CheckpointError, match="two entries of one name"):
        open_source(str(path), options=OPTIONS)


def test_what_is_no_archive_is_one_line(archive: Path, tmp_path: Path) -> None:
    content = archive.read_bytes()
    cases = {"cut.pt2": content[: len(content) // 2], "text.pt2": b"hello", "empty.pt2": b""}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CheckpointError, match="damaged or foreign"):
            open_source(str(tmp_path / name), options=OPTIONS)
    with pytest.raises(CheckpointError, match="found none; check the path"):
        open_source(str(tmp_path / "gone.pt2"), options=OPTIONS)
    with zipfile.ZipFile(tmp_path / "other.pt2", "w") as file:
        file.writestr("a/b", b"")
    with pytest.raises(CheckpointError, match="without models/"):
        open_source(str(tmp_path / "other.pt2"), options=OPTIONS)
    without = rewritten(archive, tmp_path / "w.pt2", lambda name, data: None if name.endswith("weight_3") else data)
    with pytest.raises(CheckpointError, match="expected 'weight_3' in"):
        open_source(str(without), options=OPTIONS)
