"""LiteRT: what is written, and what its own runtime makes of the file here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import get_target, litert, parse_target
from edgevit.targets.base import Availability, BuildSource, ClosedSession, OpenOptions
from edgevit.targets.delegation import read_delegation
from edgevit.types import OnnxModel, Signature, TensorSpec

needs_litert = pytest.mark.skipif(
    find_spec("ai_edge_litert") is None,
    reason="LiteRT is not installed, so nothing was written or executed; pip install 'edgevit[litert]'",
)
FLOORS = {"float32": 100, "int8": 15, "int8d": 20}


@pytest.fixture(scope="module")
def made(tiny: Any, whole_plan: Any, build_with: Any) -> Any:
    """(precision) -> the tiny model's build; not to be changed."""
    done: dict[str, Any] = {}

    def get(precision: str) -> Any:
        if precision not in done:
            plan = None if precision == "float32" else whole_plan
            done[precision] = build_with(tiny.onnx, f"litert:{precision}", plan, batches="1,8")
        return done[precision]

    return get


# ----------------------------------------------------------------------------------------- without the wheel


def test_it_is_found_by_its_name() -> None:
    assert get_target("litert") is litert
    assert parse_target("litert:int8d") == ("litert", "int8d")


def test_without_the_wheel_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert, "installed_version", lambda *names: None)
    command = "pip install 'edgevit[litert]'"
    assert litert.availability() == Availability(build=False, run=False, build_fix=command, run_fix=command)


def test_building_and_opening_without_the_wheel_exit_with_3(tiny: Any, tmp_path: Any, without_package: Any) -> None:
    without_package("ai_edge_litert")
    with pytest.raises(
        UnavailableError, match=r"'ai-edge-litert', which is not installed.*edgevit\[litert\]"
    ) as caught:
        litert.build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", {}, tmp_path)
    assert caught.value.exit_status == 3
    with pytest.raises(UnavailableError, match=r"edgevit\[litert\]"):
        litert.open(tmp_path, None, OpenOptions())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"threads": "2"}, "threads=2"),
        ({"batches": "0"}, "batches=0"),
        ({"batches": "1,x"}, "batches=1,x"),
        ({"min_delegated": "95%"}, "min_delegated=95%"),
        ({"min_delegated": "1.5"}, "min_delegated=1.5"),
    ],
)
def test_bad_options_are_found_before_any_work(tiny: Any, tmp_path: Any, options: Any, found: str) -> None:
    with pytest.raises(InputError, match=f"expected options of litert.*found {found}"):
        litert.build(BuildSource(float_model=None, onnx=tiny.onnx), "float32", options, tmp_path)


@needs_litert
@pytest.mark.parametrize("dtype", ["uint8", "float16"])
def test_types_it_cannot_keep_are_refused(tmp_path: Any, dtype: Any) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=("batch", 8))
    model = OnnxModel(path=tmp_path / "x.onnx", signature=Signature(inputs=(spec,), outputs=()), opset=23, digest="")
    with pytest.raises(
        InputError, match=f"inputs of float32, int64, int32, bool for litert, found {dtype} at x; build"
    ):
        litert.build(BuildSource(float_model=None, onnx=model), "float32", {}, tmp_path)


