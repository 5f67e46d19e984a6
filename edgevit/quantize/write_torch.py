"""The plan written into an exported torch program as Q/DQ: the other of the two writers, for engines that start there.

Same plan, same numbers: weights are adjusted by the code that adjusts the ONNX graph, codes are made by the function
that makes the ONNX codes, and scales are the plan's own, found by parameter name. What may differ is where Q/DQ stands:
an integer kernel of XNNPACK writes integers, so there a layer's output is quantized too, with the plan's output scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import layer_weight, quantizable_layers
from edgevit.quantize.adjust import EXPLICIT, adjust_weights
from edgevit.quantize.plan_check import check_plan_fits
from edgevit.quantize.scales import largest_magnitude, quantize, scale_from_range

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from edgevit.types import LayerPlan, OnnxModel, QuantPlan

    FloatArray = NDArray[np.float32]

NARROWEST, LOWEST, HIGHEST = -127, -128, 127


class TorchOptions(msgspec.Struct, frozen=True, kw_only=True):
    inputs: bool = True
    """Quantize what layers read, too; otherwise weights alone are stored in int8."""
    outputs: bool = True
    """Quantize what layers write, too, for engines whose integer kernels write integers."""
    tables: bool = False
    """Store the tables of embeddings, too, and gather their rows as codes; a projection tied to one counts as a layer
    like others. Its codes are then stored twice: an engine packs those that it multiplies with."""


WEIGHTS_ALONE = TorchOptions(inputs=False, outputs=False)


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What was written: the layers that are int8 now, and why others of the plan are not."""

    layers: tuple[str, ...]
    left_out: dict[str, str] = {}


def write_plan(
    module: torch.fx.GraphModule, onnx: OnnxModel, plan: QuantPlan, options: TorchOptions | None = None
) -> Written:
    """Adjusts the parameters of `module` (a `torch.export` program's module) and inserts Q/DQ, both in place.

    `onnx` is the float graph lowered from the same program. Raises PlanError if the plan does not fit it, or where an
    adjustment has no place in the torch program.
    """
    _load_operators()
    options = options or TorchOptions()
    adjusted = adjusted_parameters(onnx, plan)
    nodes = _weighted(module, options.tables)
    tables = _gathered(module) if options.tables else {}
    entries = {entry.name: entry for entry in plan.layers}
    _assign(module, adjusted)
    for name, node in nodes.items():
        if name in entries:
            _adjust_node(module, node, entries[name], adjusted)
    left_out: dict[str, str] = {}
    written: list[str] = []
    shared: dict[tuple[str, float], torch.fx.Node] = {}
    for name, entry in entries.items():
        for node in tables.get(name, ()):
            _quantize_table(module, node, name, np.asarray(entry.weight_scale, np.float32))
        if name in tables and name not in nodes:
            written.append(name)
            continue
        reason = _why_float(entry, nodes.get(name), options)
        if reason:
            left_out[name] = reason
            continue
        if options.inputs:
            _quantize_input(module, nodes[name], entry, shared)
        _quantize_weight(module, nodes[name], name, np.asarray(entry.weight_scale, np.float32))
        if options.outputs:
            _quantize_output(module, nodes[name], entry)
        written.append(name)
    _finish(module)
    return Written(layers=tuple(written), left_out=left_out)


def write_dynamic(module: torch.fx.GraphModule, group: int = 0) -> Written:
    """int8 weights scaled per channel by their own range, inputs of linear layers scaled row by row as they come.

    With a `group` the weights are in four bits, and as many of a row share a scale; a layer whose rows are no multiple
    of it keeps int8, and so do the tables of embeddings, a scale for each row. In place; convolutions stay float and
    are not asked for: the kernels for it take a whole image as a row.
    """
    _load_operators()
    written: list[str] = []
    layers, tables = _weighted(module, True), _gathered(module)
    for name, readers in tables.items():
        scales = scale_from_range(largest_magnitude(module.get_parameter(name).detach().numpy(), 1))
        for node in readers:
            _quantize_table(module, node, name, scales)
    written.extend(name for name in tables if name not in layers)
    for name, node in layers.items():
        if "linear" not in str(node.target):
            continue
        weight = module.get_parameter(name).detach().numpy()
        _quantize_rows(module, node)
        if group and weight.shape[1] % group == 0:
            _quantize_groups(module, node, name, group)
        else:
            _quantize_weight(module, node, name, scale_from_range(largest_magnitude(weight, 1)))
        written.append(name)
    _finish(module)
    return Written(layers=tuple(written))


