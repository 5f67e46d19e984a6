"""Checkpoint files, good and bad."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from edgevit.errors import CheckpointError, UnavailableError
from edgevit.sources import Checkpoint, fit_state_dict, load_state_dict

STATE = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.tensor([0.5, -0.5])}


class Runs:
    """An object whose unpickling would create a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


def assert_state(checkpoint: Checkpoint) -> None:
    assert checkpoint.state.keys() == STATE.keys()
    for name, value in STATE.items():
        assert checkpoint.state[name].dtype == torch.float32
        assert torch.equal(checkpoint.state[name], value)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_state_dict(path)
    message = str(caught.value)
    assert message.startswith("expected ") and "found" in message, "what was expected and what was found"
    assert str(path.parent) in message and "; " in message, "where, and what to do next"
    assert "\n" not in message
    return message


def test_safetensors(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    checkpoint = load_state_dict(tmp_path / "model.safetensors")
    assert_state(checkpoint)
    assert checkpoint.notes == ()


def test_a_safetensors_header_that_begins_like_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    lengths = set()
    for padding in range(80):
        save_file({"w": torch.ones(3)}, path, metadata={"pad": " " * padding})
        lengths.add(path.read_bytes()[0])
        assert torch.equal(load_state_dict(path).state["w"], torch.ones(3))
    assert 0x80 in lengths


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin", "checkpoint.pth.tar"])
def test_torch_save(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert_state(load_state_dict(tmp_path / name))


def write_shards(folder: Path, places: dict[str, str]) -> Path:
    for shard in set(places.values()):
        part = {name: STATE[name] for name, place in places.items() if place == shard and name in STATE}
        save_file(part, folder / Path(shard).name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": places}))
    return index


def test_sharded_safetensors(tmp_path: Path) -> None:
    assert_state(
        load_state_dict(write_shards(tmp_path, {"layer.weight": "a.safetensors", "layer.bias": "b.safetensors"}))
    )


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"layer.weight": "../a.safetensors"}, "outside its directory"),
        ({"layer.weight": "/a.safetensors"}, "outside its directory"),
        ({"layer.weight": "..\\a.safetensors"}, "outside its directory"),
        (
            {"layer.weight": "a.safetensors", "gone": "a.safetensors"},
            r"1 parameters that its files do not hold \(gone\)",
        ),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, places: dict[str, str], words: str) -> None:
    index = write_shards(tmp_path, places)
    with pytest.raises(CheckpointError, match=words):
        load_state_dict(index)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": [1]}'])
def test_an_index_without_a_map_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    assert "without a 'weight_map'" in refusal(path)


def test_a_missing_or_foreign_shard_is_named(tmp_path: Path) -> None:
    index = write_shards(tmp_path, {"layer.weight": "a.safetensors", "layer.bias": "b.safetensors"})
    (tmp_path / "b.safetensors").unlink()
    assert "b.safetensors" in refusal(index)
    torch.save(STATE, tmp_path / "b.safetensors")
    assert "a shard that is not safetensors" in refusal(index)


@pytest.mark.parametrize(
    ("wrapped", "notes"),
    [
        ({"model": STATE}, ["took the parameters under 'model'"]),
        ({"state_dict": STATE, "epoch": 3}, ["took the parameters under 'state_dict', left epoch"]),
        ({"model_state": STATE}, ["took the parameters under 'model_state'"]),
        ({"model": {}, "model_ema": STATE}, ["took the parameters under 'model_ema', left model"]),
        (
            {"state_dict": {name: value + 1 for name, value in STATE.items()}, "state_dict_ema": STATE},
            ["took the parameters under 'state_dict_ema', left state_dict"],
        ),
        (
            {"module." + name: value for name, value in STATE.items()},
            ["took the prefix 'module.' off every parameter's name"],
        ),
        (
            {"state_dict": {"model.module." + name: value for name, value in STATE.items()}},
            [
                "took the parameters under 'state_dict'",
                "took the prefix 'model.' off every parameter's name",
                "took the prefix 'module.' off every parameter's name",
            ],
        ),
        (
            {"model": STATE, "args": argparse.Namespace(lr=0.1), "optimizer": {"state": {0: {"step": 1}}}},
            ["took the parameters under 'model', left args, optimizer"],
        ),
    ],
)
def test_wrappers_and_prefixes_are_taken_off_and_noted(tmp_path: Path, wrapped: object, notes: list[str]) -> None:
    torch.save(wrapped, tmp_path / "model.pth")
    checkpoint = load_state_dict(tmp_path / "model.pth")
    assert_state(checkpoint)
    assert list(checkpoint.notes) == notes


def test_a_prefix_that_only_some_names_have_is_part_of_the_name(tmp_path: Path) -> None:
    state = {"model.weight": torch.ones(1), "head.weight": torch.ones(1)}
    torch.save(state, tmp_path / "model.pth")
    assert load_state_dict(tmp_path / "model.pth").state.keys() == state.keys()


