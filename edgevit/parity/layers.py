"""Where quantization does its damage: the output of every layer that can be quantized, float against simulated.

Both sides are executed batch by batch and only energies are kept, so memory is that of one batch with every layer's
output. The float side is the model with the plan's equalization: in float it computes the same function, and the
outputs it scales (an attention's values) are then in one unit on both sides.

A recurrent layer computes in float in an int8 build and has its weights in int8 in an int8w build alone: its row shows
what it inherits, and as its own damage that of either weight.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import SetError
from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.graph.layers import quantizable_layers
from edgevit.graph.passes import constant, tidy
from edgevit.parity.metrics import SignalNoise, signal_noise
from edgevit.quantize.adjust import adjust_weights
from edgevit.quantize.write_onnx import KINDS, gathered, quantize_node, recurrent_weight, write_quantized
from edgevit.types import LayerParity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

    from edgevit.graph.layers import Layer
    from edgevit.quantize.write_onnx import InputPairs
    from edgevit.types import Arrays, LayerPlan, OnnxModel, QuantPlan

LEAST_DB = 20.0
"""SQNR below which a layer's output counts as diverged: an error of a tenth of the signal."""
OWN_SHARE_DB = 3.0
"""A layer whose own error is at least half (3 dB) of what its output shows has not merely inherited it."""
WEIGHTS_ALONE = "computes in float; its weights are int8 in int8w and int8d builds"
DROP_DB = 6.0
"""The same where nothing was measured alone: four times the noise of the layer before it."""


def layer_parity(
    model: OnnxModel, plan: QuantPlan, batches: Iterable[Arrays], *, alone: bool = False
) -> tuple[LayerParity, ...]:
    """SQNR of every quantizable layer's output (after its bias) in the simulated quantized graph, in graph order.

    With `alone` each quantized layer is also fed the float model's input, which shows its own damage; recurrent layers
    always are. Layers that stay in float are listed with the plan's reason: what they show is inherited. Raises
    SetError for no batches, PlanError for a plan that does not fit.
    """
    layers = quantizable_layers(storage.load(model.path))
    outputs = list(dict.fromkeys(layer.output for layer in layers))
    totals = {layer.name: SignalNoise() for layer in layers}
    owns: dict[str, SignalNoise] = {}
    read = False
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        simulated = write_quantized(model, plan, Path(folder) / model.path.name).path
        floating, twins = _write_float(model, plan, Path(folder) / "float" / model.path.name, alone=alone)
        with (
            # Exact for the twins: an engine would execute their Q/DQ in int8 kernels of its own.
            Executor(floating, outputs, exact=alone) as reference,
            Executor(simulated, outputs, exact=True) as quantized,
        ):
            for batch in batches:
                expected, found = reference.run(batch), quantized.run(batch)
                read = True
                for layer in layers:
                    name, output = layer.name, layer.output
                    totals[name] += signal_noise(expected[output], found[output])
                    if name in twins:
                        own = signal_noise(expected[output], expected[twins[name]])
                        owns[name] = owns.get(name, SignalNoise()) + own
                del expected, found  # a batch with every layer's output is not kept while the next one is computed
    if not read:
        raise SetError("expected samples to compare layers on, found none; name an evaluation set that has some")
    return tuple(_entry(layer, plan, totals[layer.name], owns.get(layer.name)) for layer in layers)


def first_divergent(layers: Sequence[LayerParity], least_db: float = LEAST_DB) -> str | None:
    """The first layer, in graph order, whose output keeps less than `least_db` through its own doing.

    Its own doing means: the error of the layer alone is at least half of what its output shows (`own_sqnr_db` within
    3 dB of `sqnr_db`); where that was not measured, its SQNR lies 6 dB below that of the layer before it. If no layer
    is to blame alone, it is the first whose inherited errors have added up to less than `least_db`; None where all
    outputs keep `least_db`.
    """
    before = float("inf")
    diverged: str | None = None
    for layer in layers:
        if layer.sqnr_db < least_db:
            diverged = diverged or layer.name
            if layer.quantized and _own_doing(layer, before):
                return layer.name
        before = layer.sqnr_db
    return diverged


def _own_doing(layer: LayerParity, before: float) -> bool:
    if layer.own_sqnr_db is None:
        return layer.sqnr_db <= before - DROP_DB
    return layer.own_sqnr_db <= layer.sqnr_db + OWN_SHARE_DB


