"""`package.module:factory`: the user's own Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, load_factory
from edgevit.types import ImagePreprocess

OPTIONS = SourceOptions(preprocess=ImagePreprocess(size=(8, 6), mean=(0.5,) * 3, std=(0.5,) * 3))

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, out=4):
        super().__init__()
        self.head = nn.Linear(3 * 8 * 6, out)
    def forward(self, x):
        return self.head(x.flatten(1))

def net(): return Net()
def half(): return Net().half()
def number(): return 3
def broken(): raise RuntimeError("no weights\\nhere")
def missing(): import a_module_that_is_not_there
def pair():
    class Pair(Net):
        def forward(self, x): return x, x
    return Pair()
def flat():
    class Flat(Net):
        def forward(self, x): return self.head(x.flatten(1)).flatten()
    return Flat()
def picky():
    class Picky(Net):
        def forward(self, x): return self.head(x)
    return Picky()
value = 3
"""


@pytest.fixture
def module_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package in the current directory, as `edgevit export mine.net:net` would meet it."""
    (tmp_path / "mine_pkg").mkdir()
    (tmp_path / "mine_pkg" / "__init__.py").touch()
    (tmp_path / "mine_pkg" / "net.py").write_text(CODE)
    (tmp_path / "mine_pkg" / "fails.py").write_text("raise ValueError('at import')")
    monkeypatch.chdir(tmp_path)
    yield "mine_pkg.net"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine_pkg"]:
        del sys.modules[name]


def test_a_factory_becomes_a_float_model(module_name: str) -> None:
    before = list(sys.path)
    model = load_factory(f"{module_name}:net", None, OPTIONS)
    assert sys.path == before
    assert model.signature.inputs[0].shape == ("batch", 3, 8, 6)
    assert model.signature.outputs[0].shape == ("batch", 4)
    assert (model.labels, model.depth, model.preprocess) == (tuple("0123"), None, OPTIONS.preprocess)
    assert not model.module.training


def test_weights_are_put_in_and_must_fit(module_name: str, tmp_path: Path) -> None:
    state = {"head.weight": torch.full((4, 144), 0.25), "head.bias": torch.arange(4.0)}
    save_file(state, tmp_path / "w.safetensors")
    model = load_factory(f"{module_name}:half", tmp_path / "w.safetensors", OPTIONS)
    assert torch.equal(model.module(torch.zeros(1, 3, 8, 6)), torch.arange(4.0)[None])
    save_file({"head.weight": state["head.weight"]}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"1 missing \(head.bias\)"):
        load_factory(f"{module_name}:net", tmp_path / "w.safetensors", OPTIONS)


def test_preprocessing_is_needed(module_name: str) -> None:
    with pytest.raises(InputError, match="expected preprocessing for .*net:net, found none"):
        load_factory(f"{module_name}:net", None)


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("mine_pkg.gone:net", "expected a Python module 'mine_pkg.gone'"),
        ("not_there_at_all:net", "expected a Python module 'not_there_at_all'"),
        ("mine_pkg.fails:net", "raised ValueError: at import"),
        ("mine_pkg.net:gone", "found nothing of that name"),
        ("mine_pkg.net:value", "found int"),
        ("mine_pkg.net:number", "to return a torch.nn.Module, found int"),
        ("mine_pkg.net:broken", "raised RuntimeError: no weights here"),
        ("mine_pkg.net:missing", "No module named 'a_module_that_is_not_there'"),
        ("mine_pkg.net:pair", r"class scores \(batch, classes\) for a batch of 2, found tuple"),
        ("mine_pkg.net:flat", r"found shape \(8,\)"),
        ("mine_pkg.net:picky", r"to take a batch of \(3, 8, 6\) images, found that it raised RuntimeError"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(module_name: str, factory: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        load_factory(factory, None, OPTIONS)
    assert "\n" not in str(caught.value)
