"""Streams calibration samples through the float graph and observes what every quantizable layer reads.

Memory is that of the model, one batch and the observers, however many samples there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import SetError
from edgevit.graph import storage
from edgevit.graph.execute import Executor, range_of
from edgevit.graph.layers import Layer, calibrated_layers
from edgevit.quantize.observers import InputObserver
from edgevit.quantize.statistics_file import statistics_digest
from edgevit.types import CalibrationStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import onnx_ir as ir

    from edgevit.types import Arrays, OnnxModel


class CalibrationOptions(msgspec.Struct, frozen=True, kw_only=True):
    set_name: str
    set_digest: str
    seed: int = 0
    rows: int = 512
    """Rows of each layer's input that are kept for the searches; 512 rows of a ViT-B take 120 MB in all."""
    bins: int = 2048
    threads: int = 0


def calibrate(
    model: OnnxModel,
    batches: Iterable[Arrays],
    options: CalibrationOptions,
    progress: Callable[[int], None] = lambda samples: None,
) -> CalibrationStats:
    """Statistics of every layer whose input is quantized, over all `batches` (dicts of input arrays).

    Batches may differ in their lengths; in what layers read, padding (as a mask says) is not counted, in the ranges of
    their outputs it is. Deterministic under the seed.
    `progress` is called with the number of samples read so far. Raises SetError when there are none.
    """
    graph = storage.load(model.path)
    layers = calibrated_layers(graph)
    observers = _observers(layers, options)
    masks = _masks(graph)
    ranges: dict[str, tuple[float, float]] = {}
    inputs = {spec.name for spec in model.signature.inputs}
    taps, outputs = [name for name in observers if name not in inputs], [layer.output for layer in layers]
    samples = 0
    with Executor(model.path, taps, ranges=outputs, threads=options.threads) as executor:
        for batch in batches:
            values = {**executor.run(batch), **batch}
            for name, observer in observers.items():
                array = values.pop(name)
                observer.update(array[batch[masks[name]] != 0] if name in masks else array)
            for layer in layers:
                ranges[layer.name] = _widened(ranges.get(layer.name), *range_of(layer.output, values))
            samples += len(next(iter(batch.values())))
            progress(samples)
    if samples == 0:
        raise SetError(f"expected samples in the calibration set {options.set_name}, found none; name another set")
    seen = {name: observers.pop(name).result() for name in list(observers)}
    result = CalibrationStats(
        model_digest=model.digest,
        set_digest=options.set_digest,
        set_name=options.set_name,
        samples=samples,
        seed=options.seed,
        inputs={layer.name: seen[layer.input] for layer in layers},
        outputs=ranges,
    )
    return msgspec.structs.replace(result, digest=statistics_digest(result))


def _observers(layers: tuple[Layer, ...], options: CalibrationOptions) -> dict[str, InputObserver]:
    """One per tensor, not per layer: q, k and v that read the same tensor are observed once."""
    observers: dict[str, InputObserver] = {}
    for index, layer in enumerate(layers):
        if layer.input not in observers:
            observers[layer.input] = InputObserver(
                layer.name,
                channels_axis=1 if layer.kind == "conv" else -1,
                bins=options.bins,
                rows=options.rows,
                seed=options.seed + index,
            )
    return observers


def _masks(graph: ir.Model) -> dict[str, str]:
    """Tensor to the mask that says which of its rows are tokens, for tensors (batch, length, channels) with a mask.

    What stands in the padding changes no result, so its numbers must not widen a range or weigh in an error.
    """
    masks = {
        str(value.shape[1]): str(value.name)
        for value in graph.graph.inputs
        if str(value.name).endswith("mask") and value.shape is not None and len(value.shape) == 2
    }
    values = (output for node in graph.graph for output in node.outputs)
    return {
        str(value.name): masks[str(value.shape[1])]
        for value in values
        if value.shape is not None
        and len(value.shape) == 3
        and not isinstance(value.shape[1], int)
        and str(value.shape[1]) in masks
    }


def _widened(known: tuple[float, float] | None, low: float, high: float) -> tuple[float, float]:
    return (low, high) if known is None else (min(low, known[0]), max(high, known[1]))