@needs_litert
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (("batch", "height", 2, "width"), r"at most one free length where litert reshapes y, found \(1, -1, 2, -1\)"),
        (("batch", "height*width"), r"no dynamic dimension but batch, height, width .* found height\*width at y"),
    ],
)
def test_dynamic_sizes_it_cannot_follow_are_refused(tmp_path: Any, made: Any, message: str) -> None:
    """A dynamic request to a target whose files say the shapes, but for one length."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "height", "width", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, made)
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [0, -1])
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"], "r")], "g", [x], [y], [shape])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), tmp_path / "x.onnx")
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", "height", "width", 2))
    signature = Signature(inputs=(spec,), outputs=(TensorSpec(name="y", dtype="float32", shape=made),))
    model = OnnxModel(path=tmp_path / "x.onnx", signature=signature, opset=23, digest="")
    (tmp_path / "out").mkdir()
    with pytest.raises(BuildError, match=message):
        litert.build(BuildSource(float_model=None, onnx=model), "float32", {}, tmp_path / "out")


@needs_litert
@pytest.mark.parametrize("precision", ["int8", "int8d"])
def test_int8_needs_a_plan(precision: Any, tiny: Any, tmp_path: Any) -> None:
    with pytest.raises(BuildError, match=f"litert:{precision}, found none; calibrate first"):
        litert.build(BuildSource(float_model=None, onnx=tiny.onnx), precision, {}, tmp_path)


@needs_litert
def test_an_operator_it_does_not_know_is_named(tiny: Any, tmp_path: Any) -> None:
    from edgevit.graph import storage

    graph = storage.load(tiny.onnx.path)
    node = next(one for one in graph.graph if one.op_type == "Gelu")
    node.op_type = "Mish"
    storage.save(graph, tmp_path / "strange.onnx")
    model = msgspec.structs.replace(tiny.onnx, path=tmp_path / "strange.onnx")
    with pytest.raises(BuildError, match="expected operators that litert knows, found Mish at .*build onnxruntime"):
        litert.build(BuildSource(float_model=None, onnx=model), "float32", {}, tmp_path)


@needs_litert
def test_more_weights_than_a_file_holds_are_refused(
    tiny: Any, whole_plan: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a limit between the float32 and the int8 weights of the tiny model, for two gigabytes are no test's size."""
    monkeypatch.setattr("edgevit.targets.tflite.model.LARGEST", 60_000)
    source = BuildSource(float_model=None, onnx=tiny.onnx, plan=whole_plan)
    with pytest.raises(BuildError, match=r"weights of at most .* GB for litert, .* build int8 .*or onnxruntime"):
        litert.build(source, "float32", {}, tmp_path)
    assert list(tmp_path.iterdir()) == []
    litert.build(source, "int8", {}, tmp_path)


# -------------------------------------------------------------------------------------------- right results


@needs_litert
@pytest.mark.parametrize("precision", litert.precisions)
def test_it_computes_what_the_model_computes(precision: str, made: Any, tiny: Any, reference: Any) -> None:
    found = made(precision).open().run(tiny.images)["logits"]
    assert found.dtype == np.float32
    assert sqnr_db(reference, found) > FLOORS[precision]
    assert precision == "float32" or sqnr_db(reference, found) < 60, "it is quantized"


@needs_litert
@pytest.mark.parametrize("precision", litert.precisions)
@pytest.mark.parametrize("batch", [1, 2, 8, 11])
def test_every_batch_gives_each_image_its_own_result(precision: str, batch: int, made: Any, tiny: Any) -> None:
    session = made(precision).open()
    images = tiny.images["pixel_values"]
    expected = np.concatenate([session.run({"pixel_values": images[i : i + 1]})["logits"] for i in range(batch)])
    found = session.run({"pixel_values": images[:batch]})["logits"]
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())


@needs_litert
def test_a_batch_that_no_graph_is_for_is_refused(tiny: Any, build_with: Any) -> None:
    session = build_with(tiny.onnx, "litert:float32", batches="2").open()
    assert session.run({"pixel_values": tiny.images["pixel_values"][:4]})["logits"].shape == (4, 10)
    with pytest.raises(InputError, match=r"a multiple of a batch that litert-float32 was built for \(2\), found 3"):
        session.run({"pixel_values": tiny.images["pixel_values"][:3]})


@needs_litert
def test_graphs_share_their_weights(made: Any, tiny: Any, build_with: Any) -> None:
    both = (made("int8").directory / "model.tflite").stat().st_size
    one = (build_with(tiny.onnx, "litert:float32", batches="1").directory / "model.tflite").stat().st_size
    two = (build_with(tiny.onnx, "litert:float32", batches="1,2").directory / "model.tflite").stat().st_size
    weights = 4 * 2 * (96 * 32 + 32 * 32 + 2 * 64 * 32)
    assert two - one < weights / 2
    assert both < two


