"""Somebody else's checkpoint that is wrong: at the command line one clear line, status 2, and nothing at OUT."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

Command = Callable[..., Any]
MODEL = "mine_checkpoints"
CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 32 * 32, 5)
    def forward(self, x):
        return self.head(x.flatten(1))

class Branching(Net):
    def forward(self, x):
        if x.sum() > 0:
            return self.head(x.flatten(1))
        return self.head(-x.flatten(1))

def good(): return Net()
def raises(): raise RuntimeError("the weights are\\nelsewhere")
def number(): return 3
def branching(): return Branching()
def unlabelled(): return [__import__("numpy").full((40, 40, 3), shade, "uint8") for shade in range(6)]
"""
PREPARED = "size = [32, 32]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory: photos/ (flat), kinds/ (class folders a and z), preprocess.toml and a Python module."""
    place = tmp_path / "here"
    for folder in ("photos", "kinds/a", "kinds/z"):
        (place / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(4):
        image = Image.fromarray(random.integers(0, 255, (40, 44, 3), dtype=np.uint8))
        image.save(place / "photos" / f"{index}.png")
        image.save(place / "kinds" / "az"[index % 2] / f"{index}.png")
    (place / "preprocess.toml").write_text(PREPARED)
    (place / f"{MODEL}.py").write_text(CODE)
    monkeypatch.chdir(place)
    yield place
    sys.modules.pop(MODEL, None)


@pytest.fixture
def refused(inside: Command, tmp_path: Path, here: Path) -> Command:
    """(model, arguments …) -> what `edgevit export` complains, after the checks that hold for all."""

    def export(model: object, *arguments: object, evaluation: str = "photos") -> str:
        out = tmp_path / "out"
        how = ["-t", "onnxruntime:float32", "--no-bench", "--evaluation", evaluation]
        result = inside("export", model, out, *how, *arguments)
        assert result.status == 2, result.err
        assert result.out == ""
        assert not out.exists() and not list(tmp_path.rglob("manifest.json"))
        complaint: str = result.complaint
        return complaint

    return export


# ------------------------------------------------------------------------------------------- directories


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


DIRECTORIES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no config": ("vit", lambda d: (d / "config.json").unlink(), "a config.json, found none"),
    "remote code": ("vit", lambda d: (edit(d / "config.json", auto_map={"AutoModel": "modeling.Mine"}),
                                      (d / "modeling.py").write_text("open('ran', 'w')")),
                    "names Python code that came with the checkpoint; such code is never run"),
    "missing shard": ("sharded", lambda d: next(d.glob("model-00002*")).unlink(), "shards beside"),
    "no tokenizer": ("bert", lambda d: (d / "tokenizer.json").unlink(), "expected a tokenizer.json in"),
    "no preprocessing": ("vit", lambda d: (d / "preprocessor_config.json").unlink(), "found no preprocessor_config"),
    "other preprocessing": ("vit", lambda d: edit(d / "preprocessor_config.json", size={"height": 4, "width": 4}),
                            "as its preprocessing makes them, found"),
    "no task": ("vit", lambda d: edit(d / "config.json", architectures=["ViTForMaskedImageModeling"]), "give --task"),
}  # fmt: skip


@pytest.mark.parametrize("case", DIRECTORIES)
def test_directories(case: str, refused: Command, huggingface_directory: Callable[..., Path], here: Path) -> None:
    family, spoil, words = DIRECTORIES[case]
    save = {"max_shard_size": "20KB"} if family == "sharded" else None
    directory = huggingface_directory("vit" if family == "sharded" else family, save=save)
    spoil(directory)
    assert words in refused(directory)
    assert not (here / "ran").exists()


def test_weights_that_do_not_fit_the_task(refused: Command, huggingface_directory: Callable[..., Path]) -> None:
    assert "2 missing (classifier.bias, classifier.weight)" in refused(
        huggingface_directory("vit-features"), "--task", "image-classification"
    )


# -------------------------------------------------------------------------------------------- label maps


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": "a"}', "found none for 1 of them ('z')"),
        ('{"a": "a", "z": "zebra"}', "the model has no label 'zebra'"),
        ("[]", "expected a map of labels"),
    ],
)
def test_a_label_map_that_does_not_fit(
    content: str, words: str, refused: Command, huggingface_directory: Callable[..., Path], here: Path
) -> None:
    (here / "map.json").write_text(content)
    directory = huggingface_directory("vit")
    assert words in refused(directory, "--label-map", here / "map.json", evaluation="kinds")
    assert "give --label-map FILE" in refused(directory, evaluation="kinds")


