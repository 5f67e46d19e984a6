"""Core ML: what the package holds. Nothing executes it here; its program is read back and run in NumPy."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pytest
from ml_program import open_program, run_program

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import coreml, get_target, on_cpu, parse_target
from edgevit.targets.base import Availability, BuildSource, OpenOptions

needs_coremltools = pytest.mark.skipif(
    find_spec("coremltools") is None,
    reason="coremltools is not installed, so nothing was converted; pip install 'edgevit[coreml]'",
)
FLOORS = {"float16": 45, "int8": 15, "int8w": 25, "int4w": 8}


@pytest.fixture(scope="module")
def packed(tiny: Any, once: Any) -> Any:
    """("int8", batch="2") -> the directory of the tiny model's build, and its options; made once for all processes."""

    def get(precision: str, **options: str) -> tuple[Any, dict[str, str]]:
        def make(place: Any) -> None:
            (place / "files").mkdir()
            plan = tiny.plan if precision in coreml.PLANNED else None
            source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx, plan=plan)
            used = coreml.build(source, precision, options, place / "files")  # type: ignore[arg-type]
            (place / "options.json").write_bytes(msgspec.json.encode(used))

        named = "-".join([precision, *(f"{key}{value}" for key, value in options.items())])
        place = once(f"coreml-{named}", make)
        return place / "files", msgspec.json.decode((place / "options.json").read_bytes())

    return get


def computed(directory: Any, pixels: np.ndarray, batch: int = 1) -> np.ndarray:
    function = open_program(directory / "model.mlpackage")
    rows = [
        run_program(function, {"pixel_values": pixels[at : at + batch]})["logits"]
        for at in range(0, len(pixels), batch)
    ]
    return np.concatenate(rows)


# ------------------------------------------------------------------------------------ without the converter


def test_it_is_found_by_its_name() -> None:
    assert get_target("coreml") is coreml
    assert parse_target("coreml:int4w") == ("coreml", "int4w")
    assert not on_cpu("coreml"), "its int8 is no x86-64 processor's"


def test_without_the_converter_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coreml, "installed_version", lambda *names: None)
    command = "pip install 'edgevit[coreml]'"
    assert coreml.availability() == Availability(build=False, run=False, build_fix=command, run_fix=command)


def test_building_without_the_converter_exits_with_3(tiny: Any, tmp_path: Any, without_package: Any) -> None:
    from edgevit.targets.apple.convert import import_coremltools

    import_coremltools.cache_clear()
    without_package("coremltools")
    with pytest.raises(UnavailableError, match=r"'coremltools', which is not installed.*edgevit\[coreml\]") as caught:
        coreml.build(BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx), "float16", {}, tmp_path)
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"threads": "2"}, "threads=2"),
        ({"batch": "0"}, "batch=0"),
        ({"batch": "many"}, "batch=many"),
        ({"input": "photo"}, "input=photo"),
    ],
)
def test_bad_options_are_found_before_any_work(tiny: Any, tmp_path: Any, options: Any, found: str) -> None:
    source = BuildSource(float_model=lambda: pytest.fail("loaded"), onnx=tiny.onnx)
    with pytest.raises(InputError, match=f"expected options of coreml.*found {found}"):
        coreml.build(source, "float16", options, tmp_path)


def test_nothing_opens_it_here(built: Any, tmp_path: Any) -> None:
    build = msgspec.structs.replace(built("onnxruntime:float32").build, target="coreml", precision="float16")
    with pytest.raises(UnavailableError, match="expected an application to open coreml-float16"):
        coreml.open(tmp_path, build, OpenOptions())


def test_a_missing_report_is_said(tmp_path: Any) -> None:
    with pytest.raises(BundleError, match="expected the layers of coreml at .*export it again"):
        coreml.compiled(tmp_path)


@needs_coremltools
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": None}, "expected a PyTorch model for coreml, found tiny, which came as ONNX"),
    ],
)
def test_models_it_does_not_take_are_refused(tiny: Any, tmp_path: Any, change: Any, message: str) -> None:
    model = msgspec.structs.replace(tiny.model, **change)
    with pytest.raises(InputError, match=message):
        coreml.build(BuildSource(float_model=lambda: model, onnx=tiny.onnx), "float16", {}, tmp_path)