@needs_litert
@pytest.mark.parametrize("streams", [1, 3])
def test_threads_get_the_results_of_one_and_results_are_their_own(streams: int, made: Any, tiny: Any) -> None:
    session = made("int8").open(streams=streams)
    images = tiny.images["pixel_values"]
    expected = [session.run({"pixel_values": images[i : i + 1]})["logits"] for i in range(8)]

    def call(index: int) -> np.ndarray:
        return session.run({"pixel_values": images[index : index + 1]})["logits"]

    with ThreadPoolExecutor(8) as pool:
        for index, found in enumerate(pool.map(call, list(range(8)) * 5)):
            np.testing.assert_array_equal(found, expected[index % 8])
    mirrored = images[:2, :, :, ::-1]
    kept = session.run({"pixel_values": np.ascontiguousarray(mirrored)})["logits"]
    np.testing.assert_array_equal(session.run({"pixel_values": mirrored})["logits"], kept)
    session.close()
    with pytest.raises(ClosedSession, match="litert-int8 already closed"):
        session.run(tiny.batches[0])


@needs_litert
def test_what_equalization_and_bias_correction_add_is_written(tiny: Any, whole_plan: Any, build_with: Any) -> None:
    """A factor before a layer, and a bias for one that has none: the result is that of the Q/DQ graph."""
    from edgevit.graph.execute import Executor
    from edgevit.quantize.adjust import EXPLICIT

    entries = {entry.name: entry for entry in whole_plan.layers}
    fc2, head = entries["blocks.0.mlp.fc2.weight"], entries["head.weight"]
    factors = tuple(float(2 ** (at % 3 - 1)) for at in range(64))
    replace = msgspec.structs.replace
    changed = {
        fc2.name: replace(fc2, equalization=factors, equalization_into=EXPLICIT, input_scale=2 * fc2.input_scale),
        head.name: replace(head, bias_correction=tuple(0.5 * at for at in range(10)), output_scale=0.1),
    }
    plan = replace(whole_plan, layers=tuple(changed.get(name, entry) for name, entry in entries.items()))
    build = build_with(tiny.onnx, "litert:int8", plan)
    from edgevit.quantize.write_onnx import write_quantized

    write_quantized(tiny.onnx, plan, build.directory.parent / "adjusted.onnx")
    with Executor(build.directory.parent / "adjusted.onnx", exact=True) as executor:
        expected = executor.run(tiny.images)["logits"]
    found = build.open().run(tiny.images)["logits"]
    # Its outputs are eight bits wide too, which costs; without either adjustment it would be below 10 dB.
    assert sqnr_db(expected, found) > 22


@needs_litert
def test_another_dynamic_dimension_is_refused(tiny: Any, tmp_path: Any) -> None:
    import onnx_ir as ir

    from edgevit.graph import storage

    graph = storage.load(tiny.onnx.path)
    node = next(one for one in graph.graph if one.op_type == "Gelu")
    node.outputs[0].shape = ir.Shape(["4*batch", 17, 64])
    storage.save(graph, tmp_path / "windows.onnx")
    model = msgspec.structs.replace(tiny.onnx, path=tmp_path / "windows.onnx")
    with pytest.raises(
        BuildError, match=r"no dynamic dimension but batch in a graph for litert, found 4\*batch at gelu"
    ):
        litert.build(BuildSource(float_model=None, onnx=model), "float32", {}, tmp_path)


# ------------------------------------------------------------------------------------- what is delegated


@needs_litert
@pytest.mark.parametrize("precision", litert.precisions)
def test_the_report_counts_what_the_interpreter_handed_over(precision: str, made: Any, tiny: Any) -> None:
    build = made(precision)
    delegation = read_delegation(build.directory)
    tokens, width, hidden = 17, 32, 64
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens * tokens * width
    assert delegation.macs == 2 * block + 16 * width * 3 * 64 + width * 10
    assert delegation.share_of_macs == delegation.share_of_operators == 1
    assert (delegation.partitions, delegation.fallbacks) == (1, ())
    assert delegation.summary() == build.build.options["delegated"]
    assert delegation.summary() in build.open().execution().provider
    assert {layer.kernel.partition(" ")[0] for layer in delegation.layers} == {"XNNPACK"}


