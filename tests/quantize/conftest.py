"""Small graphs to adjust and quantize, and models whose outliers are made to order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.types import LayerPlan, OnnxModel, QuantPlan


@pytest.fixture
def write_graph(tmp_path: Path) -> Callable[..., OnnxModel]:
    """(ONNX text, initializers as arrays by name) -> a model on disk; `__` in a name stands for a dot."""

    def write(text: str, **arrays: Any) -> OnnxModel:
        import onnx
        import onnx_ir as ir

        from edgevit.graph import storage

        model = onnx.parser.parse_model(text)
        for index, node in enumerate(model.graph.node):
            node.name = f"node_{index}"
            node.input[:] = [name.replace("__", ".") for name in node.input]
        for name, array in arrays.items():
            tensor = onnx.numpy_helper.from_array(np.asarray(array, np.float32), name.replace("__", "."))
            model.graph.initializer.append(tensor)
        model = onnx.shape_inference.infer_shapes(model)
        graph = ir.from_proto(model)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        storage.save(graph, path)
        return storage.describe(graph, path)

    return write


@pytest.fixture(scope="session")
def run_model() -> Callable[..., dict[str, Any]]:
    """(model or graph's path, inputs, taps) -> all outputs as computed without optimizations."""

    def run(path: Path, inputs: dict[str, Any], *taps: str) -> dict[str, Any]:
        from edgevit.graph.execute import Executor

        with Executor(path, taps, exact=True) as executor:
            return executor.run(inputs)

    return run


@pytest.fixture(scope="session")
def entry() -> Callable[..., LayerPlan]:
    """(name, weight as (out, in), absmax of the input, further fields) -> its plan with min-max scales."""

    def make(name: str, weight: Any, absmax: float, **fields: Any) -> LayerPlan:
        matrix = np.asarray(weight, np.float32).reshape(len(weight), -1)
        scales = tuple(float(s) for s in np.abs(matrix).max(axis=1) / np.float32(127))
        kind = "conv" if np.ndim(weight) > 2 else "linear"
        scale = float(np.float32(absmax / 127))
        return LayerPlan(**{"name": name, "kind": kind, "input_scale": scale, "weight_scale": scales, **fields})

    return make


@pytest.fixture(scope="session")
def plan_of() -> Callable[..., QuantPlan]:
    return lambda *entries: QuantPlan(model="small", model_digest="", layers=entries)


@pytest.fixture(scope="session")
def outlier_onnx(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    """The tiny model's function, with a few channels of each norm 50 times larger and the next columns as much smaller.

    Trained Vision Transformers look like that; to one scale per tensor it is the worst case.
    """
    from edgevit.graph import storage
    from edgevit.graph.passes import constant

    graph = storage.load(tiny.onnx.path)
    values = graph.graph.initializers
    for block in (0, 1):
        for norm, layer in (("norm1", "attn.qkv"), ("norm2", "mlp.fc1")):
            factors = np.ones(32, np.float32)
            factors[[3, 17]] = 50
            for name, scale in (
                (f"blocks.{block}.{norm}.weight", factors),
                (f"blocks.{block}.{norm}.bias", factors),
                (f"blocks.{block}.{layer}.weight", 1 / factors[:, None]),
            ):
                changed = constant(graph, f"{name}.changed", values[name].const_value.numpy() * scale)
                values[name].const_value = changed.const_value
                del values[f"{name}.changed"]
    path = tmp_path_factory.mktemp("outliers") / "outliers.onnx"
    storage.save(graph, path)
    return msgspec.structs.replace(tiny.onnx, path=path, digest=storage.digest_onnx(path))