def write_adjustments(module: torch.fx.GraphModule, onnx: OnnxModel, plan: QuantPlan) -> None:
    """The plan's equalization alone, in place: what quantizes the weights by other numbers than the plan's gains by it.

    Its corrections of biases are for the plan's own codes. Raises PlanError.
    """
    layers = tuple(msgspec.structs.replace(entry, bias_correction=()) for entry in plan.layers)
    adjusted = adjusted_parameters(onnx, msgspec.structs.replace(plan, layers=layers))
    entries = {entry.name: entry for entry in layers}
    _assign(module, adjusted)
    for name, node in _weighted(module, True).items():
        if name in entries:
            _adjust_node(module, node, entries[name], adjusted)


def adjusted_parameters(onnx: OnnxModel, plan: QuantPlan) -> dict[str, FloatArray]:
    """The parameters under the plan's equalization and bias correction, by name, in PyTorch's layout, float32.

    With them come biases that a correction gives to a layer without one. Raises PlanError.
    """
    graph = storage.load(onnx.path)
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    check_plan_fits(plan, {name: (layer.out_channels, layer.in_channels) for name, layer in layers.items()})
    adjust_weights(graph, plan)
    found: dict[str, FloatArray] = {}
    for name, value in graph.graph.initializers.items():
        if name in layers:
            found[name] = layer_weight(graph, layers[name])
        elif value.const_value is not None and value.const_value.dtype.numpy() == np.float32:
            found[name] = value.const_value.numpy()
    return found


def _why_float(entry: LayerPlan, node: torch.fx.Node | None, options: TorchOptions) -> str:
    if node is None:
        return "the torch program does not read this parameter as one layer's weight"
    if options.outputs and entry.output_scale is None:
        return "the plan has no output scale for it, which an integer kernel of this engine needs"
    return ""


def _weighted(module: torch.fx.GraphModule, tied: bool) -> dict[str, torch.fx.Node]:
    """Parameter name to the one linear layer or convolution that reads it as its weight.

    `tied`: embeddings may read it, too.
    """
    import torch

    kinds = (torch.ops.aten.linear.default, torch.ops.aten.conv2d.default)
    found: dict[str, torch.fx.Node] = {}
    for node in module.graph.nodes:
        if node.op != "call_function" or node.target not in kinds:
            continue
        weight = node.args[1]
        others = [reader for reader in weight.users if reader is not node]
        alone = all(tied and _gathers(reader) for reader in others)
        if weight.op == "get_attr" and alone:
            found[str(weight.target)] = node
    return found


def _gathered(module: torch.fx.GraphModule) -> dict[str, list[torch.fx.Node]]:
    """Parameter name to the embeddings that gather its rows; a table that is no parameter (positions) stays float."""
    parameters = dict(module.named_parameters())
    found: dict[str, list[torch.fx.Node]] = {}
    for node in module.graph.nodes:
        if _gathers(node) and str(getattr(node.args[0], "target", "")) in parameters:
            found.setdefault(str(node.args[0].target), []).append(node)
    return found


def _gathers(node: torch.fx.Node) -> bool:
    import torch

    return node.op == "call_function" and node.target == torch.ops.aten.embedding.default


