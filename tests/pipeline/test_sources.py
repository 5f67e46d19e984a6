"""Checkpoints from elsewhere through the whole way: calibrated, planned, built, and compared with what they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from PIL import Image

from edgevit.errors import InputError
from edgevit.pipeline import export
from edgevit.recipe import (
    BenchSettings,
    CalibrationSettings,
    EvaluationSettings,
    ParitySettings,
    Recipe,
    TraceSettings,
)
from edgevit.types import FloatModel, ImagePreprocess, OnnxModel

PREPROCESS = ImagePreprocess(size=(32, 32), resize="exact", mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of eight different pictures each, without labels."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("calibration", "evaluation"):
        (root / name).mkdir()
        for index in range(8):
            coarse = rng.integers(0, 255, (5, 5, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((40, 36)).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def recipe(pictures: Path) -> Callable[..., Recipe]:
    def make(model: Path, **settings: Any) -> Recipe:
        plain = Recipe(
            model=str(model),
            preprocess=PREPROCESS,
            calibration=CalibrationSettings(set=str(pictures / "calibration")),
            evaluation=EvaluationSettings(set=str(pictures / "evaluation")),
            # Eight answers of a model that was never trained say nothing; closeness is what the tests look at.
            parity=ParitySettings(budget=99.0),
            bench=BenchSettings(enabled=False),
        )
        return msgspec.structs.replace(plain, **settings)

    return make


@pytest.fixture(scope="module")
def onnx_file(
    make_vit: Callable[..., FloatModel], lower_model: Callable[..., OnnxModel], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "published.onnx"
    lower_model(make_vit(), path)
    return path


def test_an_onnx_file_is_proved_against_itself(onnx_file: Path, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    targets = ("openvino:float32", "openvino:int8", "onnxruntime:int8")
    result = export(recipe(onnx_file, targets=targets), tmp_path / "out")
    assert result.failed == ()
    assert result.parity.reference == "ONNX Runtime"
    closeness = {rung.name: rung.closeness.sqnr_db for rung in result.parity.rungs if rung.closeness}
    assert closeness["onnx float32"] > 80
    assert closeness["openvino-float32"] > 80
    assert 15 < closeness["openvino-int8"] < 80
    assert "blocks.0.attn.qkv.weight" in (tmp_path / "out" / "plan.toml").read_text()
    assert "reference in ONNX Runtime" in (tmp_path / "out" / "report.html").read_text()


def test_a_fixed_batch_is_taken_over(
    make_vit: Callable[..., FloatModel],
    lower_model: Callable[..., OnnxModel],
    recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    lower_model(make_vit(), tmp_path / "two.onnx", 2)
    result = export(recipe(tmp_path / "two.onnx", targets=("openvino:float32",)), tmp_path / "out")
    assert result.manifest.signature.inputs[0].shape == (2, 3, 32, 32)
    with pytest.raises(InputError, match="expected the batch 2 that two was exported with, found --batch-size 3"):
        export(recipe(tmp_path / "two.onnx", trace=TraceSettings(batch=3)), tmp_path / "other")


def test_a_quantized_file_is_built_as_it_is_or_refused(
    recipe: Callable[..., Recipe], tmp_path: Path, tiny: Any
) -> None:
    from edgevit.quantize.write_onnx import write_quantized

    write_quantized(tiny.onnx, tiny.plan, tmp_path / "quantized.onnx")
    with pytest.raises(InputError, match="found quantization in quantized already; .*--target T:float32"):
        export(recipe(tmp_path / "quantized.onnx"), tmp_path / "refused")
    result = export(recipe(tmp_path / "quantized.onnx", targets=("onnxruntime:float32",)), tmp_path / "out")
    operators = {node.op_type for node in onnx.load(next((tmp_path / "out").rglob("*.onnx"))).graph.node}
    assert "DequantizeLinear" in operators
    assert result.failed == ()


def test_a_torch_export_archive_goes_the_same_way(
    make_vit: Callable[..., FloatModel], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    import torch

    batch = torch.export.Dim("batch", min=1, max=4)
    program = torch.export.export(make_vit().module, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "tiny.pt2")
    settings = {"targets": ("openvino:int8",), "task": "image-classification", "labels": tuple("abcdefghij")}
    result = export(recipe(tmp_path / "tiny.pt2", **settings), tmp_path / "out")
    closeness = {rung.name: rung.closeness.sqnr_db for rung in result.parity.rungs if rung.closeness}
    assert closeness["onnx float32"] > 80
    assert 15 < closeness["openvino-int8"] < 80
    assert result.parity.reference == "PyTorch"
    assert result.manifest.labels == tuple("abcdefghij")
    assert "blocks.0.attn.qkv.weight" in {layer.name for layer in result.parity.layers if layer.quantized}


@pytest.mark.parametrize("family", ["ViT", "Dinov2WithRegisters", "Swin"])
def test_a_hugging_face_directory_goes_the_same_way(family: str, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs pip install 'edgevit[huggingface]'")
    import torch

    from edgevit.graph.quiet import quiet_torch

    plain = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 48}
    windows = {"embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": 4}
    shape = {"image_size": 32, "patch_size": 2 if family == "Swin" else 8, "num_labels": 5}
    config = getattr(transformers, f"{family}Config")(**shape, **(windows if family == "Swin" else plain))
    with quiet_torch():
        model = getattr(transformers, f"{family}ForImageClassification")(config)
        generator = torch.Generator().manual_seed(0)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        model.save_pretrained(tmp_path / "checkpoint")
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 32, "width": 32},
        "resample": 2,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (tmp_path / "checkpoint" / "preprocessor_config.json").write_text(json.dumps(processor))
    targets = ("openvino:float32", "openvino:int8")
    result = export(recipe(tmp_path / "checkpoint", targets=targets, preprocess=None), tmp_path / "out")
    closeness = {rung.name: rung.closeness.sqnr_db for rung in result.parity.rungs if rung.closeness}
    assert closeness["openvino-float32"] > 80
    assert 15 < closeness["openvino-int8"] < 80
    assert result.manifest.preprocess == msgspec.structs.replace(PREPROCESS, interpolation="bilinear")
    build = next(build for build in result.manifest.builds if build.precision == "int8")
    assert build.execution is not None
    assert build.execution.quantized_executed == build.execution.quantized_requested > 0
