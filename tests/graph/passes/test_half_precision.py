"""float16 and bfloat16: what is converted, what stays float32, and what the rounding does to the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgevit.errors import InputError
from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.graph.passes.attention_decomposed import attention_decomposed
from edgevit.graph.passes.half_precision import KEPT, to_half_precision
from edgevit.graph.passes.half_simulated import half_simulated
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.write_onnx import WriteOptions, quantize_graph

HALF = {"float16": "FLOAT16", "bfloat16": "BFLOAT16"}


def types(model: ir.Model, op_type: str) -> set[str]:
    return {node.outputs[0].dtype.name for node in model.graph if node.op_type == op_type}


@pytest.mark.parametrize("half", HALF)
def test_products_are_half_and_norms_are_not(tiny, tmp_path: Path, half: str) -> None:
    model = storage.load(tiny.onnx.path)
    attention_decomposed(model)
    assert to_half_precision(model, half) > 20
    for op_type in ("MatMul", "Conv", "Gelu", "Add"):
        assert types(model, op_type) == {HALF[half]}, op_type
    for op_type in ("LayerNormalization", "Softmax"):
        assert types(model, op_type) == {"FLOAT"}, op_type
    assert {value.dtype.name for value in (*model.graph.inputs, *model.graph.outputs)} == {"FLOAT"}
    storage.save(model, tmp_path / "half.onnx")
    onnx.checker.check_model(str(tmp_path / "half.onnx"), full_check=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.75 * tiny.onnx.path.stat().st_size


def test_quantized_pairs_keep_float32_scales(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    quantize_graph(model, tiny.plan, WriteOptions())
    attention_decomposed(model)
    to_half_precision(model, "float16")
    pairs = [node for node in model.graph if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 10
    assert {node.inputs[1].dtype.name for node in pairs} == {"FLOAT"}
    assert types(model, "MatMul") == {"FLOAT16"}


def test_a_weight_beyond_float16_is_named(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    weight = model.graph.initializers["head.weight"]
    array = weight.const_value.numpy().copy()
    array[0, 0] = 1e6
    weight.const_value = ir.tensor(array, name="head.weight")
    with pytest.raises(InputError, match=r"65504\), found 1e\+06 in head.weight"):
        to_half_precision(model, "float16")


@pytest.mark.parametrize(("half", "low", "high"), [("float16", 50.0, 90.0), ("bfloat16", 30.0, 55.0)])
def test_the_simulation_rounds_as_half_precision_does(tiny, tmp_path: Path, half: str, low: float, high: float) -> None:
    model = storage.load(tiny.onnx.path)
    attention_decomposed(model)
    to_half_precision(model, half)
    assert half_simulated(model) > 20
    storage.save(model, tmp_path / "simulated.onnx")
    with Executor(tiny.onnx.path) as floating, Executor(tmp_path / "simulated.onnx", exact=True) as simulated:
        expected, found = floating.run(tiny.images)["logits"], simulated.run(tiny.images)["logits"]
    assert low < float(sqnr_db(expected, found)) < high


def chain(*factors: float) -> ir.Model:
    """x (batch, 2) times each factor in turn."""
    shape = ir.Shape(["batch", 2])
    value = x = ir.val("x", dtype=ir.DataType.FLOAT, shape=shape)
    nodes, constants = [], []
    for index, factor in enumerate(factors):
        constant = ir.val(f"c{index}", dtype=ir.DataType.FLOAT, shape=[], const_value=ir.tensor(np.float32(factor)))
        result = ir.val(f"y{index}", dtype=ir.DataType.FLOAT, shape=shape)
        nodes.append(ir.node("Mul", [value, constant], outputs=[result], name=f"mul{index}"))
        constants.append(constant)
        value = result
    graph = ir.Graph([x], [value], nodes=nodes, initializers=constants, opset_imports={"": 23}, name="chain")
    return ir.Model(graph, ir_version=10)


def test_a_collapse_shows_in_the_simulation(tmp_path: Path) -> None:
    """1 · 1000 · 1000 / 1000: 1e6 is beyond float16, although input and output are not."""
    model = chain(1000, 1000, 1e-3)
    to_half_precision(model, "float16")
    half_simulated(model)
    storage.save(model, tmp_path / "simulated.onnx")
    with Executor(tmp_path / "simulated.onnx", exact=True) as executor:
        (found,) = executor.run({"x": np.asarray([[1, 0.01]], np.float32)}).values()
    assert np.isinf(found[0, 0])
    assert found[0, 1] == pytest.approx(10, rel=2e-3)


def test_the_kept_operators_are_those_that_collapse() -> None:
    assert {"LayerNormalization", "Softmax", "QuantizeLinear", "DequantizeLinear"} <= KEPT


def test_control_flow_is_refused(tiny) -> None:
    model = storage.load(tiny.onnx.path)
    node = next(node for node in model.graph if node.op_type == "Gelu")
    node.attributes["body"] = ir.AttrGraph("body", ir.Graph([], [], nodes=[], name="body"))
    with pytest.raises(InputError, match="without control flow"):
        to_half_precision(model, "float16")


def test_zeros_that_say_no_type_become_halves() -> None:
    """ConstantOfShape without a value: the first state of a recurrent layer. TensorRT's parser refuses two types."""
    shape = ir.Value(name="shape", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([2]))
    zeros = ir.node("ConstantOfShape", [shape], name="zeros")
    zeros.outputs[0].name, zeros.outputs[0].type = "zeros", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([shape], [zeros.outputs[0]], nodes=[zeros], opset_imports={"": 23}, name="g")
    model = ir.Model(graph, ir_version=10)
    assert to_half_precision(model, "float16") == 1
    value = zeros.attributes["value"].as_tensor()
    assert (value.dtype.name, value.numpy().tolist()) == ("FLOAT16", [0.0])


@pytest.mark.parametrize("lowest", [float(np.finfo(np.float32).min), float("-inf")])
def test_the_lowest_number_of_a_mask_becomes_the_halfs(lowest: float) -> None:
    """Hugging Face adds float32's lowest where nothing may be seen; as a float16 it would be no number."""
    mask = ir.Value(name="mask", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([2]))
    values = {}
    for name, number in (("zero", 0.0), ("lowest", lowest)):
        tensor = ir.tensor(np.float32(number), name=name)
        values[name] = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape([]))
    where = ir.node("Where", [mask, values["zero"], values["lowest"]], name="where")
    where.outputs[0].name, where.outputs[0].type = "bias", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [mask],
        [where.outputs[0]],
        nodes=[where],
        initializers=list(values.values()),
        opset_imports={"": 23},
        name="g",
    )
    model = ir.Model(graph, ir_version=10)
    to_half_precision(model, "float16")
    assert float(model.graph.initializers["lowest.float16"].const_value.numpy()) == -65504 / 2
