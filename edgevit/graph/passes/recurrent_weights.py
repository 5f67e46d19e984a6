"""Weights of LSTM, GRU and RNN: their names in the checkpoint, and their gates in ONNX's order.

torch stacks the gates of a layer as i, f, g, o (LSTM) and r, z, n (GRU), ONNX as i, o, f, c and z, r, h. An
initializer `encoder.lstm.weight_ih_l0` is that parameter with its blocks of rows in the other order and an axis of one
direction in front; `gate_order` and `in_torch_order` say how to come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import CaptureError
from edgevit.graph.names import module_scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    import torch

ORDERS = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
"""For each gate of ONNX, which one of torch's it is."""
WEIGHTS = {1: "weight_ih", 2: "weight_hh"}
BIAS = 3
FOLDED_BYTES = 1 << 30


def recurrent_weights(model: ir.Model, parameters: Mapping[str, torch.Tensor]) -> int:
    """Raises CaptureError where a layer's weights are not those of a parameter of its module."""
    _fold(model)
    changed = 0
    names = {node.name for node in model.graph}
    for node in model.graph:
        if node.op_type not in ORDERS or node.domain != "":
            continue
        scope = module_scope(node)
        suffix = _suffix(node, scope, parameters)
        for index, kind in WEIGHTS.items():
            _put(model, node, index, f"{scope}.{kind}_{suffix}" if scope else f"{kind}_{suffix}")
        if len(node.inputs) > BIAS and node.inputs[BIAS] is not None:
            _put(model, node, BIAS, f"{scope}.bias_{suffix}" if scope else f"bias_{suffix}")
        name = f"{scope}.{suffix}" if scope else suffix
        if name not in names:  # engines show it in their profiles
            node.name = name
            names.add(name)
        changed += 1
    return changed


def _fold(model: ir.Model) -> None:
    """What the exporter makes of the parameters before a layer reads them, computed: it stops at 8 KB by itself."""
    from onnxscript.optimizer import fold_constants

    frontier = [
        value
        for node in model.graph
        if node.op_type in ORDERS and node.domain == ""
        for value in node.inputs[1 : BIAS + 1]
        if value is not None and value.const_value is None
    ]
    wanted: set[ir.Node] = set()
    while frontier:
        node = frontier.pop().producer()
        if node is not None and node not in wanted:
            wanted.add(node)
            frontier += [value for value in node.inputs if value is not None]
    if wanted:
        fold_constants(
            model,
            input_size_limit=FOLDED_BYTES,
            output_size_limit=FOLDED_BYTES,
            should_fold=lambda node: node in wanted,
        )


def gate_order(op_type: str, rows: int) -> np.ndarray:
    """Row of torch's parameter for each of `rows` rows of ONNX's: int64."""
    order = ORDERS[op_type]
    return np.concatenate([np.arange(rows // len(order)) + gate * (rows // len(order)) for gate in order])


def in_torch_order(op_type: str, rows: int) -> np.ndarray:
    """Row of ONNX's weight for each row of torch's: int64."""
    return np.argsort(gate_order(op_type, rows))


def _suffix(node: ir.Node, scope: str | None, parameters: Mapping[str, torch.Tensor]) -> str:
    """`l0`, `l1_reverse`, …: of the module's parameters, the one whose values the node reads."""
    value = node.inputs[2]
    start = f"{scope}.weight_hh_" if scope else "weight_hh_"
    if value is not None and value.const_value is not None:
        array = value.const_value.numpy()[0]
        for name, parameter in parameters.items():
            if name.startswith(start) and np.array_equal(parameter.detach().numpy(), array):
                return name.removeprefix(start)
    raise CaptureError(
        f"expected the weights of {node.op_type} {node.name} ({scope}) to be parameters of that module, found none "
        "with its values; please report this model"
    )


def _put(model: ir.Model, node: ir.Node, index: int, name: str) -> None:
    """Input `index` of `node` as an initializer called `name`, with its gates in ONNX's order."""
    import onnx_ir as ir

    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    if name not in model.graph.initializers:
        array = value.const_value.numpy()
        rows = gate_order(node.op_type, array.shape[1] // (2 if index == BIAS else 1))
        if index == BIAS:  # that of the input, then that of the hidden state
            rows = np.concatenate([rows, rows + len(rows)])
        tensor = ir.tensor(np.ascontiguousarray(array[:, rows]), name=name)
        new = ir.Value(name=name, const_value=tensor, type=value.type, shape=ir.Shape(array.shape))
        model.graph.initializers[name] = new
    node.replace_input_with(index, model.graph.initializers[name])
