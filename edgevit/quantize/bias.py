"""Bias correction: the mean error that quantization adds to a layer's output, taken off its bias.

With x the input a layer sees *in the quantized model*, W its adjusted float weight and Ŵ, x̂ what int8 makes of them,
the layer's own mean error is W E[x] - Ŵ E[x̂] (Nagel et al., "Data-free quantization through weight equalization and
bias correction", 2019, section 4.2, with measured instead of derived means). It is local, so one pass over the
calibration samples corrects every layer: what a layer inherits is corrected where it arises.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph import storage
from edgevit.graph.execute import Executor
from edgevit.graph.layers import calibrated_layers, layer_weight
from edgevit.quantize.adjust import adjust_weights
from edgevit.quantize.scales import fake_quantize
from edgevit.quantize.simulate import judges_of, sqnr_before
from edgevit.quantize.write_onnx import write_quantized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edgevit.quantize.simulate import Judges
    from edgevit.types import Arrays, OnnxModel, QuantPlan


class _Mean:
    """Mean per channel (last axis) in float64."""

    def __init__(self) -> None:
        self.total: NDArray[np.float64] | float = 0.0
        self.rows = 0

    def add(self, array: np.ndarray) -> None:
        flat = array.reshape(-1, array.shape[-1])
        self.total = self.total + flat.sum(axis=0, dtype=np.float64)
        self.rows += len(flat)

    @property
    def value(self) -> NDArray[np.float64]:
        return np.asarray(self.total / self.rows)


def correct_bias(
    model: OnnxModel, plan: QuantPlan, batches: Sequence[Arrays], judged: tuple[Judges, float] | None = None
) -> QuantPlan:
    """The plan with bias corrections measured on the first half of `batches`, if they bring the outputs of the second
    half closer to float; otherwise the plan as it was. Linear layers only.

    `judged`: the second half as judges and the plan's SQNR before them, where that is known already.
    """
    if len(batches) < 2:
        return plan
    half = len(batches) // 2
    if judged is None:
        judges = judges_of(model, batches[half:])
        judged = judges, sqnr_before(judges, plan)
    corrected = _corrected(model, plan, batches[:half])
    return corrected if sqnr_before(judged[0], corrected) > judged[1] else plan


def _corrected(model: OnnxModel, plan: QuantPlan, batches: Sequence[Arrays]) -> QuantPlan:
    entries = [entry for entry in plan.layers if entry.kind == "linear"]
    graph = storage.load(model.path)
    adjust_weights(graph, plan)
    layers = {layer.name: layer for layer in calibrated_layers(graph)}
    means = _input_means(model, plan, {entry.name: layers[entry.name].input for entry in entries}, batches)
    corrections: dict[str, tuple[float, ...]] = {}
    for entry in entries:
        seen, quantized = means[layers[entry.name].input]
        weight = layer_weight(graph, layers[entry.name])
        codes = fake_quantize(weight, np.asarray(entry.weight_scale, np.float32), 0, narrow=True)
        corrections[entry.name] = tuple(float(np.float32(value)) for value in weight @ seen - codes @ quantized)
    return msgspec.structs.replace(
        plan,
        layers=tuple(
            msgspec.structs.replace(entry, bias_correction=corrections.get(entry.name, ())) for entry in plan.layers
        ),
    )


def _input_means(
    model: OnnxModel, plan: QuantPlan, sources: dict[str, str], batches: Sequence[Arrays]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Per source tensor of the quantized model: its channels' means before and after quantization."""
    scales = {sources[entry.name]: entry.input_scale for entry in plan.layers if entry.name in sources}
    means = {source: (_Mean(), _Mean()) for source in scales}
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        quantized = write_quantized(model, plan, Path(folder) / model.path.name)
        with Executor(quantized.path, list(scales), exact=True) as executor:
            for batch in batches:
                values = executor.run(batch)
                for source, scale in scales.items():
                    before, after = means[source]
                    value = values.pop(source)  # nothing of one batch is left when the next one is computed
                    before.add(value)
                    after.add(fake_quantize(value, scale))
    return {source: (before.value, after.value) for source, (before, after) in means.items()}
