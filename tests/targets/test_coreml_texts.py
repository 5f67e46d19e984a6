"""Core ML on models of texts, and packages that give labels: what they hold, run in NumPy. No engine executes them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pytest
from ml_program import open_program, run_program
from sequences import HEADS, WIDTH, begun, continued, decoder_batches, text_model, texts

from edgevit.errors import InputError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import coreml
from edgevit.targets.apple.interface import core_ml_name
from edgevit.targets.base import BuildSource

pytestmark = pytest.mark.skipif(
    find_spec("coremltools") is None,
    reason="coremltools is not installed, so nothing was converted; pip install 'edgevit[coreml]'",
)


@pytest.fixture(scope="module")
def packed(sequences: Any, min_max_plan: Any, tmp_path_factory: Any) -> Any:
    """("kinds", "int8", output="labels") -> the directory of its build, and its options; not to be changed."""
    done: dict[Any, Any] = {}

    def make(name: str, precision: str = "float16", **options: str) -> tuple[Any, dict[str, str]]:
        key = (name, precision, *options.items())
        if key not in done:
            onnx, plan = sequences.onnx(name), None
            if precision in coreml.PLANNED:
                decoder = name.endswith("decoder")
                plan = min_max_plan(onnx, decoder_batches(sequences, "transformer") if decoder else [texts(4, 9)])
            source = BuildSource(float_model=lambda: text_model(sequences, name), onnx=onnx, plan=plan)
            out = tmp_path_factory.mktemp("coreml")
            done[key] = out, coreml.build(source, precision, options, out)  # type: ignore[arg-type]
        return done[key]

    return make


def run(package: Any, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """One row, as a device would be given it: names without dots, ids in int32."""
    given = {core_ml_name(key): one.astype(np.int32) if one.dtype == np.int64 else one for key, one in inputs.items()}
    return run_program(open_program(package), given)


def assert_close(found: dict[str, Any], expected: dict[str, np.ndarray], floor: float = 40) -> None:
    for key, array in expected.items():
        assert sqnr_db(array, found[core_ml_name(key)]) > floor, key


@pytest.mark.parametrize(("precision", "floor"), [("float16", 40), ("int8", 15), ("int8w", 25)])
@pytest.mark.parametrize("name", ["kinds", "transformer.encoder"])
def test_one_package_is_the_model_at_every_length(
    name: str, precision: str, floor: float, packed: Any, sequences: Any
) -> None:
    directory, used = packed(name, precision)
    for length, pad in ((1, 0), (7, 3), (24, 0)):
        inputs = texts(1, length, pad if length + pad <= 24 else 0)
        assert_close(run(directory / "model.mlpackage", inputs), sequences.run(name, inputs), floor)
    assert used["int32_inputs"] == "input_ids, attention_mask"
    assert used["lengths"] == "source_length 1 to 24"
    if precision == "int8":
        layers = coreml.compiled(directory).layers
        assert layers and all(layer.executed == "int8" for layer in layers)


def test_a_decoder_is_two_packages_that_write_a_text_together(packed: Any, sequences: Any) -> None:
    name = "transformer.decoder"
    directory, used = packed(name)
    source = texts(1, 6)
    encoded = sequences.run("transformer.encoder", source)
    given = begun(encoded, source["attention_mask"], sequences.part(name).signature)
    random = np.random.default_rng(0)
    for step in range(4):
        ids = random.integers(1, 30, (1, 3 if step == 0 else 1))
        expected = sequences.run(name, {"input_ids": ids, **given})
        file = "first.mlpackage" if step == 0 else "model.mlpackage"
        passed = {key: one for key, one in given.items() if step or not key.endswith(("decoder.key", "decoder.value"))}
        assert_close(run(directory / file, {"input_ids": ids, **passed}), expected)
        given = continued(given, expected)
    assert used["packages"] == "first.mlpackage, model.mlpackage"
    assert used["lengths"] == "source_length 1 to 24, past_length 1 to 23"


def test_the_interface_says_ranges_types_and_names(packed: Any) -> None:
    import coremltools as ct

    directory, _ = packed("transformer.decoder")
    spec = ct.utils.load_spec(str(directory / "model.mlpackage"))
    inputs = {one.name: one.type.multiArrayType for one in spec.description.input}
    int32 = ct.proto.FeatureTypes_pb2.ArrayFeatureType.INT32
    assert tuple(inputs["input_ids"].shape) == (1, 1) and inputs["input_ids"].dataType == int32
    past = inputs["past_key_values_0_decoder_key"].shapeRange.sizeRanges
    sizes = [(1, 1), (HEADS, HEADS), (1, 23), (WIDTH // HEADS, WIDTH // HEADS)]
    assert [(one.lowerBound, one.upperBound) for one in past] == sizes
    first = ct.utils.load_spec(str(directory / "first.mlpackage"))
    assert not any("decoder" in one.name for one in first.description.input)
    names = [one.name for one in first.description.output]
    assert names[:2] == ["logits", "present_0_decoder_key"] and first.specificationVersion == 8


def test_the_planned_layers_of_a_decoder_are_in_both_packages(packed: Any, sequences: Any) -> None:
    directory, used = packed("transformer.decoder", "int8")
    execution = coreml.compiled(directory)
    linear = 2 * (4 + 2 + 2)  # self-attention, cross-attention without keys and values, and the MLP of two blocks
    assert execution.quantized_executed == linear and used["int8_layers"] == f"{linear} of {linear + 1}"
    assert execution.warnings == (
        "decoder.embed.weight stays in float16: the torch program does not read this parameter as one layer's weight",
    )
    for file in ("first.mlpackage", "model.mlpackage"):
        kinds = [one.op_type for one in open_program(directory / file).operations]
        assert kinds.count("constexpr_affine_dequantize") == linear


def test_labels_are_the_models_with_the_probability_of_each(packed: Any, sequences: Any) -> None:
    import coremltools as ct

    directory, used = packed("kinds", output="labels")
    assert used["output"] == "labels"
    spec = ct.utils.load_spec(str(directory / "model.mlpackage"))
    assert [one.name for one in spec.description.output] == ["label", "label_probs"]
    assert spec.description.predictedFeatureName == "label"
    for length in (2, 9):
        inputs = texts(1, length, seed=length)
        found = run(directory / "model.mlpackage", inputs)
        powers = np.exp(sequences.run("kinds", inputs)["logits"][0])
        labels = ("number", "question", "other")
        assert found["label"] == labels[int(powers.argmax())]
        shares = [found["label_probs"][label] for label in labels]
        np.testing.assert_allclose(shares, powers / powers.sum(), atol=0.01)


def test_an_image_with_labels_is_all_that_an_application_needs(tiny: Any, tmp_path: Any) -> None:
    source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx)
    options = {"input": "image", "output": "labels"}
    coreml.build(source, "float16", options, tmp_path)
    pixels = np.random.default_rng(5).integers(0, 256, (1, 3, 32, 32)).astype(np.float32)
    found = run(tmp_path / "model.mlpackage", {"pixel_values": pixels})
    from edgevit.graph.execute import Executor

    with Executor(tiny.onnx.path, exact=True) as executor:
        logits = executor.run({"pixel_values": (pixels / 255 - 0.5) / 0.5})["logits"][0]
    assert found["label"] == f"class {logits.argmax()}"
    assert set(found["label_probs"]) == set(tiny.model.labels)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("kinds", {"input": "image"}, "expected a model of images for coreml with input=image, found kinds"),
        ("kinds", {"output": "labels", "batch": "2"}, "expected batch=1 for coreml with output=labels"),
        ("transformer.encoder", {"output": "labels"}, "a model that classifies for coreml with output=labels"),
        ("tags-lstm", {}, "no recurrent layer for coreml, found LSTM at .*build onnxruntime"),
        ("gru.decoder", {}, "no recurrent layer for coreml, found GRU at .*build onnxruntime"),
    ],
)
def test_what_no_package_can_be_is_refused(
    name: str, options: dict[str, str], message: str, sequences: Any, tmp_path: Any
) -> None:
    source = BuildSource(float_model=lambda: text_model(sequences, name), onnx=sequences.onnx(name))
    with pytest.raises(InputError, match=message):
        coreml.build(source, "float16", options, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_dynamic_size_without_a_largest_is_refused(sequences: Any, tiny: Any, tmp_path: Any) -> None:
    spec = msgspec.structs.replace(tiny.model.signature.inputs[0], shape=("batch", 3, "height", 32))
    signature = msgspec.structs.replace(tiny.model.signature, inputs=(spec,))
    model = msgspec.structs.replace(tiny.model, signature=signature)
    with pytest.raises(InputError, match="expected sizes or lengths of texts for coreml, found height at pixel_values"):
        coreml.build(BuildSource(float_model=lambda: model, onnx=tiny.onnx), "float16", {}, tmp_path)