def strange_file() -> bytes:
    """Batch 2: a linear layer, a convolution whose filter is computed, and a gather of an odd kind."""
    from edgevit.targets.tflite.model import GraphWriter, ModelWriter

    writer = ModelWriter("strange")
    graph = GraphWriter(writer, "strange")
    given = graph.tensor("given", (2, 4, 4))
    weight, bias = (graph.constant(name, np.ones(shape, np.float32)) for name, shape in (("w", (4, 4)), ("b", (4,))))
    linear, image = graph.tensor("linear", (2, 4, 4)), graph.tensor("image", (2, 1, 4, 4))
    graph.operator("FULLY_CONNECTED", [given, weight, bias], [linear], "FullyConnectedOptions", {"keepNumDims": True})
    shapes = [
        graph.constant(name, np.asarray(size, np.int32)) for name, size in (("s", (2, 1, 4, 4)), ("k", (4, 1, 2, 4)))
    ]
    graph.operator("RESHAPE", [linear, shapes[0]], [image], "ReshapeOptions", {"newShape": [2, 1, 4, 4]})
    kernel, result = graph.tensor("kernel", (4, 1, 2, 4)), graph.tensor("result", (2, 1, 3, 4))
    graph.operator("RESHAPE", [linear, shapes[1]], [kernel], "ReshapeOptions", {"newShape": [4, 1, 2, 4]})
    fields = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
    graph.operator("CONV_2D", [image, kernel, bias], [result], "Conv2DOptions", fields)
    rows, chosen = graph.constant("rows", np.asarray([2, 0], np.int32)), graph.tensor("chosen", (2, 1, 2, 4))
    graph.operator("GATHER", [result, rows], [chosen], "GatherOptions", {"axis": 2})
    graph.finish("batch_2", {"given": given}, {"chosen": chosen})
    return writer.content()


@needs_litert
def test_what_falls_back_is_listed_with_what_it_costs() -> None:
    from ai_edge_litert.interpreter import Interpreter

    from edgevit.targets.delegation import check_share
    from edgevit.targets.tflite.counting import count_delegation
    from edgevit.targets.tflite.session import allocated

    content = strange_file()
    delegation = count_delegation(allocated(content), "float32", {})
    assert (delegation.operators, delegation.operators_delegated) == (5, 3)
    assert (delegation.macs, delegation.macs_delegated) == (4 * 4 * 4 + 3 * 4 * 8, 4 * 4 * 4)
    conv, gather = delegation.fallbacks
    assert (conv.operator, conv.count, conv.macs) == ("CONV_2D", 1, 3 * 4 * 8)
    assert gather.reason == "the delegate takes none of its kind, here float32, int32 → float32"
    assert [layer.kernel for layer in delegation.layers] == ["XNNPACK FULLY_CONNECTED", "builtin CONV_2D"]
    message = r"at least 95 % of strange's multiply-accumulates in XNNPACK, found 40\.0 % .*left: 1 CONV_2D .*1 GATHER"
    with pytest.raises(BuildError, match=message):
        check_share(delegation, 0.95, "strange")
    check_share(delegation, 0.4, "strange")
    # Another way to ask: one part per operator. Then each is listed alone, with the tensors that it makes.
    single = Interpreter(model_content=content, experimental_disable_delegate_node_fusion=True)
    single.allocate_tensors()
    every = single._get_ops_details()
    handed = {tuple(one["outputs"]) for one in every if one["op_name"] == "DELEGATE"}
    own = [one for one in every if one["op_name"] != "DELEGATE"]
    assert [one["op_name"] for one in own if tuple(one["outputs"]) not in handed] == ["CONV_2D", "GATHER"]


