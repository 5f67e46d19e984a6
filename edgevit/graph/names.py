"""Gives every weight in the graph the name of its PyTorch parameter, one initializer per parameter.

The exporter transposes and folds a linear layer's weight and renames it (`val_13`), and stores equal tensors once (an
untrained model has one LayerNorm weight for all its blocks). Everything after this pass finds a layer by parameter
name and may change one layer's weight without changing another's. An embedding that is the output projection as well
stays one initializer, which the projection reads through a Transpose.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import CaptureError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx_ir as ir
    import torch

SCOPES = "pkg.torch.onnx.name_scopes"
SCOPE = "edgevit.scope"
"""Node metadata after this pass: the path of the module the node comes from."""
PARAMETERS = {
    "MatMul": {1: "weight"},
    "Gemm": {1: "weight", 2: "bias"},
    "Conv": {1: "weight", 2: "bias"},
    "LayerNormalization": {1: "weight", 2: "bias"},
    "Gather": {0: "weight"},
    "Add": {0: "bias", 1: "bias"},
}
"""Operator to its inputs that may hold a parameter, and what PyTorch's modules call it."""
REQUIRED = {("MatMul", 1), ("Gemm", 1), ("Conv", 1)}
"""Where a constant must be one of the model's parameters: these are what the plan quantizes."""


def restore_names(model: ir.Model, parameters: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Renames initializers in place to the parameters they hold; returns the names that were restored.

    A candidate by module path counts only if its values are the parameter's, as stored or transposed.
    Raises CaptureError if a weighted layer's parameter cannot be found.
    """
    restored: dict[str, None] = {}
    by_size = _index_by_size(parameters)
    for node in model.graph.all_nodes():
        scope = module_scope(node)
        if scope is not None:
            node.metadata_props[SCOPE] = scope
        for index, suffix in PARAMETERS.get(node.op_type, {}).items():
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or not value.is_initializer():
                continue
            name = _parameter_of(value, f"{scope}.{suffix}", parameters, by_size, restored)
            if name is None:
                if (node.op_type, index) in REQUIRED:
                    raise CaptureError(
                        f"expected the weight of {node.name} ({scope}) to be one of the model's parameters, found none "
                        "with its values; the exporter changed it, please report this model"
                    )
                continue
            _own(model.graph, node, index, name)
            restored[name] = None
    for name in restored:
        _part_from_others(model.graph, name)
    return tuple(restored)


def forget_origin(model: ir.Model) -> None:
    """Takes off what the exporter notes of the trace (stack traces, machine paths, symbols), all but module paths.

    The file then depends on the model alone: the same model gives the same digest on every machine.
    """
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.doc_string = model.graph.doc_string = None
    for node in model.graph.all_nodes():
        node.doc_string = None
        for key in [key for key in node.metadata_props if key != SCOPE]:
            del node.metadata_props[key]
    values = (output for node in model.graph.all_nodes() for output in node.outputs)
    for value in (*model.graph.inputs, *model.graph.initializers.values(), *values):
        value.metadata_props.clear()
        value.doc_string = None


def module_scope(node: ir.Node) -> str | None:
    """The innermost module's path from the exporter's metadata: scopes end with the node's own name."""
    text = node.metadata_props.get(SCOPES)
    if text is None:
        return node.metadata_props.get(SCOPE)
    scopes: Sequence[str] = ast.literal_eval(text)
    return scopes[-2] if len(scopes) >= 2 else ""


def _index_by_size(parameters: Mapping[str, torch.Tensor]) -> dict[int, list[str]]:
    index: dict[int, list[str]] = {}
    for name, tensor in parameters.items():
        index.setdefault(tensor.numel(), []).append(name)
    return index


def _parameter_of(
    value: ir.Value,
    expected: str,
    parameters: Mapping[str, torch.Tensor],
    by_size: Mapping[int, list[str]],
    taken: Collection[str],
) -> str | None:
    assert value.const_value is not None
    array = value.const_value.numpy()
    same_size = by_size.get(array.size, [])
    module = expected.rpartition(".")[0]
    # The expected name first, then parameters of the same module (`in_proj_weight`), then any with these values; of
    # those that are equal (zero biases), one that no other node reads yet: they must not become one initializer.
    order = sorted(same_size, key=lambda name: (name != expected, not name.startswith(module), name in taken, name))
    return next((name for name in order if _same_values(array, parameters[name].detach().numpy())), None)


def _same_values(array: np.ndarray, parameter: np.ndarray) -> bool:
    if array.shape == parameter.shape and np.array_equal(array, parameter):
        return True
    return array.ndim == 2 and array.shape == parameter.shape[::-1] and np.array_equal(array, parameter.T)


def _part_from_others(graph: ir.Graph, name: str) -> None:
    """Gives a copy to nodes that read a parameter only because another constant has the same values.

    A layer scale of ones is stored as the norm's weight of ones; it must not change when the norm does.
    """
    import onnx_ir as ir

    if name not in graph.initializers:  # renamed to `.transposed`
        return
    value = graph.initializers[name]
    others = [
        use
        for use in value.uses()
        if use.idx not in PARAMETERS.get(use.node.op_type, {}) and use.node.op_type != "Transpose"
    ]
    if others and len(others) < len(value.uses()):
        copy = ir.Value(name=f"{name}.copy", const_value=value.const_value, type=value.type, shape=value.shape)
        graph.initializers[f"{name}.copy"] = copy
        for use in others:
            use.node.replace_input_with(use.idx, copy)


def _equal(one: ir.Value, other: ir.Value) -> bool:
    assert one.const_value is not None and other.const_value is not None
    return np.array_equal(one.const_value.numpy(), other.const_value.numpy())


def _transposed(graph: ir.Graph, node: ir.Node, table: ir.Value) -> ir.Value:
    """An embedding's table as the weight of `node`, a projection onto the same vocabulary: stored once for both."""
    import onnx_ir as ir

    readers = (use.node for use in table.uses() if use.node.op_type == "Transpose")
    turn = next(readers, None)
    if turn is None:
        turn = ir.node("Transpose", [table], {"perm": (1, 0)}, name=f"{table.name}.transpose")
        assert table.shape is not None
        result = turn.outputs[0]
        result.name, result.type, result.shape = f"{table.name}.transposed", table.type, ir.Shape(table.shape[::-1])
        graph.insert_before(node, turn)
    return turn.outputs[0]


def _own(graph: ir.Graph, node: ir.Node, index: int, name: str) -> None:
    """Makes input `index` of `node` read an initializer called `name`, cloning a shared one."""
    import onnx_ir as ir

    value = node.inputs[index]
    assert value is not None
    if value.name == name:
        return
    if name in graph.initializers:
        existing = graph.initializers[name]
        if _equal(existing, value):  # the same parameter read again: a tied weight stays one
            node.replace_input_with(index, existing)
            return
        if any(use.node.op_type == "Gather" for use in existing.uses()):
            node.replace_input_with(index, _transposed(graph, node, existing))
            return
        name = f"{name}.transposed"
    clone = ir.Value(name=name, const_value=value.const_value, type=value.type, shape=value.shape)
    graph.initializers[name] = clone
    node.replace_input_with(index, clone)