def _assign(module: torch.fx.GraphModule, values: dict[str, FloatArray]) -> None:
    """Gives the module's parameters the adjusted values; the model it was exported from keeps its own."""
    import torch

    for name, parameter in dict(module.named_parameters()).items():
        if name not in values:
            continue
        changed = torch.from_numpy(np.array(values[name]).reshape(tuple(parameter.shape)))
        if not torch.equal(changed, parameter.detach()):
            owner, _, attribute = name.rpartition(".")
            replacement = torch.nn.Parameter(changed, requires_grad=False)
            setattr(module.get_submodule(owner), attribute, replacement)


def _adjust_node(
    module: torch.fx.GraphModule, node: torch.fx.Node, entry: LayerPlan, adjusted: dict[str, FloatArray]
) -> None:
    """What an adjustment adds to the graph: a multiplication before the layer, a bias that it did not have."""
    import torch

    if entry.equalization and entry.equalization_into == EXPLICIT:
        inverse = np.float32(1) / np.asarray(entry.equalization, np.float32)
        with module.graph.inserting_before(node):
            factor = _buffer(module, f"{entry.name}_equalization", inverse)
            scaled = module.graph.call_function(torch.ops.aten.mul.Tensor, (node.args[0], factor))
        node.update_arg(0, scaled)
    if entry.bias_correction and (len(node.args) < 3 or node.args[2] is None):
        name = f"{entry.name.removesuffix('.weight')}.bias"
        with module.graph.inserting_before(node):
            bias = _buffer(module, name, adjusted[name])
        node.args = (*node.args[:2], bias, *node.args[3:])


def _quantize_input(
    module: torch.fx.GraphModule,
    node: torch.fx.Node,
    entry: LayerPlan,
    shared: dict[tuple[str, float], torch.fx.Node],
) -> None:
    """Q/DQ before the layer. Layers that read one tensor with one scale share its codes, but each has its own DQ."""
    source = _node(node.args[0])
    key = (source.name, entry.input_scale)
    with module.graph.inserting_before(node):
        if key not in shared:
            shared[key] = _per_tensor(module, "quantize", source, entry.input_scale)
        # Of a shared one the partitioner would give all but the first layer to nobody.
        node.update_arg(0, _per_tensor(module, "dequantize", shared[key], entry.input_scale))


def _quantize_output(module: torch.fx.GraphModule, node: torch.fx.Node, entry: LayerPlan) -> None:
    assert entry.output_scale is not None
    readers = list(node.users)
    with module.graph.inserting_after(node):
        codes = _per_tensor(module, "quantize", node, entry.output_scale)
    with module.graph.inserting_after(codes):
        values = _per_tensor(module, "dequantize", codes, entry.output_scale)
    for reader in readers:
        reader.replace_input_with(node, values)


def _quantize_weight(module: torch.fx.GraphModule, node: torch.fx.Node, name: str, scales: FloatArray) -> None:
    """The weight as int8 codes with one scale per output channel (axis 0), and a DQ before the layer."""
    import torch

    weight = module.get_parameter(name).detach().numpy()
    codes = quantize(weight.reshape(len(scales), -1), scales, 0, narrow=True).reshape(weight.shape)
    with module.graph.inserting_before(node):
        stored = _buffer(module, f"{name}_int8", codes)
        scale = _buffer(module, f"{name}_scale", scales)
        zero = _buffer(module, f"{name}_zero_point", np.zeros(scales.shape, np.int64))
        restored = module.graph.call_function(
            torch.ops.quantized_decomposed.dequantize_per_channel.default,
            (stored, scale, zero, 0, NARROWEST, HIGHEST, torch.int8),
        )
    node.update_arg(1, restored)


