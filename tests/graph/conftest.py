"""Graphs to rewrite: the tiny model as the exporter leaves it, and one with separate q, k and v."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.types import FloatModel, ImagePreprocess, Signature, TensorSpec


@pytest.fixture(scope="session")
def wrap() -> Callable[..., FloatModel]:
    """(module, *shape, depth=None) -> a float model from x (batch, *shape) to y."""

    def make(module: Any, *shape: int, depth: int | None = None) -> FloatModel:
        x = TensorSpec(name="x", dtype="float32", shape=("batch", *shape))
        y = TensorSpec(name="y", dtype="float32", shape=("batch",))
        return FloatModel(
            name="wrapped",
            module=module.eval().requires_grad_(False),
            signature=Signature(inputs=(x,), outputs=(y,)),
            task="image-features",
            preprocess=ImagePreprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3),
            labels=(),
            trained=False,
            depth=depth,
        )

    return make


@pytest.fixture(scope="session")
def separate_model(wrap: Callable[..., FloatModel]) -> FloatModel:
    """A norm, then attention whose q, k and v have a linear layer each, on (batch, 5, 16)."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Separate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(16)
            self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            normed = self.norm(x)
            q, k, v = (layer(normed).unflatten(-1, (4, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
            mixed = functional.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    module = Separate()
    for parameter in module.norm.parameters():
        parameter.data += torch.randn(16) * 0.2
    return wrap(module, 5, 16, depth=1)


@pytest.fixture(scope="session")
def separate_onnx(separate_model: FloatModel, lower_model: Callable[..., Any], tmp_path_factory: Any) -> Any:
    """It, lowered; its file is not to be changed."""
    return lower_model(separate_model, tmp_path_factory.mktemp("separate") / "separate.onnx")


@pytest.fixture(scope="session")
def untrained(make_vit: Callable[..., FloatModel]) -> FloatModel:
    """One block of which all norms are equal and all biases zero."""
    return make_vit(untrained=True, depth=1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[FloatModel], Path]:
    """(model) -> the exporter's graph before any pass, as a file; each model is exported once."""
    done: dict[int, Path] = {}

    def export(model: FloatModel) -> Path:
        from edgevit.graph import storage
        from edgevit.graph.capture import capture
        from edgevit.graph.lower import to_graph

        if id(model) not in done:
            path = tmp_path_factory.mktemp("exported") / "exported.onnx"
            storage.save(to_graph(capture(model), model), path)
            done[id(model)] = path
        return done[id(model)]

    return export


@pytest.fixture(scope="session")
def parse_graph() -> Callable[..., Any]:
    """(ONNX text, initializers as arrays by name) -> onnx-ir model; `__` in a name stands for a dot."""

    def parse(text: str, **arrays: Any) -> Any:
        import onnx
        import onnx_ir as ir

        model = onnx.parser.parse_model(text)
        for index, node in enumerate(model.graph.node):
            node.name = f"node_{index}"
            node.input[:] = [name.replace("__", ".") for name in node.input]
        for name, array in arrays.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(array, name.replace("__", ".")))
        return ir.from_proto(model)

    return parse


@pytest.fixture
def run_graph(tmp_path: Path) -> Callable[..., Any]:
    """(onnx-ir model, input) -> its first output as ONNX Runtime computes it, without optimizations."""

    def run(graph: Any, array: Any) -> Any:
        from edgevit.graph import storage
        from edgevit.graph.execute import Executor

        path = tmp_path / "run.onnx"
        storage.save(graph, path)
        with Executor(path, exact=True) as executor:
            return next(iter(executor.run({graph.graph.inputs[0].name: array}).values()))

    return run