@needs_coremltools
@pytest.mark.parametrize("precision", coreml.PLANNED)
def test_int8_needs_a_plan(precision: Any, tiny: Any, tmp_path: Any) -> None:
    with pytest.raises(BuildError, match=f"coreml:{precision}, found none; calibrate first"):
        coreml.build(BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx), precision, {}, tmp_path)


@needs_coremltools
def test_an_image_is_one_sample(tiny: Any, tmp_path: Any) -> None:
    source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx)
    with pytest.raises(InputError, match="expected batch=1 for coreml with input=image"):
        coreml.build(source, "float16", {"input": "image", "batch": "2"}, tmp_path)


# ------------------------------------------------------------------------------------------------- content


@needs_coremltools
@pytest.mark.parametrize("precision", coreml.precisions)
def test_the_program_computes_what_the_model_computes(precision: str, packed: Any, tiny: Any, reference: Any) -> None:
    directory, _ = packed(precision)
    found = computed(directory, tiny.images["pixel_values"])
    assert sqnr_db(reference, found) > FLOORS[precision]
    assert sqnr_db(reference, found) < 75, "it is not float32"


@needs_coremltools
def test_int8_computes_what_was_simulated(packed: Any, tiny: Any, tmp_path: Any) -> None:
    """With the same scales: what differs is float16 around the integers, which tips a code now and then."""
    from edgevit.graph.execute import Executor
    from edgevit.quantize.write_onnx import write_quantized

    write_quantized(tiny.onnx, tiny.plan, tmp_path / "q.onnx")
    with Executor(tmp_path / "q.onnx", exact=True) as executor:
        expected = executor.run(tiny.images)["logits"]
    assert sqnr_db(expected, computed(packed("int8")[0], tiny.images["pixel_values"])) > 28


@needs_coremltools
@pytest.mark.parametrize("precision", coreml.PLANNED)
def test_scales_and_codes_are_the_plans(precision: str, packed: Any, tiny: Any) -> None:
    """Read back from the package; its numbers are float16, so the plan's are rounded once."""
    from edgevit.graph import storage
    from edgevit.graph.layers import layer_weight, quantizable_layers
    from edgevit.quantize.scales import quantize

    function = open_program(packed(precision)[0] / "model.mlpackage")
    layers = [one for one in function.operations if one.op_type in ("linear", "conv")]
    graph = storage.load(tiny.onnx.path)
    weights = {layer.name: layer_weight(graph, layer) for layer in quantizable_layers(graph)}
    assert len(layers) == len(tiny.plan.layers) == 10
    for entry, found in zip(tiny.plan.layers, layers, strict=True):
        scales = np.asarray(entry.weight_scale, np.float32)
        codes = quantize(weights[entry.name], scales, 0, narrow=True)
        np.testing.assert_array_equal(found.weight.op.quantized_data.val.reshape(codes.shape), codes)
        np.testing.assert_array_equal(found.weight.op.scale.val, scales.astype(np.float16))
        if precision == "int8":
            assert found.x.op.op_type == "dequantize"
            assert np.float16(found.x.op.scale.val) == np.float16(entry.input_scale)
            assert np.float16(found.x.op.input.op.scale.val) == np.float16(entry.input_scale)
        else:
            assert found.x.op is None or found.x.op.op_type != "dequantize"


@needs_coremltools
def test_the_interface_is_the_models(packed: Any) -> None:
    import coremltools as ct

    spec = ct.utils.load_spec(str(packed("int8", batch="2")[0] / "model.mlpackage"))
    (given,), (result,) = spec.description.input, spec.description.output
    assert (given.name, tuple(given.type.multiArrayType.shape)) == ("pixel_values", (2, 3, 32, 32))
    assert (result.name, tuple(result.type.multiArrayType.shape)) == ("logits", (2, 10))
    float32 = ct.proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    assert given.type.multiArrayType.dataType == result.type.multiArrayType.dataType == float32
    assert spec.specificationVersion == 8


@needs_coremltools
def test_another_batch_gives_the_same_results(packed: Any, tiny: Any) -> None:
    pixels = tiny.images["pixel_values"][:4]
    alone = computed(packed("float16")[0], pixels)
    np.testing.assert_allclose(computed(packed("float16", batch="2")[0], pixels, 2), alone, atol=0.02)