@needs_litert
def test_too_little_delegated_is_a_build_error_that_leaves_nothing(
    tiny: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interpreter without its delegate, as in a LiteRT that was built so."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    def without_delegate(content: bytes) -> Any:
        plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        made = Interpreter(model_content=content, experimental_op_resolver_type=plain)
        made.allocate_tensors()
        return made

    monkeypatch.setattr(litert, "allocated", without_delegate)
    source = BuildSource(float_model=None, onnx=tiny.onnx)
    message = "at least 95 % of litert:float32's .* found 0.0 % .*the delegate took nothing of this graph"
    with pytest.raises(BuildError, match=message) as caught:
        litert.build(source, "float32", {"min_delegated": "0.95"}, tmp_path)
    assert caught.value.exit_status == 1 and list(tmp_path.iterdir()) == []
    assert "0.0 % of multiply-accumulates" in litert.build(source, "float32", {}, tmp_path)["delegated"]


@needs_litert
@pytest.mark.parametrize("layer", ["patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"])
def test_scales_that_end_the_process_are_refused(layer: str, whole_plan: Any, tiny: Any, build_with: Any) -> None:
    """LiteRT 2.3.0 aborts while it opens a file whose input · weight / output scale is 256 or more."""
    entry = next(one for one in whole_plan.layers if one.name == layer)
    largest = entry.input_scale * max(entry.weight_scale)

    def planned(ratio: float) -> Any:
        changed = msgspec.structs.replace(entry, output_scale=largest / ratio)
        layers = tuple(changed if one.name == layer else one for one in whole_plan.layers)
        return msgspec.structs.replace(whole_plan, layers=layers)

    assert build_with(tiny.onnx, "litert:int8", planned(250)).open().run(tiny.images)["logits"].shape == (12, 10)
    with pytest.raises(BuildError, match=f"below 256 for litert, found 300 at {layer}.*--skip {layer[:-7]}"):
        build_with(tiny.onnx, "litert:int8", planned(300))


# ------------------------------------------------------------------------------------- what is executed


@needs_litert
def test_every_layer_of_the_plan_is_executed_in_int8(made: Any, tiny: Any, build_with: Any) -> None:
    planned = {entry.name.removesuffix(".weight") for entry in tiny.plan.layers}
    execution = made("int8").open().execution()
    assert {layer.name for layer in execution.layers if layer.executed == "int8"} == planned
    assert (execution.quantized_requested, execution.quantized_executed, execution.warnings) == (10, 10, ())
    dynamic = made("int8d").open().execution()
    assert {layer.name for layer in dynamic.layers if layer.executed == "int8"} == planned - {"patch_embed.proj"}
    plain = made("float32").open().execution()
    assert (plain.precision, plain.quantized_requested, len(plain.layers)) == ("float32", 0, 10)
    without = build_with(tiny.onnx, "litert:int8", tiny.plan).open().execution()
    assert (without.quantized_requested, without.quantized_executed) == (10, 0)
    assert "head was asked for in int8 and runs in float32: the plan has no output scale" in without.warnings[-1]


@needs_litert
def test_the_plans_numbers_are_in_the_file(made: Any, whole_plan: Any, tiny: Any) -> None:
    """Read with the vendor's schema: codes and scales of every weight, scales of every input and output."""
    from ai_edge_litert import schema_py_generated as schema

    from edgevit.graph import storage
    from edgevit.graph.layers import layer_weight, quantizable_layers
    from edgevit.quantize.scales import quantize

    content = (made("int8").directory / "model.tflite").read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    graph = storage.load(tiny.onnx.path)
    weights = {layer.name: layer_weight(graph, layer) for layer in quantizable_layers(graph)}
    entries = {entry.name: entry for entry in whole_plan.layers}
    seen = 0
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if len(operator.inputs) < 3 or subgraph.tensors[operator.inputs[1]].name.decode() not in entries:
                continue
            given, weight, bias = (subgraph.tensors[index] for index in operator.inputs)
            written = subgraph.tensors[operator.outputs[0]]
            entry = entries[weight.name.decode()]
            scales = np.asarray(entry.weight_scale, np.float32)
            codes = quantize(weights[entry.name], scales, 0, narrow=True)
            if entry.kind == "conv":
                codes = codes.reshape(32, 3, 8, 8).transpose(0, 2, 3, 1)
            stored = np.asarray(model.buffers[weight.buffer].data, np.uint8)
            assert stored.tobytes() == codes.tobytes(), entry.name
            np.testing.assert_array_equal(weight.quantization.scale, scales)
            assert given.quantization.scale == np.float32(entry.input_scale)
            assert written.quantization.scale == np.float32(entry.output_scale)
            assert not np.any(given.quantization.zeroPoint) and not np.any(weight.quantization.zeroPoint)
            np.testing.assert_allclose(bias.quantization.scale, scales * np.float32(entry.input_scale), rtol=1e-6)
            seen += 1
    assert seen == 2 * len(entries) == 20
    assert [one.signatureKey.decode() for one in model.signatureDefs] == ["batch_1", "batch_8"]


@needs_litert
def test_running_it_needs_no_torch_and_writes_nothing_to_the_terminal(made: Any) -> None:
    directory = made("int8").directory
    code = (
        "import sys, pathlib, msgspec, numpy as np\n"
        "from edgevit.targets import get_target\nfrom edgevit.targets.base import OpenOptions\n"
        "from edgevit.types import Build\n"
        "build = msgspec.json.decode(sys.stdin.buffer.read(), type=Build)\n"
        "session = get_target('litert').open(pathlib.Path(sys.argv[1]), build, OpenOptions(threads=1))\n"
        "assert session.run({'pixel_values': np.zeros((1, 3, 32, 32), np.float32)})['logits'].shape == (1, 10)\n"
        "session.execution()\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    given = msgspec.json.encode(made("int8").build)
    done = subprocess.run([sys.executable, "-c", code, str(directory)], input=given, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b""), done.stderr.decode()


# ---------------------------------------------------------------------------------------------- what is wrong


@needs_litert
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: b"", "found none"),
        (lambda content: content[:30], "to open in LiteRT"),
        (lambda content: content[: len(content) // 2], "to open in LiteRT"),
        (lambda content: content[:-100], "to open in LiteRT"),
        (lambda content: b"not a model, " * 99, "it is damaged, of another schema"),
        (lambda content: content[:4] + b"TFL2" + content[8:], "found 'TFL2'"),
        (lambda content: content[:64] + bytes(len(content) - 64), "to open in LiteRT"),
    ],
)
def test_damaged_and_foreign_files_are_one_line(made: Any, tmp_path: Any, change: Any, message: str) -> None:
    build = made("float32")
    shutil.copytree(build.directory, tmp_path / "copy")
    path = tmp_path / "copy" / "model.tflite"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=message) as caught:
        type(build)(tmp_path / "copy", build.build).open()
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) and "export it again" in str(caught.value)


@needs_litert
@pytest.mark.parametrize(
    ("version", "operator", "message"),
    [
        (4, 1, "schema version 4 not equal to supported version 3"),
        (2, 1, "schema version 2 not equal to supported version 3"),
        (3, 99, "builtin opcode 'TANH' version '99'"),
    ],
)
def test_files_of_other_versions_are_one_line(
    made: Any, tmp_path: Any, version: int, operator: int, message: str
) -> None:
    """Whole files of a schema, or of an operator, that this runtime does not know."""
    from edgevit.targets.tflite.model import GraphWriter, ModelWriter

    writer = ModelWriter("of another time")
    writer.model.version = version
    graph = GraphWriter(writer, "batch_1")
    given, result = graph.tensor("given", (1, 4)), graph.tensor("result", (1, 4))
    graph.operator("TANH", [given], [result])
    writer.model.operatorCodes[0].version = operator
    graph.finish("batch_1", {"given": given}, {"result": result})
    (tmp_path / "model.tflite").write_bytes(writer.content())
    with pytest.raises(BundleError, match=f"to open in LiteRT, found: .*{message}.*export it again") as caught:
        type(made("float32"))(tmp_path, made("float32").build).open()
    assert "\n" not in str(caught.value)
