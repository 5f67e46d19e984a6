"""Calibration: one pass, the same result however the samples arrive, memory that does not grow with them."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest

from edgevit.errors import SetError
from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.quantize.calibrate import CalibrationOptions, calibrate

OPTIONS = CalibrationOptions(set_name="noise", set_digest="1" * 64, rows=32, bins=256, threads=1)


def same(one, other):
    """Equal but for what float sums and kernels at other batch sizes round differently."""
    assert one.inputs.keys() == other.inputs.keys()
    for name, stats in one.inputs.items():
        found = other.inputs[name]
        np.testing.assert_allclose(stats.channel_max, found.channel_max, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats.channel_power, found.channel_power, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(stats.rows, found.rows, rtol=1e-3, atol=1e-4)
        assert (stats.count, stats.limit) == (found.count, found.limit)
        assert np.abs(stats.histogram - found.histogram).sum() <= stats.histogram.sum() * 1e-3
        np.testing.assert_allclose(one.outputs[name], other.outputs[name], rtol=1e-4)


def test_every_layer_is_observed_with_the_digests_it_belongs_to(tiny):
    stats = calibrate(tiny.onnx, tiny.batches, OPTIONS)
    assert stats.inputs.keys() == {entry.name for entry in tiny.plan.layers} == stats.outputs.keys()
    assert (stats.model_digest, stats.set_digest, stats.set_name) == (tiny.onnx.digest, "1" * 64, "noise")
    assert stats.samples == 12
    assert len(stats.digest) == 64


def test_what_is_observed_is_what_the_layers_read_and_give(tiny, run_model):
    stats = calibrate(tiny.onnx, tiny.batches, OPTIONS)
    layers = {layer.name: layer for layer in quantizable_layers(storage.load(tiny.onnx.path))}
    fc2 = layers["blocks.0.mlp.fc2.weight"]
    values = run_model(tiny.onnx.path, tiny.images, fc2.input, fc2.output)
    seen = stats.inputs[fc2.name]
    rows = values[fc2.input].reshape(-1, 64)
    assert seen.count == len(rows) == 12 * 17
    np.testing.assert_allclose([seen.low, seen.high], [rows.min(), rows.max()], rtol=1e-4)
    np.testing.assert_allclose(seen.channel_max, np.abs(rows).max(axis=0), rtol=1e-3)
    np.testing.assert_allclose(seen.channel_mean, rows.mean(axis=0), rtol=1e-3, atol=1e-5)
    assert seen.histogram.sum() == rows.size
    output = values[fc2.output]
    np.testing.assert_allclose(stats.outputs[fc2.name], [output.min(), output.max()], rtol=1e-4)
    # The patch embedding reads the images themselves, channels on axis 1.
    pixels = stats.inputs["patch_embed.proj.weight"]
    images = tiny.images["pixel_values"]
    np.testing.assert_allclose(pixels.channel_max, np.abs(images).max(axis=(0, 2, 3)))
    assert pixels.count == 12 * 32 * 32


def test_it_is_deterministic_under_the_seed(tiny):
    first = calibrate(tiny.onnx, tiny.batches, OPTIONS)
    assert calibrate(tiny.onnx, tiny.batches, OPTIONS).digest == first.digest
    other = calibrate(tiny.onnx, tiny.batches, msgspec.structs.replace(OPTIONS, seed=1))
    assert other.digest != first.digest
    name = "head.weight"
    np.testing.assert_array_equal(other.inputs[name].histogram, first.inputs[name].histogram)
    qkv = "blocks.0.attn.qkv.weight"
    assert not np.array_equal(other.inputs[qkv].rows, first.inputs[qkv].rows), "the seed chooses the rows"


def test_it_does_not_depend_on_the_batch_size(tiny):
    images = tiny.images["pixel_values"]
    together = calibrate(tiny.onnx, [tiny.images], OPTIONS)
    same(together, calibrate(tiny.onnx, tiny.batches, OPTIONS))
    same(together, calibrate(tiny.onnx, ({"pixel_values": images[i : i + 1]} for i in range(12)), OPTIONS))


def test_layers_that_read_one_tensor_are_observed_once(write_graph):
    model = write_graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        model (float[n, 4] x) => (float[n, 4] y) {
            r = Relu(x)
            p = MatMul(r, w1)
            q = MatMul(r, w2)
            y = Add(p, q)
        }
        """,
        w1=np.eye(4),
        w2=np.ones((4, 4)),
    )
    stats = calibrate(model, [{"x": np.arange(8, dtype=np.float32).reshape(2, 4)}], OPTIONS)
    assert stats.inputs["w1"] is stats.inputs["w2"]
    assert stats.outputs["w1"] != stats.outputs["w2"]


def test_memory_does_not_grow_with_the_samples(tiny):
    """Of NumPy's and Python's own; the engine keeps no arena (`Executor`)."""

    def peak(count):
        batches = ({"pixel_values": tiny.batches[i % 3]["pixel_values"]} for i in range(count))
        tracemalloc.start()
        calibrate(tiny.onnx, batches, OPTIONS)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(48) < 1.1 * peak(6)


def test_progress_counts_samples(tiny):
    seen = []
    calibrate(tiny.onnx, tiny.batches, OPTIONS, seen.append)
    assert seen == [4, 8, 12]


def test_an_empty_set_is_refused(tiny):
    with pytest.raises(SetError, match=r"calibration set noise, found none; name another set"):
        calibrate(tiny.onnx, [], OPTIONS)