def _quantize_table(module: torch.fx.GraphModule, node: torch.fx.Node, name: str, scales: FloatArray) -> None:
    """Rows gathered as int8 codes, each then multiplied with its own scale: operators that every engine has."""
    import torch

    aten = torch.ops.aten
    table = module.get_parameter(name).detach().numpy()
    with module.graph.inserting_before(node):
        stored = _buffer(module, f"{name}_int8", quantize(table, scales, 0, narrow=True))
        scale = _buffer(module, f"{name}_row_scale", scales.reshape(-1, 1))
        codes = module.graph.call_function(aten.embedding.default, (stored, node.args[1]))
        steps = module.graph.call_function(aten.embedding.default, (scale, node.args[1]))
        values = module.graph.call_function(aten.to.dtype, (codes, torch.float32))
        rows = module.graph.call_function(aten.mul.Tensor, (values, steps))
    node.replace_all_uses_with(rows)


def _quantize_groups(module: torch.fx.GraphModule, node: torch.fx.Node, name: str, group: int) -> None:
    """The weight as codes in [-8, 7] with a scale for every `group` numbers of a row, and a DQ before the layer.

    Scales are bfloat16 numbers, which is what XNNPACK keeps of them, and leave the smallest squared error.
    """
    import ml_dtypes
    import torch

    from edgevit.quantize.write_int4 import blocked

    weight = module.get_parameter(name).detach().numpy()
    codes, scales = blocked(np.ascontiguousarray(weight.T), group, ml_dtypes.bfloat16)
    with module.graph.inserting_before(node):
        stored = _buffer(module, f"{name}_int4", np.ascontiguousarray(codes.T))
        scale = _buffer(module, f"{name}_scale", np.ascontiguousarray(scales.T))
        zero = _buffer(module, f"{name}_zero_point", np.zeros(scales.T.shape, np.int32))
        restored = module.graph.call_function(
            torch.ops.quantized_decomposed.dequantize_per_channel_group.default,
            (stored, scale, zero, -8, 7, torch.int8, group, torch.float32),
        )
    node.update_arg(1, restored)


def _quantize_rows(module: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Scale and zero point of every row (token) of the input from its own range, then Q/DQ with them."""
    import operator

    import torch

    operators = torch.ops.quantized_decomposed
    graph, source = module.graph, node.args[0]
    with graph.inserting_before(node):
        chosen = graph.call_function(operators.choose_qparams_per_token_asymmetric.default, (source, torch.int8))
        scale = graph.call_function(operator.getitem, (chosen, 0))
        zero = graph.call_function(operator.getitem, (chosen, 1))
        codes = graph.call_function(
            operators.quantize_per_token.default, (source, scale, zero, LOWEST, HIGHEST, torch.int8)
        )
        values = graph.call_function(
            operators.dequantize_per_token.default, (codes, scale, zero, LOWEST, HIGHEST, torch.int8, torch.float32)
        )
    node.update_arg(0, values)


def _per_tensor(module: torch.fx.GraphModule, what: str, value: torch.fx.Node, scale: float) -> torch.fx.Node:
    import torch

    target = getattr(torch.ops.quantized_decomposed, f"{what}_per_tensor").default
    made: torch.fx.Node = module.graph.call_function(target, (value, scale, 0, LOWEST, HIGHEST, torch.int8))
    return made


def _buffer(module: torch.fx.GraphModule, name: str, values: NDArray[Any]) -> torch.fx.Node:
    """A node that reads the buffer `name`, kept in the module of the layer it belongs to; made at its first use."""
    import torch

    owner, _, attribute = name.rpartition(".")
    place = module.get_submodule(owner)
    if not hasattr(place, attribute):
        place.register_buffer(attribute, torch.from_numpy(np.array(values)))
    return module.graph.get_attr(name)


def _node(value: object) -> torch.fx.Node:
    import torch

    if not isinstance(value, torch.fx.Node):
        raise PlanError(f"expected a layer that reads a tensor of the program, found {value!r} as its input")
    return value


def _finish(module: torch.fx.GraphModule) -> None:
    module.graph.eliminate_dead_code()
    module.graph.lint()
    module.recompile()


def _load_operators() -> None:
    """Registers the library `quantized_decomposed`; torch does it when this module is imported."""
    import torch.ao.quantization.fx._decomposed  # noqa: F401
