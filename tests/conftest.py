"""What every test shares: few threads, reproducible examples, where the repository is, and one tiny model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from edgevit.types import FloatModel, ImagePreprocess, LayerPlan, OnnxModel, QuantPlan

if TYPE_CHECKING:
    from edgevit.types import Arrays

# Before any engine is imported: two test processes share two cores, and one thread adds up in one order.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A slow machine is no failure, and a failure is the same one everywhere.
settings.register_profile("edgevit", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("edgevit")


@dataclass(frozen=True)
class Tiny:
    """A Vision Transformer of two blocks: lowered once per session; its file is not to be changed."""

    model: FloatModel
    onnx: OnnxModel
    batches: tuple[Arrays, ...]
    """Three batches of four images."""
    plan: QuantPlan
    """Every layer in int8, min-max ranges, safe without VNNI."""

    @property
    def images(self) -> Arrays:
        return {"pixel_values": np.concatenate([batch["pixel_values"] for batch in self.batches])}


@pytest.fixture(scope="session")
def repository() -> Path:
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def make_vit() -> Callable[..., FloatModel]:
    """(untrained=False, changes of the configuration) -> two blocks of width 32 on 32 x 32 images.

    Untrained, all norms are equal and all biases zero; otherwise every parameter differs.
    """

    def make(*, untrained: bool = False, **changes: Any) -> FloatModel:
        import torch

        from edgevit.sources.vit import vit_signature
        from edgevit.zoo import ViTConfig
        from edgevit.zoo.vit import initialize_vit

        small = {"image_size": (32, 32), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_ratio": 2.0}
        config = ViTConfig(**{**small, "classes": 10, **changes})
        module = initialize_vit(config, std=0.2).requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for _, parameter in [] if untrained else sorted(module.named_parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        return FloatModel(
            name="tiny",
            module=module,
            signature=vit_signature(config),
            task="image-classification",
            preprocess=ImagePreprocess(size=config.image_size, mean=(0.5,) * 3, std=(0.5,) * 3),
            labels=tuple(f"class {index}" for index in range(config.classes)),
            trained=False,
            depth=config.depth,
        )

    return make


@pytest.fixture(scope="session")
def lower_model() -> Callable[..., OnnxModel]:
    """(model, path, batch=None) -> its float ONNX."""

    def lower_to(model: FloatModel, path: Path, batch: int | None = None) -> OnnxModel:
        from edgevit.graph.capture import CaptureOptions, capture
        from edgevit.graph.lower import lower

        return lower(capture(model, CaptureOptions(batch=batch)), model, path)

    return lower_to


@pytest.fixture(scope="session")
def min_max_plan() -> Callable[[OnnxModel, Sequence[Arrays]], QuantPlan]:
    """(model, batches) -> every layer in int8 with the ranges seen, and weights that overflow on no processor."""

    def make(model: OnnxModel, batches: Sequence[Arrays]) -> QuantPlan:
        from edgevit.graph import storage
        from edgevit.graph.execute import Executor
        from edgevit.graph.layers import layer_weight, quantizable_layers
        from edgevit.quantize.saturation import pair_safe_scales, seven_bit_scales

        graph = storage.load(model.path)
        layers = quantizable_layers(graph)
        largest = {layer.input: 0.0 for layer in layers}
        with Executor(model.path, [name for name in largest if name not in batches[0]]) as executor:
            for batch in batches:
                values = {**executor.run(batch), **batch}
                largest = {name: max(seen, float(np.abs(values[name]).max())) for name, seen in largest.items()}
        entries = []
        for layer in layers:
            weight = layer_weight(graph, layer)
            safe = pair_safe_scales if layer.kind == "linear" else seven_bit_scales
            scales = safe(weight, np.abs(weight).max(axis=1) / np.float32(127))
            input_scale = float(np.float32(largest[layer.input] / 127))
            entries.append(
                LayerPlan(
                    name=layer.name,
                    kind=layer.kind,
                    input_scale=input_scale,
                    weight_scale=tuple(float(scale) for scale in scales),
                )
            )
        return QuantPlan(model="tiny", model_digest=model.digest, safe_without_vnni=True, layers=tuple(entries))

    return make


@pytest.fixture(scope="session")
def tiny(
    make_vit: Callable[..., FloatModel],
    lower_model: Callable[..., OnnxModel],
    min_max_plan: Callable[..., QuantPlan],
    tmp_path_factory: pytest.TempPathFactory,
) -> Tiny:
    model = make_vit()
    onnx = lower_model(model, tmp_path_factory.mktemp("tiny") / "tiny.onnx")
    rng = np.random.default_rng(0)
    batches = tuple({"pixel_values": rng.normal(size=(4, 3, 32, 32)).astype(np.float32)} for _ in range(3))
    return Tiny(model, onnx, batches, min_max_plan(onnx, batches))
