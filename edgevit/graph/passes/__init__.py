"""Small rewrites of an ONNX graph in place, one file each: a function from model to the number of places changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir


def tidy(model: ir.Model) -> None:
    """Removes what nothing uses any more and sorts the graph; every pass that rewires ends with it."""
    import onnx_ir.passes.common as common

    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)


def replace_node(old: ir.Node, new: ir.Node) -> None:
    """Puts `new` where `old` stands; its first output takes over the old one's name, type, shape and uses."""
    import onnx_ir as ir

    before, after = old.outputs[0], new.outputs[0]
    after.shape, after.type = before.shape, before.type
    graph = old.graph
    assert graph is not None
    graph.insert_before(old, new)
    ir.convenience.replace_all_uses_with(before, after, replace_graph_outputs=True)
    name, before.name = before.name, None
    graph.remove(old, safe=True)
    after.name = name


def append_node(value: ir.Value, new: ir.Node) -> None:
    """Puts `new`, which reads `value`, behind it: `new`'s output takes over `value`'s name, type, shape and uses."""
    import onnx_ir as ir

    producer, after = value.producer(), new.outputs[0]
    assert producer is not None and producer.graph is not None
    after.shape, after.type = value.shape, value.type
    ir.convenience.replace_all_uses_with(value, after, replace_graph_outputs=True)
    for index, source in enumerate(new.inputs):
        if source is after:
            new.replace_input_with(index, value)
    producer.graph.insert_after(producer, new)
    name, value.name = value.name, f"{value.name}_before_{new.op_type.lower()}"
    after.name = name


def constant(model: ir.Model, name: str, array: object) -> ir.Value:
    """An initializer holding `array`; an existing one of that name is used again."""
    import onnx_ir as ir

    if name in model.graph.initializers:
        return model.graph.initializers[name]
    tensor = ir.tensor(array, name=name)  # type: ignore[arg-type]
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(tensor.numpy().shape)
    )
    model.graph.initializers[name] = value
    return value
