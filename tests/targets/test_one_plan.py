"""One plan, every target: the files each target ships hold the plan's own numbers, not some converter's."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from edgevit.graph import storage
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.quantize.scales import quantize

TARGETS = ("openvino:int8", "onnxruntime:int8", "ort-mobile:int8", "executorch:int8", "tensorrt:int8")
FLOAT_CONVOLUTIONS = ("onnxruntime:int8", "ort-mobile:int8")
"""An int8 convolution there needs an output scale in the ONNX graph, which this scheme never writes."""


@pytest.fixture
def shipped(built: Any, lowered: Any) -> Any:
    """(target) -> every byte of its build of the tiny model."""

    def read(target: str) -> bytes:
        if target.startswith("executorch") and find_spec("executorch") is None:
            pytest.skip("ExecuTorch is not installed, so it built nothing; pip install 'edgevit[executorch]'")
        build = lowered("int8") if target.startswith("executorch") else built(target)
        return b"".join(path.read_bytes() for path in sorted(build.directory.iterdir()))

    return read


@pytest.mark.parametrize("target", TARGETS)
def test_scales_and_codes_are_the_plans(target: str, shipped: Any, tiny: Any) -> None:
    content = shipped(target)
    graph = storage.load(tiny.onnx.path)
    weights = {layer.name: layer_weight(graph, layer) for layer in quantizable_layers(graph)}
    checked = 0
    for entry in tiny.plan.layers:
        if entry.kind == "conv" and target in FLOAT_CONVOLUTIONS:
            continue
        scales = np.asarray(entry.weight_scale, np.float32)
        assert scales.tobytes() in content, f"{target} ships other weight scales for {entry.name}"
        codes = quantize(weights[entry.name], scales, 0, narrow=True)
        stored = {codes.tobytes(), np.ascontiguousarray(codes.T).tobytes()}
        if entry.kind == "linear":
            assert any(one in content for one in stored), f"{target} ships other codes for {entry.name}"
        assert np.float32(entry.input_scale).tobytes() in content, f"{target} has another scale at {entry.name}'s input"
        checked += 1
    assert checked == len(tiny.plan.layers) - (target in FLOAT_CONVOLUTIONS)
