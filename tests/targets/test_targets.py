"""What every target of this machine has in common: it builds, opens, runs alike, and says what it executes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import get_target, parse_target, target_names
from edgevit.targets.base import BuildSource, ClosedSession

BUILDS = (
    "openvino:float32",
    "openvino:float16",
    "openvino:int8",
    "onnxruntime:float32",
    "onnxruntime:int8",
    "ort-mobile:float32",
    "ort-mobile:int8",
)
FLOATS = {"openvino:float32": 100, "openvino:float16": 55, "onnxruntime:float32": 100, "ort-mobile:float32": 100}
"""SQNR against the float ONNX; a float16 IR holds its weights in 11 bits."""
ENGINES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def reference(tiny):
    from edgevit.graph.execute import Executor

    with Executor(tiny.onnx.path, exact=True) as executor:
        return executor.run(tiny.images)["logits"]


@pytest.fixture(scope="module")
def simulated(tiny, tmp_path_factory):
    from edgevit.graph.execute import Executor
    from edgevit.quantize.write_onnx import WriteOptions, write_quantized

    def run(kinds):
        path = tmp_path_factory.mktemp("simulated") / "q.onnx"
        write_quantized(tiny.onnx, tiny.plan, path, WriteOptions(kinds=frozenset(kinds)))
        with Executor(path, exact=True) as executor:
            return executor.run(tiny.images)["logits"]

    return run


# -------------------------------------------------------------------------------------------- right results


@pytest.mark.parametrize("wanted", FLOATS)
def test_float_builds_compute_what_the_float_graph_computes(wanted, built, tiny, reference, sessions):
    sessions.append(session := built(wanted).open())
    outputs = session.run(tiny.images)
    assert list(outputs) == ["logits"]
    assert outputs["logits"].dtype == np.float32
    assert sqnr_db(reference, outputs["logits"]) > FLOATS[wanted]


def test_float16_is_half_the_size_and_really_rounded(built, tiny, reference, sessions):
    full, half = built("openvino:float32").directory, built("openvino:float16").directory
    assert (half / "model.bin").stat().st_size < 0.55 * (full / "model.bin").stat().st_size
    sessions.append(session := built("openvino:float16").open())
    assert sqnr_db(reference, session.run(tiny.images)["logits"]) < 90


@pytest.mark.parametrize(
    ("wanted", "kinds"),
    [
        ("openvino:int8", ("linear", "conv")),
        ("onnxruntime:int8", ("linear",)),
        ("ort-mobile:int8", ("linear",)),
    ],
)
def test_int8_builds_compute_what_was_simulated(wanted, kinds, built, tiny, reference, simulated, sessions):
    """Integer kernels round as the simulation does; what is left is float32 noise that tips a code now and then."""
    sessions.append(session := built(wanted).open())
    found = session.run(tiny.images)["logits"]
    assert sqnr_db(simulated(kinds), found) > 40
    assert 15 < sqnr_db(reference, found) < 60, "it is quantized"


@pytest.mark.parametrize("wanted", BUILDS)
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_batch_gives_each_image_its_own_result(wanted, batch, built, tiny, sessions):
    sessions.append(session := built(wanted).open())
    everything = session.run(tiny.images)["logits"]
    part = session.run({"pixel_values": tiny.images["pixel_values"][:batch]})["logits"]
    tolerance = 0.05 if wanted.endswith("int8") else 1e-4
    np.testing.assert_allclose(part, everything[:batch], atol=tolerance * np.abs(everything).max())


@pytest.mark.parametrize("wanted", BUILDS)
def test_arrays_need_not_be_contiguous(wanted, built, tiny, sessions):
    sessions.append(session := built(wanted).open())
    pixels = tiny.images["pixel_values"]
    mirrored = pixels[:, :, :, ::-1]
    transposed = pixels.transpose(0, 1, 3, 2)
    for view in (mirrored, transposed, pixels[::2]):
        assert not view.flags.c_contiguous
        expected = session.run({"pixel_values": np.ascontiguousarray(view)})["logits"]
        np.testing.assert_array_equal(session.run({"pixel_values": view})["logits"], expected)


@pytest.mark.parametrize("wanted", BUILDS)
def test_results_are_the_callers_own(wanted, built, tiny, sessions):
    """A later call must not write into an earlier result, nor a change of the input into a running one."""
    sessions.append(session := built(wanted).open())
    first = session.run(tiny.batches[0])["logits"]
    kept = first.copy()
    session.run(tiny.batches[1])
    np.testing.assert_array_equal(first, kept)
    first += 1
    np.testing.assert_array_equal(session.run(tiny.batches[0])["logits"], kept)


# ------------------------------------------------------------------------------------- what is executed


@pytest.mark.parametrize("wanted", ["openvino:int8", "onnxruntime:int8", "ort-mobile:int8"])
def test_every_linear_layer_of_the_plan_is_executed_in_int8(wanted, built, tiny, sessions):
    sessions.append(session := built(wanted).open())
    execution = session.execution()
    linear = {entry.name.removesuffix(".weight") for entry in tiny.plan.layers if entry.kind == "linear"}
    executed = {layer.name for layer in execution.layers if layer.executed == "int8"}
    assert executed >= linear
    assert execution.quantized_requested == execution.quantized_executed == len(executed)
    assert execution.precision == "int8"
    assert execution.warnings == ()
    assert execution.instruction_set
    embedding = next(layer for layer in execution.layers if layer.name == "patch_embed.proj")
    assert embedding.executed == ("int8" if wanted.startswith("openvino") else "float32")
    assert all(layer.kernel for layer in execution.layers)


@pytest.mark.parametrize("wanted", FLOATS)
def test_float_builds_execute_no_integers(wanted, built, sessions):
    sessions.append(session := built(wanted).open())
    execution = session.execution()
    assert execution.precision == "float32"
    assert (execution.quantized_requested, execution.quantized_executed) == (0, 0)
    assert {layer.executed for layer in execution.layers} == {"float32"}
    assert len(execution.layers) == 10


@pytest.mark.parametrize("target", ENGINES)
def test_a_session_knows_its_engine_and_signature(target, built, tiny, sessions):
    sessions.append(session := built(f"{target}:float32").open())
    assert session.engine.name == target
    assert session.engine.version[0].isdigit()
    assert session.signature == tiny.onnx.signature


# ------------------------------------------------------------------------------------- sharing and closing


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("wanted", ["openvino:int8", "onnxruntime:int8", "openvino:float32", "ort-mobile:int8"])
def test_eight_threads_get_the_results_of_one(wanted, streams, built, tiny, sessions):
    sessions.append(session := built(wanted).open(threads=2, streams=streams))
    images = tiny.images["pixel_values"]
    expected = [session.run({"pixel_values": images[i : i + 1]})["logits"] for i in range(8)]

    def calls(index):
        return [session.run({"pixel_values": images[index : index + 1]})["logits"] for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        for index, results in enumerate(pool.map(calls, range(8))):
            for result in results:
                np.testing.assert_array_equal(result, expected[index])


@pytest.mark.parametrize("target", ENGINES)
def test_after_close_it_says_so(target, built, tiny):
    session = built(f"{target}:float32").open()
    session.run(tiny.batches[0])
    session.close()
    session.close()
    with pytest.raises(ClosedSession, match=f"{target}-float32 already closed; call edgevit.load again"):
        session.run(tiny.batches[0])


@pytest.mark.parametrize("target", ENGINES)
def test_closing_while_others_run_neither_crashes_nor_hangs(target, built, tiny):
    session = built(f"{target}:float32").open(streams=1)

    def call(_):
        try:
            return session.run(tiny.batches[0])["logits"].shape
        except ClosedSession:
            return None

    with ThreadPoolExecutor(4) as pool:
        results = pool.map(call, range(40))
        session.close()
        assert set(results) <= {(4, 10), None}


# ---------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("wanted", "file"),
    [
        ("openvino:float32", "model.bin"),
        ("openvino:int8", "model.xml"),
        ("onnxruntime:int8", "model.onnx"),
        ("ort-mobile:int8", "model.ort"),
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "foreign"])
def test_damaged_files_are_one_line(wanted, file, damage, built, tmp_path):
    import shutil

    good = built(wanted)
    directory = tmp_path / "copy"
    shutil.copytree(good.directory, directory)
    path = directory / file
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {"truncated": content[: len(content) // 2], "empty": b"", "foreign": b"not a model" * 99}[damage]
        )
    with pytest.raises(BundleError) as caught:
        type(good)(directory, good.build).open()
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    assert "export it again" in message
    assert caught.value.exit_status == 1


@pytest.mark.parametrize("target", ENGINES)
def test_a_missing_engine_is_named_with_its_extra(target, built, without_package, tiny, tmp_path):
    build = built(f"{target}:float32")
    without_package(target)
    state = get_target(target).availability()
    assert (state.build, state.run) == (False, False)
    assert state.run_fix == f"pip install 'edgevit[{target}]'"
    with pytest.raises(UnavailableError, match=rf"'{target}', which is not installed.*edgevit\[{target}\]") as caught:
        build.open()
    assert caught.value.exit_status == 3
    with pytest.raises(UnavailableError, match=rf"edgevit\[{target}\]"):
        get_target(target).build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", {}, tmp_path)


def test_engines_say_their_version():
    for target in ENGINES:
        state = get_target(target).availability()
        assert state.build
        assert state.run
        assert state.version


@pytest.mark.parametrize("target", ENGINES)
def test_int8_needs_a_plan(target, tiny, tmp_path):
    with pytest.raises(BuildError, match=f"{target}:int8, found none; calibrate first"):
        get_target(target).build(BuildSource(float_model=None, onnx=tiny.onnx), "int8", {}, tmp_path)


@pytest.mark.parametrize("target", ENGINES)
def test_unknown_options_list_the_known(target, tiny, tmp_path):
    for options in ({"colour": "blue"}, {"blob": "perhaps"}, {"optimize": "perhaps"}):
        with pytest.raises(InputError, match=r"expected options of .*yes\|no.*found"):
            get_target(target).build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", options, tmp_path)


def test_unknown_targets_and_precisions_list_the_choices():
    with pytest.raises(InputError, match=r"one of openvino, onnxruntime.*'open_vino'") as caught:
        get_target("open_vino")
    assert caught.value.exit_status == 2
    with pytest.raises(
        InputError, match=r"one of float32, float16, bfloat16, int8, int8d, int8w; found 'int9' in 'openvino:int9'"
    ):
        parse_target("openvino:int9")
    assert parse_target("openvino") == ("openvino", "float32")
    assert parse_target("onnxruntime:int8") == ("onnxruntime", "int8")


def test_other_packages_can_add_targets(monkeypatch):
    from importlib.metadata import EntryPoint, EntryPoints

    points = EntryPoints([EntryPoint("mine", "json.decoder:JSONDecoder", "edgevit.targets")])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **wanted: points.select(**wanted))
    assert target_names()[-1] == "mine"
    assert get_target("mine").__name__ == "JSONDecoder"
