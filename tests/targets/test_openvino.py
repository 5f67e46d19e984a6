"""What only OpenVINO has: bfloat16, a compile cache, blobs, streams."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgevit.errors import BuildError, UnavailableError
from edgevit.targets import openvino
from edgevit.targets.base import BuildSource, ClosedSession, OpenOptions


def test_bfloat16_is_refused_where_the_processor_has_none(tiny, tmp_path, monkeypatch):
    import openvino as ov

    class Core(ov.Core):
        def get_property(self, *arguments):
            return (
                ["FP32", "INT8"] if arguments[-1] == "OPTIMIZATION_CAPABILITIES" else super().get_property(*arguments)
            )

    monkeypatch.setattr(openvino, "_core", Core)
    source = BuildSource(float_model=None, onnx=tiny.onnx)
    for precision, options in (("bfloat16", {}), ("float32", {"float_layers": "bf16"})):
        with pytest.raises(UnavailableError, match=r"bfloat16.*build float32 or int8 here") as caught:
            openvino.build(source, precision, options, tmp_path)
        assert caught.value.exit_status == 3
        assert list(tmp_path.iterdir()) == []


def test_bfloat16_is_executed_where_it_is_built(built, tiny, sessions):
    try:
        build = built("openvino:bfloat16")
    except UnavailableError as error:
        pytest.skip(f"not executed here: {error}")
    sessions.append(session := build.open())
    assert session.execution().precision == "bfloat16"
    assert session.run(tiny.images)["logits"].shape == (12, 10)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
def test_float_layers_are_really_float32(precision, built, sessions):
    """By itself the plugin takes bfloat16 where the processor has it, so it is always told."""
    sessions.append(session := built(f"openvino:{precision}").open())
    assert session._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    for options in (OpenOptions(), OpenOptions(threads=2, streams=2)):
        assert openvino._properties("f32", options)["INFERENCE_PRECISION_HINT"] == "f32"


@pytest.mark.parametrize("capable", [True, False])
def test_float_layers_of_int8_run_in_bfloat16_where_the_processor_does(
    capable, build_with, tiny, sessions, monkeypatch
):
    """Chosen where it is built; a device without bfloat16 then runs float32, and one with it what was proved."""
    monkeypatch.setattr(openvino, "why_not", lambda precision: "" if capable else "no bfloat16 here")
    build = build_with(tiny.onnx, "openvino:int8", tiny.plan)
    assert build.build.options == {"float_layers": "bf16" if capable else "f32"}
    monkeypatch.setattr(openvino, "why_not", lambda precision: "no bfloat16 here")
    sessions.append(session := build.open())
    assert session._compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
    monkeypatch.setattr(openvino, "why_not", lambda precision: "")
    assert openvino._hint_here(build.build) == build.build.options["float_layers"]


def test_the_second_time_comes_from_the_cache(built, tiny, sessions, tmp_path):
    build = built("openvino:int8")
    sessions.append(first := build.open(cache_dir=tmp_path / "cache"))
    assert not first.loaded_from_cache()
    sessions.append(second := build.open(cache_dir=tmp_path / "cache"))
    assert second.loaded_from_cache()
    np.testing.assert_array_equal(second.run(tiny.images)["logits"], first.run(tiny.images)["logits"])
    sessions.append(plain := build.open())
    assert not plain.loaded_from_cache()


def test_a_blob_is_used_and_a_foreign_one_is_not_fatal(build_with, tiny, sessions):
    blob = build_with(tiny.onnx, "openvino:int8", tiny.plan, blob="yes", float_layers="f32")
    assert blob.build.options == {"float_layers": "f32", "blob": "yes"}
    assert (blob.directory / "model.blob").stat().st_size > 1000
    sessions.append(session := blob.open())
    expected = session.run(tiny.images)["logits"]
    assert session.execution().quantized_executed == 10
    # Without the IR only the blob can have been opened.
    hidden = (blob.directory / "model.xml").rename(blob.directory / "hidden.xml")
    sessions.append(alone := blob.open())
    np.testing.assert_array_equal(alone.run(tiny.images)["logits"], expected)
    hidden.rename(blob.directory / "model.xml")
    (blob.directory / "model.blob").write_bytes(b"made elsewhere")
    sessions.append(fallen_back := blob.open())
    np.testing.assert_allclose(fallen_back.run(tiny.images)["logits"], expected, atol=1e-4)


def test_streams_make_as_many_requests(built, sessions):
    sessions.append(session := built("openvino:float32").open(threads=2, streams=2))
    cores = len(os.sched_getaffinity(0))  # OpenVINO has no more streams than that
    assert session._compiled.get_property("NUM_STREAMS") == min(2, cores)
    assert session._requests.qsize() == 2


def test_a_file_that_is_no_model_is_a_build_error(tiny, tmp_path):
    import msgspec

    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"not a model")
    source = BuildSource(float_model=None, onnx=msgspec.structs.replace(tiny.onnx, path=wrong))
    with pytest.raises(BuildError, match=r"OpenVINO refused wrong\.onnx") as caught:
        openvino.build(source, "float32", {}, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_closed_session_tells_nothing_any_more(built):
    session = built("openvino:float32").open()
    session.close()
    for question in (session.execution, session.loaded_from_cache):
        with pytest.raises(ClosedSession):
            question()


def test_a_layer_that_runs_in_float_is_warned_about(built, monkeypatch, sessions):
    sessions.append(session := built("openvino:int8").open())
    executed = openvino._executed

    def with_one_in_float(runtime):
        return {**executed(runtime), "head": ("float32", "jit_f32")}

    monkeypatch.setattr(openvino, "_executed", with_one_in_float)
    execution = session.execution()
    assert execution.warnings == ("head was asked for in int8 and runs in float32",)
    assert (execution.quantized_requested, execution.quantized_executed) == (10, 9)


def test_a_layer_that_the_engine_does_not_show_is_warned_about(built, monkeypatch, sessions):
    sessions.append(session := built("openvino:int8").open())
    executed = openvino._executed
    monkeypatch.setattr(
        openvino, "_executed", lambda runtime: {k: v for k, v in executed(runtime).items() if k != "head"}
    )
    execution = session.execution()
    assert (execution.quantized_requested, execution.quantized_executed) == (10, 9)
    assert execution.warnings == ("head was asked for in int8 and runs in unknown",)


def test_control_c_still_works_after_models_come_and_go(built):
    build = built("openvino:float32")
    code = """