@needs_coremltools
def test_an_image_input_normalizes_inside(packed: Any, tiny: Any, make_vit: Any) -> None:
    import coremltools as ct

    directory, used = packed("float16", input="image")
    spec = ct.utils.load_spec(str(directory / "model.mlpackage"))
    (given,) = spec.description.input
    assert (given.type.imageType.height, given.type.imageType.width) == (32, 32)
    assert given.type.imageType.colorSpace == ct.proto.FeatureTypes_pb2.ImageFeatureType.RGB
    assert used["input"] == "image"
    pixels = np.random.default_rng(3).integers(0, 256, (5, 3, 32, 32)).astype(np.float32)
    preprocess = tiny.model.preprocess
    mean, std = (np.asarray(one, np.float32).reshape(3, 1, 1) for one in (preprocess.mean, preprocess.std))
    prepared = ((pixels / 255 - mean) / std).astype(np.float32)
    expected = computed(packed("float16")[0], prepared)
    assert sqnr_db(expected, computed(directory, pixels)) > 40


@needs_coremltools
def test_channels_may_have_their_own_mean_and_deviation(tiny: Any, tmp_path: Any) -> None:
    preprocess = msgspec.structs.replace(tiny.model.preprocess, mean=(0.1, 0.4, 0.7), std=(0.2, 0.3, 0.5), mode="BGR")
    model = msgspec.structs.replace(tiny.model, preprocess=preprocess)
    coreml.build(BuildSource(float_model=lambda: model, onnx=tiny.onnx), "float16", {"input": "image"}, tmp_path)
    pixels = np.random.default_rng(4).integers(0, 256, (3, 3, 32, 32)).astype(np.float32)
    mean, std = (np.asarray(one, np.float32).reshape(3, 1, 1) for one in (preprocess.mean, preprocess.std))
    from edgevit.graph.execute import Executor

    with Executor(tiny.onnx.path, exact=True) as executor:
        expected = executor.run({"pixel_values": ((pixels / 255 - mean) / std).astype(np.float32)})["logits"]
    assert sqnr_db(expected, computed(tmp_path, pixels)) > 40


@needs_coremltools
def test_the_weights_are_as_narrow_as_they_are_called(packed: Any) -> None:
    sizes = {one: sum(path.stat().st_size for path in packed(one)[0].rglob("weight.bin")) for one in coreml.precisions}
    quantized = sum(96 * 32 + 32 * 32 + 2 * 64 * 32 for _ in range(2))
    convolution, head = 32 * 3 * 64, 10 * 32
    saved = {one: sizes["float16"] - size for one, size in sizes.items()}
    # A scale and a zero point for each channel, a palette of 16 numbers for 16 of them, and 64 bytes to align each.
    assert 0.75 < saved["int8"] / (quantized + convolution + head) < 1
    assert saved["int8w"] == saved["int8"]
    assert 0.75 < saved["int4w"] / (1.5 * quantized) < 1
    files = {path.name for path in packed("int8")[0].rglob("*") if path.is_file()}
    assert files == {"Manifest.json", "model.mlmodel", "weight.bin", "layers.json"}


@needs_coremltools
def test_the_report_says_what_is_stored_and_that_nothing_was_executed(packed: Any, tiny: Any) -> None:
    names = {entry.name.removesuffix(".weight") for entry in tiny.plan.layers}
    for precision, stored in {"float16": "float16", "int8": "int8", "int8w": "int8", "int4w": "int4 palette"}.items():
        directory, used = packed(precision)
        execution = coreml.compiled(directory)
        assert {layer.name for layer in execution.layers} == names
        narrow = {layer.name for layer in execution.layers if layer.executed == stored}
        # The head has 320 numbers, too few for a palette; the patch embedding is left as it is.
        assert narrow == (names - {"head", "patch_embed.proj"} if precision == "int4w" else names)
        assert "not executed" in execution.provider and execution.warnings == ()
        assert used["minimum"] == ("iOS18" if precision == "int4w" else "iOS17")
        assert "layer_norm" in used["operators"]
    assert packed("int8")[1]["int8_layers"] == "10 of 10"


