"""q, k and v cut from one projection, by another way to the same values."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgevit.graph import storage
from edgevit.graph.passes.projection_split import projection_split


def test_the_split_goes_and_the_values_stay(tiny, run_graph) -> None:
    model = storage.load(tiny.onnx.path)
    images = tiny.images["pixel_values"]
    expected = run_graph(model, images)

    assert projection_split(model) == 2
    assert not any(node.op_type == "Split" for node in model.graph)
    np.testing.assert_array_equal(run_graph(model, images), expected)
    assert projection_split(model) == 0


def test_a_split_along_another_axis_stays(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    for node in model.graph:
        if node.op_type == "Split":
            node.attributes["axis"] = ir.AttrInt64("axis", 1)
    assert projection_split(model) == 0
