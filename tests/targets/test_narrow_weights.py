"""int8, int8d and int8w of graphs with embeddings, caches and recurrent layers, in both engines."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from sequences import decoder_batches, texts

from edgevit.parity.metrics import signal_noise
from edgevit.targets import get_target, openvino
from edgevit.targets.base import BuildSource

TARGETS = ["openvino", "onnxruntime"]
NAMES = ["transformer.decoder", "lstm.decoder", "gru.decoder", "transformer.encoder", "kinds", "tags-rnn", "tags-lstm"]
LEAST_DB = {"int8": 20.0, "int8d": 25.0, "int8w": 28.0}


@pytest.fixture(scope="module")
def planned(sequences, min_max_plan):
    """(name) -> batches of its inputs and a plan for all that can be quantized in it."""
    done = {}

    def get(name):
        if name not in done:
            model, _, part = name.partition(".")
            batches = decoder_batches(sequences, model) if part == "decoder" else [texts(4, 9), texts(3, 5, seed=1)]
            done[name] = batches, min_max_plan(sequences.onnx(name), batches)
        return done[name]

    return get


@pytest.fixture(scope="module")
def narrow(sequences, planned, build_with):
    done = {}

    def get(name, wanted):
        if (name, wanted) not in done:
            done[name, wanted] = build_with(sequences.onnx(name), wanted, planned(name)[1])
        return done[name, wanted]

    return get


@pytest.mark.parametrize("precision", ["int8", "int8d", "int8w"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", NAMES)
def test_every_narrow_precision_stays_close_to_float(sequences, planned, narrow, sessions, name, target, precision):
    batches, _ = planned(name)
    sessions.append(session := narrow(name, f"{target}:{precision}").open())
    for batch in batches:
        expected, found = sequences.run(name, batch), session.run(batch)
        for output, array in expected.items():
            assert found[output].shape == array.shape
            assert LEAST_DB[precision] < signal_noise(array, found[output]).db < 90, (output, "nothing was quantized")


def initializers(path):
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("precision", ["int8", "int8d", "int8w"])
def test_a_tied_embedding_is_stored_once_and_in_eight_bits(sequences, narrow, precision):
    arrays = initializers(narrow("transformer.decoder", f"onnxruntime:{precision}").directory / "model.onnx")
    tables = [array for array in arrays.values() if array.size == 30 * 32]
    assert [array.dtype.itemsize for array in tables] == [1]


def test_the_quantized_graph_stores_it_once(sequences, planned, tmp_path):
    from edgevit.quantize.write_onnx import write_quantized

    _, plan = planned("transformer.decoder")
    written = write_quantized(sequences.onnx("transformer.decoder"), plan, tmp_path / "quantized.onnx")
    tables = [array for array in initializers(written.path).values() if array.size == 30 * 32]
    assert [array.dtype for array in tables] == [np.int8]


@pytest.mark.parametrize("precision", ["int8", "int8d", "int8w"])
def test_openvino_files_hold_it_once(narrow, precision):
    import openvino as ov

    model = ov.Core().read_model(narrow("transformer.decoder", f"openvino:{precision}").directory / "model.xml")
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    tables = [op for op in constants if np.prod(op.get_output_shape(0)) == 30 * 32]
    assert [op.get_output_element_type(0).get_type_name() for op in tables] == ["i8"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["transformer.decoder", "lstm.decoder"])
def test_weight_only_files_are_small(sequences, narrow, build_with, target, name):
    def size(build):
        return sum(path.stat().st_size for path in build.directory.iterdir() if path.suffix != ".xml")

    weights = sum(array.nbytes for array in initializers(sequences.onnx(name).path).values())
    whole = size(build_with(sequences.onnx(name), f"{target}:float32"))
    assert whole - size(narrow(name, f"{target}:int8w")) > 0.3 * weights


@pytest.mark.parametrize("target", TARGETS)
def test_static_layers_of_a_decoder_all_run_in_int8(narrow, sessions, target):
    sessions.append(session := narrow("transformer.decoder", f"{target}:int8").open())
    execution = session.execution()
    assert execution.warnings == ()
    assert (execution.quantized_requested, execution.quantized_executed) == (17, 17)
    assert "decoder.embed" in {layer.name for layer in execution.layers if layer.executed == "int8"}


@pytest.mark.parametrize("target", TARGETS)
def test_dynamic_layers_say_whether_their_inputs_are_quantized(narrow, sessions, target, vnni):
    sessions.append(session := narrow("transformer.decoder", f"{target}:int8d").open())
    execution = session.execution()
    assert execution.quantized_requested == 17
    assert execution.quantized_executed == (17 if vnni or target == "onnxruntime" else 0)
    assert execution.precision == "int8"
    assert len(execution.warnings) == execution.quantized_requested - execution.quantized_executed


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "layers"), [("transformer.decoder", 17), ("kinds", 13)])
def test_weight_only_layers_are_computed_in_float_and_say_so(narrow, sessions, target, name, layers):
    sessions.append(session := narrow(name, f"{target}:int8w").open())
    execution = session.execution()
    assert (execution.precision, execution.quantized_requested, execution.warnings) == ("float32", 0, ())
    assert [layer.executed for layer in execution.layers if layer.requested == "int8w"] == ["float32"] * layers


def test_recurrent_weights_of_a_weight_only_build_are_reported(narrow, sessions):
    sessions.append(session := narrow("lstm.decoder", "onnxruntime:int8w").open())
    layers = {layer.name: (layer.requested, layer.executed, layer.kernel) for layer in session.execution().layers}
    assert layers["decoder.layers.0.l0"] == ("int8w", "float32", "LSTM")


def test_dynamic_quantization_of_openvino_is_not_only_asked_for(planned, narrow, sessions, vnni):
    batches, _ = planned("transformer.decoder")
    outputs = []
    for precision in ("int8d", "int8w"):
        sessions.append(session := narrow("transformer.decoder", f"openvino:{precision}").open())
        outputs.append(session.run(batches[0])["logits"])
        assert int(session._compiled.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE")) == openvino.GROUPS.get(
            precision, 0
        )
    assert np.array_equal(*outputs) != vnni


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", ["int8d", "int8w"])
def test_without_a_plan_there_is_no_narrow_build(sequences, tmp_path, target, precision):
    from edgevit.errors import BuildError

    source = BuildSource(float_model=None, onnx=sequences.onnx("kinds"))
    with pytest.raises(BuildError, match=f"{target}:{precision}, found none; calibrate first"):
        get_target(target).build(source, precision, {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_graph_that_openvino_converts_from_does_not_stay(narrow):
    directory = narrow("transformer.decoder", "openvino:int8w").directory
    assert sorted(path.name for path in directory.iterdir()) == ["model.bin", "model.xml"]