def _entry(layer: Layer, plan: QuantPlan, total: SignalNoise, own: SignalNoise | None) -> LayerParity:
    planned = any(entry.name == layer.name for entry in plan.layers)
    quantized = planned and layer.kind in KINDS
    reasons = {skipped.name: skipped.reason for skipped in plan.skipped}
    if planned and not quantized:
        reasons[layer.name] = WEIGHTS_ALONE
    return LayerParity(
        name=layer.name,
        sqnr_db=total.db,
        own_sqnr_db=None if own is None else own.db,
        quantized=quantized,
        reason="" if quantized else reasons.get(layer.name, "the plan does not mention it"),
    )


def _write_float(model: OnnxModel, plan: QuantPlan, path: Path, *, alone: bool) -> tuple[Path, dict[str, str]]:
    """The equalized float graph, and the outputs of quantized twins by layer: of all with `alone`, else of recurrent
    ones."""
    equalized = any(entry.equalization for entry in plan.layers)
    judged = [entry for entry in plan.layers if alone or entry.kind not in KINDS]
    if not equalized and not judged:
        return model.path, {}
    graph = storage.load(model.path)
    # The bias correction belongs to the quantized side: it answers for errors that the float side has not.
    uncorrected = tuple(msgspec.structs.replace(entry, bias_correction=()) for entry in plan.layers)
    adjust_weights(graph, msgspec.structs.replace(plan, layers=uncorrected))
    twins = _add_twins(graph, judged)
    path.parent.mkdir()
    storage.save(graph, path)
    return path, twins


def _add_twins(graph: ir.Model, entries: Sequence[LayerPlan]) -> dict[str, str]:
    """Beside each planned layer a quantized one that reads the same float input and feeds nothing."""
    layers = {layer.name: layer for layer in quantizable_layers(graph)}
    nodes = {str(node.name): node for node in graph.graph}
    pairs: InputPairs = {}
    for entry in entries:
        node = nodes[layers[entry.name].node]
        if entry.kind == "embedding":
            added = gathered(graph, node, entry)
            graph.graph.insert_after(node, added)
        elif entry.kind == "recurrent":
            added = _recurrent_twin(graph, node, entry)
        else:
            added = _twin(graph, node, layers[entry.name], entry, pairs)
        output = added.outputs[0]
        added.name = output.name = f"{entry.name}.alone"
        output.type, output.shape = node.outputs[0].type, node.outputs[0].shape
        graph.graph.outputs.append(output)
    tidy(graph)
    return {entry.name: f"{entry.name}.alone" for entry in entries}


def _recurrent_twin(graph: ir.Model, node: ir.Node, entry: LayerPlan) -> ir.Node:
    """A copy of a recurrent layer with the entry's weight from its codes."""
    import onnx_ir as ir

    twin = ir.node(node.op_type, list(node.inputs), num_outputs=len(node.outputs))
    for key, attribute in node.attributes.items():
        twin.attributes[key] = attribute
    graph.graph.insert_after(node, twin)
    dequantized = recurrent_weight(graph, twin, entry)
    for index, value in enumerate(node.inputs):
        if value is not None and value.name == entry.name:
            twin.replace_input_with(index, dequantized)
    return twin


def _twin(graph: ir.Model, node: ir.Node, layer: Layer, entry: LayerPlan, pairs: InputPairs) -> ir.Node:
    """A quantized copy of a layer without its bias, then the corrected bias, which is returned."""
    import onnx_ir as ir

    twin = ir.node(node.op_type, list(node.inputs[:2]), name=f"{entry.name}.twin")
    for key, attribute in node.attributes.items():
        twin.attributes[key] = attribute
    value = graph.graph.initializers[layer.bias].const_value if layer.bias else None
    bias = np.zeros(layer.out_channels, np.float32) if value is None else value.numpy()
    if entry.bias_correction:
        bias = bias + np.asarray(entry.bias_correction, np.float32)
    if layer.kind == "conv":
        # One number per channel, along axis 1 of (batch, channels, height, width).
        bias = bias.reshape(-1, *[1] * (len(graph.graph.initializers[layer.name].shape or ()) - 2))
    added = ir.node("Add", [twin.outputs[0], constant(graph, f"{entry.name}.alone_bias", bias)])
    graph.graph.insert_after(node, [twin, added])
    quantize_node(graph, twin, entry, pairs)
    return added
