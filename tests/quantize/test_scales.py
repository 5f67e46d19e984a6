"""Symmetric quantization: its properties, and agreement with ONNX Runtime's own operators."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgevit.errors import PlanError
from edgevit.quantize.scales import SMALLEST_SCALE, dequantize, fake_quantize, levels, quantize, scale_from_range

finite = st.floats(-1e6, 1e6, width=32)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9), elements=finite)
ranges = st.floats(2.0**-40, 1e6, width=32)


@settings(max_examples=40)
@given(matrices)
def test_a_round_trip_inside_the_range_is_off_by_at_most_half_a_step(x):
    scale = scale_from_range(np.abs(x).max())
    error = np.abs(dequantize(quantize(x, scale), scale).astype(np.float64) - x)
    # x / scale is rounded in float32, which can move a value over the half by one part in 2²⁴ of its code.
    assert (error <= float(scale) * (0.5 + 127 * 2.0**-23)).all()


@settings(max_examples=40)
@given(matrices, ranges)
def test_values_outside_the_range_saturate(x, absmax):
    q = quantize(x, scale_from_range(absmax))
    assert q.dtype == np.int8
    assert (q[x > absmax * 1.01] == 127).all()
    assert (q[x < -absmax * 1.01] == -128).all()


@settings(max_examples=40)
@given(matrices, ranges)
def test_the_narrow_range_is_symmetric_in_sign(x, absmax):
    scale = scale_from_range(absmax)
    np.testing.assert_array_equal(quantize(-x, scale, narrow=True), -quantize(x, scale, narrow=True))
    assert quantize(x, scale, narrow=True).min() >= -127


@settings(max_examples=40)
@given(matrices, st.data())
def test_per_channel_is_per_tensor_on_each_slice(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    scale = data.draw(hnp.arrays(np.float32, x.shape[axis], elements=st.floats(2.0**-10, 100, width=32)))
    whole = quantize(x, scale, axis)
    fake = fake_quantize(x, scale, axis)
    back = dequantize(whole, scale, axis)
    for channel in range(x.shape[axis]):
        piece = np.take(x, channel, axis)
        np.testing.assert_array_equal(np.take(whole, channel, axis), quantize(piece, scale[channel]))
        np.testing.assert_array_equal(np.take(fake, channel, axis), fake_quantize(piece, scale[channel]))
        np.testing.assert_array_equal(np.take(back, channel, axis), np.take(fake, channel, axis))


@settings(max_examples=40)
@given(matrices, ranges, st.sampled_from([4, 8]), st.booleans())
def test_fake_quantization_is_the_trip_through_integers(x, absmax, bits, narrow):
    scale = scale_from_range(absmax, bits)
    through = dequantize(quantize(x, scale, bits=bits, narrow=narrow), scale)
    fake = fake_quantize(x, scale, bits=bits, narrow=narrow)
    assert fake.tobytes() == through.tobytes()


def test_rounding_is_half_to_even():
    np.testing.assert_array_equal(quantize([0.5, 1.5, 2.5, -0.5, -1.5], 1.0), [0, 2, 2, 0, -2])


@settings(max_examples=40)
@given(hnp.arrays(np.float32, 5, elements=st.floats(0, width=32, allow_nan=False, allow_infinity=False)))
def test_scales_are_positive_finite_and_fold_without_denormals(absmax):
    scale = scale_from_range(absmax)
    assert scale.dtype == np.float32
    assert np.isfinite(scale).all()
    assert (scale >= np.float32(SMALLEST_SCALE)).all()
    assert (scale * np.float32(SMALLEST_SCALE) >= np.finfo(np.float32).tiny).all()
    assert np.isfinite(1 / scale).all()


def test_a_channel_of_zeros_stays_zero():
    weight = np.array([[0, 0], [1, -2]], np.float32)
    scale = scale_from_range(np.abs(weight).max(axis=1))
    np.testing.assert_array_equal(quantize(weight, scale, 0, narrow=True), [[0, 0], [64, -127]])


def test_the_scale_is_float32_division():
    assert scale_from_range(1.0) == np.float32(1) / np.float32(127)
    assert scale_from_range(1.0, bits=4) == np.float32(1) / np.float32(7)
    assert levels(4) == 7


@pytest.mark.parametrize("absmax", [-1.0, np.nan, np.inf, [1.0, np.nan]])
def test_an_impossible_range_is_an_error(absmax):
    with pytest.raises(PlanError, match="finite ranges"):
        scale_from_range(absmax)


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, 1e-60])
def test_an_impossible_scale_is_an_error(scale):
    with pytest.raises(PlanError, match="positive and finite"):
        quantize([1.0], scale)


def test_other_misuse_is_an_error():
    with pytest.raises(PlanError, match="NaN"):
        quantize([np.nan], 1.0)
    with pytest.raises(PlanError, match="expected 3 scales"):
        quantize(np.zeros((3, 2), np.float32), [1.0, 1.0], 0)
    with pytest.raises(PlanError, match="pass the channels' axis"):
        quantize(np.zeros((3, 2), np.float32), [1.0, 1.0])
    with pytest.raises(PlanError, match="channel axis"):
        quantize(np.zeros((3, 2), np.float32), [1.0, 1.0], 2)
    with pytest.raises(PlanError, match="bits"):
        levels(16)


def test_infinities_saturate():
    np.testing.assert_array_equal(quantize([np.inf, -np.inf, 3e38], 1e-10), [127, -128, 127])


@pytest.fixture(scope="module")
def runtime_quantizer():
    """ONNX Runtime's QuantizeLinear and DequantizeLinear, per channel on axis 1, zero point 0."""
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=1),
        ],
        "round_trip",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "c"]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, ["c"]),
            helper.make_tensor_value_info("zero", TensorProto.INT8, ["c"]),
        ],
        [
            helper.make_tensor_value_info("q", TensorProto.INT8, ["n", "c"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), spread=st.sampled_from([1e-6, 1.0, 300.0, 1e30]))
def test_agreement_with_onnx_runtime(runtime_quantizer, seed, spread):
    rng = np.random.default_rng(seed)
    scale = scale_from_range(np.abs(rng.standard_normal(17)) * spread)
    x = (rng.standard_normal((31, 17)) * spread).astype(np.float32)
    x[0] = scale * np.float32(0.5)  # ties
    x[1] = scale * np.float32(126.5)
    q, y = runtime_quantizer.run(None, {"x": x, "scale": scale, "zero": np.zeros(17, np.int8)})
    np.testing.assert_array_equal(quantize(x, scale, 1), q)
    np.testing.assert_array_equal(dequantize(q, scale, 1), y)
