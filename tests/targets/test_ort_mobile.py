"""What only the `.ort` of ONNX Runtime Mobile has: a format with a version, a device in mind, and its operators."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.targets import get_target, ort_mobile, parse_target
from edgevit.targets.base import BuildSource
from edgevit.targets.flatbuffer import file_identifier

CONFIG = "required_operators_and_types.config"


def test_it_is_found_by_its_name() -> None:
    assert get_target("ort-mobile") is ort_mobile
    assert parse_target("ort-mobile:int8") == ("ort-mobile", "int8")


@pytest.mark.parametrize("precision", ort_mobile.precisions)
def test_a_build_is_one_model_and_its_operators(built, precision) -> None:
    build = built(f"ort-mobile:{precision}")
    assert sorted(path.name for path in build.directory.iterdir()) == ["model.ort", CONFIG]
    assert file_identifier((build.directory / "model.ort").read_bytes()) == "ORTM"
    assert build.build.options == {"target_platform": "arm", "format": "6", "opset": "21"}


@pytest.mark.parametrize("precision", ort_mobile.precisions)
def test_the_parser_of_a_minimal_build_finds_every_operator(built, precision) -> None:
    """The operators that one run executes are listed, and ONNX Runtime's own build reads the list."""
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    build = built(f"ort-mobile:{precision}")
    operators, _ = parse_config(str(build.directory / CONFIG), True)
    listed = {name for versions in operators.values() for names in versions.values() for name in names}
    session = build.open()
    executed = {layer.kernel for layer in session.execution().layers}
    session.close()
    assert executed <= listed
    assert "MultiHeadAttention" in listed
    assert ("MatMulIntegerToFloat" in listed) == (precision == "int8")


@pytest.mark.parametrize("precision", ort_mobile.precisions)
@pytest.mark.parametrize("part", ["transformer.encoder", "transformer.decoder"])
def test_a_minimal_build_has_what_each_part_of_a_translator_needs(
    part, precision, sequences, planned, build_with
) -> None:
    """Every operator that the file itself holds, under its domain and version, is in the list beside it."""
    from onnxruntime.tools.ort_format_model.ort_flatbuffers_py.fbs.InferenceSession import InferenceSession
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    plan = planned(part)[0] if precision == "int8" else None
    build = build_with(sequences.onnx(part), f"ort-mobile:{precision}", plan)
    graph = InferenceSession.GetRootAs((build.directory / "model.ort").read_bytes(), 0).Model().Graph()
    nodes = [graph.Nodes(index) for index in range(graph.NodesLength())]
    held = {((node.Domain() or b"").decode(), node.SinceVersion(), node.OpType().decode()) for node in nodes}
    operators, _ = parse_config(str(build.directory / CONFIG), True)
    listed = {
        ("" if domain == "ai.onnx" else domain, version, name)
        for domain, versions in operators.items()
        for version, names in versions.items()
        for name in names
    }
    assert len(nodes) > 20 and held <= listed
    names = {name for _, _, name in held}
    assert {"Gather", "MultiHeadAttention", "SkipLayerNormalization"} <= names
    assert ("MatMulIntegerToFloat" in names) == (precision == "int8")


def test_the_operators_carry_no_path_of_this_machine(built) -> None:
    build = built("ort-mobile:int8")
    text = (build.directory / CONFIG).read_text()
    assert str(build.directory) not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == text.splitlines()[:1]
    assert CONFIG in text.splitlines()[0]


def test_building_says_nothing_by_itself(build_with, tiny, capfd, caplog) -> None:
    """The tool that lists the operators logs where it has written them."""
    build_with(tiny.onnx, "ort-mobile:float32")
    assert capfd.readouterr().err == ""
    assert [record.message for record in caplog.records if record.name.startswith("ort_format")] == []