def test_half_precision_becomes_float32_and_integers_stay(tmp_path: Path) -> None:
    state = {
        "a": torch.tensor([1.5], dtype=torch.float16),
        "b": torch.tensor([2.5], dtype=torch.bfloat16),
        "count": torch.tensor(7),
    }
    save_file(state, tmp_path / "model.safetensors")
    checkpoint = load_state_dict(tmp_path / "model.safetensors")
    assert {name: value.dtype for name, value in checkpoint.state.items()} == {
        "a": torch.float32,
        "b": torch.float32,
        "count": torch.int64,
    }
    assert (checkpoint.state["a"].item(), checkpoint.state["b"].item()) == (1.5, 2.5)
    assert checkpoint.notes == ("turned bfloat16, float16 parameters to float32",)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "trace"
    torch.save({"model": STATE, "extra": Runs(trace)}, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    message = refusal(tmp_path / "model.pth")
    assert f"calls {os.system.__module__}.system" in message and "not run" in message
    assert not trace.exists()


def test_a_plain_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    (tmp_path / "model.pth").write_bytes(pickle.dumps(Runs(trace)))
    assert "could run code" in refusal(tmp_path / "model.pth")
    assert not trace.exists()


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 2), tmp_path / "model.pth")
    assert "calls torch.nn.modules.linear.Linear" in refusal(tmp_path / "model.pth")


def write_foreign(path: Path, kind: str) -> None:
    linear, example = nn.Linear(3, 2), (torch.ones(2, 3),)
    if kind == "text":
        path.write_text("lr = 0.1\n" * 20)
    elif kind == "git lfs":
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    elif kind == "web page":
        path.write_text("\n<!DOCTYPE html><html><body>404</body></html>")
    elif kind == "onnx":
        import onnx

        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], []), producer_name="maker"), path)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes/readme.txt", "hello")
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, a=np.ones(2))
    elif kind == "torchscript":
        torch.jit.save(torch.jit.trace(linear, example), path)
    elif kind == "exported program":
        torch.export.save(torch.export.export(linear, example), str(path))
    elif kind == "noise":
        path.write_bytes(bytes([250, 251, 0, 1]) * 64)
    elif kind == "hdf5":
        path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64))
    else:
        assert kind == "directory"
        path.mkdir()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "found a text file"),
        ("git lfs", "git lfs pull"),
        ("web page", "a web page"),
        ("onnx", "an ONNX model"),
        ("zip", "a ZIP archive that torch.save did not write"),
        ("npz", "a NumPy .npz archive"),
        ("torchscript", "a TorchScript archive"),
        ("exported program", "a program saved by torch.export"),
        ("hdf5", "an HDF5 file"),
        ("noise", "a file of an unknown kind"),
        ("directory", "a directory"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_foreign_file_is_named(tmp_path: Path, kind: str, words: str, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    write_foreign(path, kind)
    assert words in refusal(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    assert "found no file at" in refusal(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors", "model.safetensors.index.json"])
def test_an_empty_file_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "an empty file" in refusal(tmp_path / name)


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
@pytest.mark.parametrize("share", [0.002, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_says_so(tmp_path: Path, kind: str, share: float) -> None:
    state = {"a": torch.ones(500), "b": torch.ones(500)}
    path = tmp_path / "model.bin"
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(len(whole) * share))])
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "a dictionary with nothing"),
        ({"epoch": 3, "lr": 0.1}, r"a dictionary with 2 entries (epoch, lr) and no state dict"),
        ([torch.ones(1)], "one object of type list"),
        (torch.ones(1), "one object of type Tensor"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "a parameter 'a' of the kind complex64"),
        ({"a": torch.ones(2, 2).to_sparse()}, "of the kind float32 sparse_coo"),
    ],
)
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, found: object, words: str) -> None:
    torch.save(found, tmp_path / "model.pth")
    assert words in refusal(tmp_path / "model.pth")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_damaged_file_loads_or_is_refused_and_nothing_else(tmp_path: Path, kind: str) -> None:
    path, random = tmp_path / "model.bin", np.random.default_rng(0)
    if kind == "safetensors":
        save_file(STATE, path)
    else:
        torch.save({"model": STATE, "epoch": 3}, path, _use_new_zipfile_serialization=kind == "zip")
    whole, refused = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(min(len(whole), 700), size=2):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        try:
            load_state_dict(path)
        except CheckpointError:
            refused += 1
    assert 10 < refused < 150


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)


def misfit(state: dict[str, torch.Tensor]) -> str:
    module = Tiny()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        fit_state_dict(module, Checkpoint(state=state), Path("weights.pth"))
    after = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before), "a refused checkpoint changes nothing"
    assert "weights.pth" in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_fitting_state_dict_is_taken_whole_also_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = Tiny()
    fit_state_dict(module, Checkpoint(state=STATE), Path("weights.pth"))
    assert torch.equal(module.layer.weight, STATE["layer.weight"])
    assert torch.equal(module.layer(torch.ones(1, 3)), torch.tensor([[3.5, 11.5]]))


def test_misfits_are_all_named() -> None:
    message = misfit({"layer.weight": torch.ones(3, 2), "extra": torch.ones(1)})
    assert "1 missing (layer.bias)" in message
    assert "1 unexpected (extra)" in message
    assert "1 of another shape (layer.weight: expected (2, 3), found (3, 2))" in message


def test_many_misfits_are_counted() -> None:
    message = misfit({**STATE, **{f"extra{i}": torch.ones(1) for i in range(9)}})
    assert "9 unexpected (extra0, extra1, extra2, extra3, extra4, …)" in message


def test_integers_do_not_pass_for_weights() -> None:
    assert "found (2) int64" in misfit({**STATE, "layer.bias": torch.tensor([1, 2])})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    assert "1 parameters (layer.bias)" in misfit({**STATE, "layer.bias": torch.tensor([0.0, value])})


def test_without_safetensors_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(UnavailableError, match=r"edgevit\[export\]"):
        load_state_dict(tmp_path / "model.safetensors")