def test_a_label_map_that_fits_comes_along(
    inside: Command, huggingface_directory: Callable[..., Path], here: Path, tmp_path: Path
) -> None:
    """What was judged with it can be judged again from the bundle alone."""
    (here / "map.csv").write_text("set,model\na,b\nz,c\n")
    how = ["-t", "onnxruntime:float32", "--no-bench", "--evaluation", here / "kinds", "--label-map", "map.csv"]
    result = inside("export", huggingface_directory("vit"), tmp_path / "out", *how)
    assert result.status == 0, result.err
    (here / "map.csv").unlink()
    result = inside("parity", tmp_path / "out", "--json")
    assert result.status == 0, result.err
    (rung,) = json.loads(result.out)["rungs"]
    assert (rung["labelled"], rung["samples"]) == (True, 4)


# -------------------------------------------------------------------------------------------------- onnx


def small(path: Path, operator: str = "Relu") -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    nodes = [helper.make_node(operator, ["x"], ["r"]), helper.make_node("GlobalAveragePool", ["r"], ["p"]),
             helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["logits"])]  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return model


def located(path: Path, place: str) -> None:
    model = small(path)
    onnx.save(model, str(path), save_as_external_data=True, location="weights.data", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = place if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())


ONNX: dict[str, tuple[Callable[[Path], object], str]] = {
    "unknown operators": (lambda path: small(path, "Frobnicate"), "expected standard ONNX operators"),
    "broken external data": (
        lambda path: (located(path, "weights.data"), (path.parent / "weights.data").write_bytes(b"")), "bytes in",
    ),
    "missing external data": (lambda path: located(path, "absent.data"), "absent.data"),
    "a path leading outside": (lambda path: located(path, "../weights.data"), "../weights.data"),
    "no model at all": (lambda path: path.write_text("hello"), "expected an ONNX file at"),
}  # fmt: skip


@pytest.mark.parametrize("case", ONNX)
def test_onnx_files(case: str, refused: Command, here: Path) -> None:
    spoil, words = ONNX[case]
    (here / "model").mkdir()
    spoil(here / "model" / "small.onnx")
    assert words in refused(here / "model" / "small.onnx", "--preprocess", "preprocess.toml")


def test_images_that_disagree_with_the_preprocessing(refused: Command, here: Path) -> None:
    small(here / "small.onnx")
    (here / "other.toml").write_text(PREPARED.replace("[32, 32]", "[16, 32]"))
    assert "found 3 x 16 x 32" in refused(here / "small.onnx", "--preprocess", "other.toml")
    np.savez(here / "set.npz", x=np.zeros((2, 3, 16, 32), np.float32))
    complaint = refused(here / "small.onnx", "--preprocess", "preprocess.toml", evaluation="set.npz")
    assert "expected prepared tensors of 3 x 32 x 32 (channels, height, width), found 3 x 16 x 32" in complaint


# --------------------------------------------------------------------------------------------- factories


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("raises", "found that it raised RuntimeError: the weights are elsewhere; correct it"),
        ("number", "to return a torch.nn.Module, found int"),
        ("absent", "found nothing of that name"),
    ],
)
def test_factories(factory: str, words: str, refused: Command) -> None:
    assert words in refused(f"{MODEL}:{factory}", "--preprocess", "preprocess.toml")


def test_a_model_that_does_not_trace_names_the_line(refused: Command) -> None:
    complaint = refused(f"{MODEL}:branching", "--preprocess", "preprocess.toml")
    assert f"{MODEL}.py:14 (if x.sum() > 0:)" in complaint
    assert "remove the branch on tensor values there, or export with a fixed batch" in complaint


def test_samples_of_python_code_are_judged_by_agreement(inside: Command, here: Path, tmp_path: Path) -> None:
    """Unlabelled samples, here of a function, still give parity, which says what it rests on."""
    how = ["-t", "onnxruntime:float32", "--no-bench", "--preprocess", "preprocess.toml", "--budget", 90]
    result = inside("export", f"{MODEL}:good", tmp_path / "out", *how, "--evaluation", f"{MODEL}:unlabelled")
    assert result.status == 0, result.err
    rungs = json.loads((tmp_path / "out" / "report.json").read_text())["parity"]["rungs"]
    assert {rung["labelled"] for rung in rungs} == {False}
    assert all("no labels, so the reference's answers stand in for the truth" in rung["reason"] for rung in rungs)