def test_nothing_in_it_is_for_this_processor_only(built) -> None:
    """No blocked layouts, and signed activations, which x86-64 without VNNI would want unsigned."""
    for precision in ort_mobile.precisions:
        assert "nchwc" not in (built(f"ort-mobile:{precision}").directory / CONFIG).read_text().lower()
    quantize = (built("ort-mobile:int8").directory / CONFIG).read_text().partition("QuantizeLinear")[2]
    assert quantize.startswith('{"outputs": {"0": ["int8_t"]}}')


def test_its_int8_is_a_third_of_its_float32(build_with, make_vit, lower_model, min_max_plan, tmp_path) -> None:
    onnx = lower_model(make_vit(dim=128, heads=4), tmp_path / "wider.onnx")
    images = {"pixel_values": np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)}
    full = build_with(onnx, "ort-mobile:float32").directory / "model.ort"
    narrow = build_with(onnx, "ort-mobile:int8", min_max_plan(onnx, [images])).directory / "model.ort"
    assert narrow.stat().st_size < 0.4 * full.stat().st_size


def copied(good, directory):
    shutil.copytree(good.directory, directory)
    return type(good)(directory, good.build), directory / "model.ort"


@pytest.mark.parametrize("keep", [0.02, 0.3, 0.99])
def test_a_truncated_file_is_refused(built, tmp_path, keep) -> None:
    copy, path = copied(built("ort-mobile:float32"), tmp_path / "copy")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(BundleError, match="export it again") as caught:
        copy.open()
    assert str(path) in str(caught.value)


def test_a_file_of_another_version_of_the_format_names_it(built, tmp_path) -> None:
    copy, path = copied(built("ort-mobile:float32"), tmp_path / "copy")
    content = path.read_bytes()
    version = b"\x01\x00\x00\x006\x00"  # a text's length, the text, and its end
    assert content.count(version) == 1
    path.write_bytes(content.replace(version, b"\x01\x00\x00\x009\x00"))
    with pytest.raises(BundleError, match=r"version \[9\] is not supported") as caught:
        copy.open()
    assert "\n" not in str(caught.value)


def test_a_file_of_another_schema_is_named_as_what_it_is(built, tmp_path) -> None:
    copy, path = copied(built("ort-mobile:float32"), tmp_path / "copy")
    path.write_bytes(b"\x18\x00\x00\x00TFL3" + bytes(64))
    with pytest.raises(BundleError, match=r"identifier ORTM\), found 'TFL3'"):
        copy.open()


def test_an_onnx_file_is_not_taken_for_one(built, tmp_path) -> None:
    copy, path = copied(built("ort-mobile:float32"), tmp_path / "copy")
    shutil.copyfile(built("onnxruntime:float32").directory / "model.onnx", path)
    with pytest.raises(BundleError, match="no .ort file, export it again"):
        copy.open()


def test_options_are_refused(tiny, tmp_path) -> None:
    with pytest.raises(InputError, match="expected no options of ort-mobile, found optimize=no"):
        ort_mobile.build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", {"optimize": "no"}, tmp_path)


def test_int8_needs_a_plan(tiny, tmp_path) -> None:
    with pytest.raises(BuildError, match="ort-mobile:int8, found none; calibrate first"):
        ort_mobile.build(BuildSource(float_model=None, onnx=tiny.onnx), "int8", {}, tmp_path)


def test_a_model_beyond_the_formats_limit_is_refused(tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(ort_mobile, "LARGEST", 1000)
    with pytest.raises(BuildError, match="below 2 GB for ort-mobile"):
        ort_mobile.build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", {}, tmp_path)


def test_a_missing_engine_is_named_with_its_extra(built, without_package, tiny, tmp_path) -> None:
    build = built("ort-mobile:float32")
    without_package("onnxruntime")
    assert get_target("ort-mobile").availability().run_fix == "pip install 'edgevit[onnxruntime]'"
    with pytest.raises(UnavailableError, match=r"the target ort-mobile needs .*edgevit\[onnxruntime\]"):
        build.open()
    with pytest.raises(UnavailableError, match=r"edgevit\[onnxruntime\]"):
        ort_mobile.build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", {}, tmp_path)