import pickle, signal, sys
from pathlib import Path
build, directory = pickle.loads(sys.stdin.buffer.read())
from edgevit.targets import openvino
from edgevit.targets.base import OpenOptions
first = openvino.open(Path(directory), build, OpenOptions())
second = openvino.open(Path(directory), build, OpenOptions())
for session in (first, second):
    session.close()
del first, second, session
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""
    state = pickle.dumps((build.build, str(build.directory)))
    result = subprocess.run([sys.executable, "-c", code], input=state, capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (0, b"interrupted\n"), result.stderr


def test_the_first_calls_of_several_threads_cannot_wait_for_each_other(monkeypatch):
    """OpenVINO's table of types deadlocks when two threads are the first to need it: it is made with the Core."""
    import openvino as ov

    made = []

    class FirstLook:
        def to_dtype(self):
            made.append("types")

    def core():
        made.append("core")
        return object()

    monkeypatch.setattr(ov, "Type", type("Type", (), {"f32": FirstLook()}))
    monkeypatch.setattr(ov, "Core", core)
    monkeypatch.setattr(openvino, "_made_core", functools.cache(openvino._made_core.__wrapped__))
    with ThreadPoolExecutor(4) as pool:
        cores = set(pool.map(lambda _: openvino._core(), range(16)))
    assert (made, len(cores)) == (["types", "core"], 1)