# ------------------------------------------------------------------------------------------ what is wrong


@needs_coremltools
def test_a_scale_that_float16_cannot_hold_is_refused(tiny: Any, tmp_path: Any) -> None:
    first, *others = tiny.plan.layers
    small = msgspec.structs.replace(first, input_scale=1e-7)
    plan = msgspec.structs.replace(tiny.plan, layers=(small, *others))
    source = BuildSource(float_model=lambda: tiny.model, onnx=tiny.onnx, plan=plan)
    with pytest.raises(BuildError, match=r"found 1e-07 at patch_embed.proj.weight .*--skip patch_embed.proj"):
        coreml.build(source, "int8", {}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_numbers_that_are_not_the_plans_are_found(packed: Any, tiny: Any) -> None:
    """The check itself: a package of one plan against what another plan would have put there."""
    from edgevit.targets.apple.check import check_package
    from edgevit.targets.apple.convert import Converted, Interface, PlannedLayer

    directory, _ = packed("int8")
    function = open_program(directory / "model.mlpackage")
    codes = next(one for one in function.operations if one.op_type == "conv").weight.op.quantized_data.val
    entry = tiny.plan.layers[0]

    def check(**changes: Any) -> None:
        wanted = {"name": entry.name, "codes": codes, "entry": entry, "inputs": True, **changes}
        layers = (PlannedLayer(**wanted),)
        converted = Converted(interface=Interface(batch=1), layers=layers)
        check_package(directory / "model.mlpackage", tiny.onnx.signature, "int8", converted)

    check()
    replace = msgspec.structs.replace
    with pytest.raises(BuildError, match="the plan's codes of patch_embed.proj.weight"):
        check(codes=codes[::-1])
    with pytest.raises(BuildError, match="the plan's weight scales of patch_embed.proj.weight"):
        check(entry=replace(entry, weight_scale=tuple(2 * scale for scale in entry.weight_scale)))
    with pytest.raises(BuildError, match="the input of patch_embed.proj.weight quantized with"):
        check(entry=replace(entry, input_scale=2 * entry.input_scale))
    wrong = Converted(interface=Interface(batch=2))
    with pytest.raises(BuildError, match="expected a Core ML package with the interface"):
        check_package(directory / "model.mlpackage", tiny.onnx.signature, "float16", wrong)


@needs_coremltools
def test_palettes_of_a_model_whose_biases_are_one_constant(make_vit: Any, lower_model: Any, tmp_path: Any) -> None:
    """Zeros everywhere, which the converter stores once for the convolution and the linear layers."""
    model = make_vit(untrained=True, depth=1)
    onnx = lower_model(model, tmp_path / "zeros.onnx")
    out = tmp_path / "out"
    out.mkdir()
    coreml.build(BuildSource(float_model=lambda: model, onnx=onnx), "int4w", {}, out)
    assert {layer.executed for layer in coreml.compiled(out).layers} == {"float16", "int4 palette"}


@needs_coremltools
def test_a_model_it_refuses_is_one_line(tiny: Any, tmp_path: Any) -> None:
    import torch

    class Strange(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(x).mean((2, 3))

    model = msgspec.structs.replace(tiny.model, module=Strange())
    source = BuildSource(float_model=lambda: model, onnx=tiny.onnx)
    with pytest.raises(BuildError, match="coremltools refused tiny: ") as caught:
        coreml.build(source, "float16", {}, tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@needs_coremltools
def test_a_class_token_as_large_as_a_matrix_stays_no_palette(make_vit: Any, lower_model: Any, tmp_path: Any) -> None:
    """ViT-B's has 768 numbers; coremltools' own list of weights fails on one that a concat reads."""
    model = make_vit(depth=1, dim=512)
    onnx = lower_model(model, tmp_path / "wide.onnx")
    out = tmp_path / "out"
    out.mkdir()
    coreml.build(BuildSource(float_model=lambda: model, onnx=onnx), "int4w", {}, out)
    palettes = {layer.name for layer in coreml.compiled(out).layers if layer.executed == "int4 palette"}
    assert {"blocks.0.attn.qkv", "blocks.0.mlp.fc2"} <= palettes and "patch_embed.proj" not in palettes
