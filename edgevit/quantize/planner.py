"""From statistics to a plan: equalization, ranges, weight scales, and which layers stay in float.

Each choice is made by what it does to the layer's own output (`output_error`), so a plan needs no labels and no
further run of the model, except for the bias correction (`bias.py`).
"""

from __future__ import annotations

import fnmatch
import math
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import CALIBRATED, Layer, calibrated_layers, layer_bias, layer_weight, quantizable_layers
from edgevit.graph.producers import VALUES, absorbing_parameters
from edgevit.quantize.adjust import EXPLICIT, adjust_weights
from edgevit.quantize.output_error import error_at, prepare
from edgevit.quantize.ranges import choose_input_range, choose_weight_scales, search_input_range
from edgevit.quantize.saturation import pair_safe_scales, seven_bit_scales
from edgevit.quantize.scales import largest_magnitude, scale_from_range
from edgevit.quantize.smoothing import choose_equalization, equalized_stats
from edgevit.threads import one_blas_thread, ordered_map, worker_threads
from edgevit.types import LayerPlan, QuantPlan, SkippedLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from edgevit.types import CalibrationStats, ChannelStats, OnnxModel

    FloatArray = NDArray[np.float32]

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 4
"""Groups of layers that are decided at the same time; each holds a few copies of its weights."""
EXPLICIT_GAIN = 0.5
"""An explicit multiplication is another operator in the model; it has to halve the layer's error."""


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    model_name: str = ""
    """Written into the plan, for people."""
    ranges: str = "search"
    """How input ranges are chosen: `search`, or one named method for all (`min-max`, `percentile-99.99`, …)."""
    weights: str = "search"
    """`search` or `min-max`."""
    equalize: frozenset[str] = frozenset({"norm", "values", "multiply"})
    """Where equalization may go: into a norm, into an attention's values, into an explicit multiplication."""
    bias_correction: bool = True
    """Used by `choose_plan`: it needs a run of the model."""
    safe_without_vnni: bool = False
    skip: tuple[str, ...] = ()
    """Patterns of parameter names that stay in float: `head.*`, `*.fc2.weight`."""
    least_layer_sqnr_db: float = 12.0
    """A layer whose own output would be noisier than this stays in float."""


class _Group(msgspec.Struct, frozen=True, kw_only=True):
    """Layers that read one tensor, with what was decided for that tensor."""

    layers: tuple[Layer, ...]
    stats: ChannelStats
    factors: tuple[float, ...] = ()
    into: str = ""


class _Adjusted(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The float graph with its equalization applied: the weights that scales are chosen for."""

    graph: ir.Model
    layers: dict[str, Layer]
    rescaled: frozenset[str]
    """Layers whose outputs are not those observed any more, because they absorb the factors of those after them."""
    observed: Mapping[str, tuple[float, float]]


def make_plan(
    model: OnnxModel,
    stats: CalibrationStats,
    options: PlanOptions | None = None,
    progress: Callable[[str], None] = lambda layer: None,
) -> QuantPlan:
    """The plan for `model` under `stats`. `progress` is called with each layer's name as it is decided.

    Raises PlanError for a skip pattern that matches no layer.
    """
    return next(candidate_plans(model, stats, options, progress))


def candidate_plans(
    model: OnnxModel,
    stats: CalibrationStats,
    options: PlanOptions | None = None,
    progress: Callable[[str], None] = lambda layer: None,
) -> Iterator[QuantPlan]:
    """The plan of `make_plan` and, where it equalizes, the same without; what that leaves alone is decided once."""
    options = options or PlanOptions()
    graph = storage.load(model.path)
    layers = quantizable_layers(graph)
    _check_patterns(options.skip, layers)
    active = [layer for layer in layers if not _why_float(layer, options)]
    inputs = _by_input([layer for layer in active if layer.kind in CALIBRATED])
    groups = list(_each(lambda group: _equalize(graph, group, stats, layers, options), inputs))
    decided = {
        layer.name: (_weight_only(graph, layer, options), 0.0) for layer in active if layer.kind not in CALIBRATED
    }
    decided |= _decided(model, groups, stats, options, progress)
    yield _plan(model, stats, layers, options, decided)
    changed = _changed(groups)
    if changed:
        plain = [_Group(layers=group, stats=stats.inputs[group[0].name]) for group in inputs]
        again = [group for group in plain if _names(group.layers) & changed]
        decided |= _decided(model, again, stats, options, progress)
        yield _plan(model, stats, layers, options, decided)


def _decided(
    model: OnnxModel,
    groups: Sequence[_Group],
    stats: CalibrationStats,
    options: PlanOptions,
    progress: Callable[[str], None],
) -> dict[str, tuple[LayerPlan, float]]:
    """The entry of every layer of the groups and the relative error of its output, by the layer's name."""
    graph = storage.load(model.path)
    adjust_weights(graph, _equalization_only(groups))
    adjusted = _Adjusted(
        graph=graph,
        layers={layer.name: layer for layer in calibrated_layers(graph)},
        rescaled=frozenset(group.into.removesuffix(VALUES) for group in groups if group.into.endswith(VALUES)),
        observed=stats.outputs,
    )
    decided: dict[str, tuple[LayerPlan, float]] = {}
    for entries, errors in _each(lambda group: _plan_group(adjusted, group, options), groups):
        for entry, error in zip(entries, errors, strict=True):
            progress(entry.name)
            decided[entry.name] = entry, error
    return decided


def _each(function: Callable[[Item], Result], groups: Sequence[Item]) -> Iterator[Result]:
    """Of each group in order, on all cores: NumPy computes without the interpreter lock."""
    workers = worker_threads(MOST_WORKERS)
    with one_blas_thread():
        yield from ordered_map(function, groups, workers, 2 * workers)


def _changed(groups: Sequence[_Group]) -> set[str]:
    """Names of the layers whose weights or inputs the equalization of any group changes."""
    changed: set[str] = set()
    for group in groups:
        if group.factors:
            changed |= _names(group.layers) | {group.into.removesuffix(VALUES)}
    return changed


def _names(layers: Sequence[Layer]) -> set[str]:
    return {layer.name for layer in layers}


def _plan(
    model: OnnxModel,
    stats: CalibrationStats,
    layers: Sequence[Layer],
    options: PlanOptions,
    decided: Mapping[str, tuple[LayerPlan, float]],
) -> QuantPlan:
    """The plan of what was decided, in graph order; too noisy layers stay in float."""
    planned: list[LayerPlan] = []
    skipped: list[SkippedLayer] = []
    for layer in layers:
        reason = _why_float(layer, options)
        if not reason:
            entry, error = decided[layer.name]
            sqnr = -10 * math.log10(max(error, 1e-30))
            # An equalized input has already changed the norm before it: that layer has to stay in the plan.
            if sqnr >= options.least_layer_sqnr_db or entry.equalization:
                planned.append(entry)
                continue
            reason = f"its output would keep {sqnr:.1f} dB in int8, below {options.least_layer_sqnr_db:g} dB"
        skipped.append(SkippedLayer(name=layer.name, reason=reason))
    return QuantPlan(
        model=options.model_name,
        model_digest=model.digest,
        statistics_digest=stats.digest,
        samples=stats.samples,
        seed=stats.seed,
        safe_without_vnni=options.safe_without_vnni,
        layers=tuple(planned),
        skipped=tuple(skipped),
    )


def _why_float(layer: Layer, options: PlanOptions) -> str:
    """Why a layer is not even tried in int8; empty where it is."""
    pattern = _matching(layer, options.skip)
    if pattern:
        return f"left in float as asked ({pattern})"
    # The statistics are per channel of the whole input, and a depthwise convolution has little to compute.
    return "a convolution in groups" if layer.groups > 1 else ""


def _by_input(layers: Sequence[Layer]) -> list[tuple[Layer, ...]]:
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(layer.input, []).append(layer)
    return [tuple(group) for group in groups.values()]


def _equalize(
    graph: ir.Model, group: tuple[Layer, ...], stats: CalibrationStats, layers: Sequence[Layer], options: PlanOptions
) -> _Group:
    seen = stats.inputs[group[0].name]
    # Whoever gathers rows of a tied weight would see its columns scaled.
    if any(layer.kind != "linear" or layer.tied for layer in group):
        return _Group(layers=group, stats=seen)
    into = absorbing_parameters(graph, group, layers)
    place = "multiply" if into is None else "values" if into.endswith(VALUES) else "norm"
    if place not in options.equalize:
        return _Group(layers=group, stats=seen)
    choice = choose_equalization(seen, [layer_weight(graph, layer) for layer in group])
    worth = choice.alpha is not None and (into is not None or choice.error_after < EXPLICIT_GAIN * choice.error_before)
    if not worth:
        return _Group(layers=group, stats=seen)
    factors = tuple(float(factor) for factor in choice.factors)
    return _Group(layers=group, stats=equalized_stats(seen, choice.factors), factors=factors, into=into or EXPLICIT)


def _equalization_only(groups: Sequence[_Group]) -> QuantPlan:
    """A plan that does nothing but equalize, to adjust the weights that the scales are then chosen for."""
    return QuantPlan(
        model="",
        model_digest="",
        layers=tuple(
            LayerPlan(
                name=layer.name,
                kind=layer.kind,
                input_scale=1.0,
                weight_scale=(),
                equalization=group.factors,
                equalization_into=group.into,
            )
            for group in groups
            if group.factors
            for layer in group.layers
        ),
    )


def _plan_group(adjusted: _Adjusted, group: _Group, options: PlanOptions) -> tuple[list[LayerPlan], list[float]]:
    """The entries of the layers that read one tensor, and each one's own output error; they share the input's scale."""
    weights = [layer_weight(adjusted.graph, adjusted.layers[layer.name]) for layer in group.layers]
    scales = [
        _weight_scales(layer, weight, group.stats, options) for layer, weight in zip(group.layers, weights, strict=True)
    ]
    alone = [prepare(group.stats, [weight], [scale]) for weight, (scale, _) in zip(weights, scales, strict=True)]
    if options.ranges == "search":
        both = alone[0] if len(alone) == 1 else prepare(group.stats, weights, [scale for scale, _ in scales])
        threshold, method, _ = search_input_range(both)
        method = f"search:{method}"
    else:
        threshold, method = choose_input_range(group.stats, weights[0], options.ranges)
    errors = [error_at(probe, threshold) for probe in alone]
    entries = []
    for layer, weight, (scale, weight_method) in zip(group.layers, weights, scales, strict=True):
        entries.append(
            LayerPlan(
                name=layer.name,
                kind=layer.kind,
                input_scale=float(scale_from_range(threshold)),
                weight_scale=tuple(float(value) for value in scale),
                output_scale=_output_scale(adjusted, layer, weight, group.stats),
                input_method=method,
                weight_method=weight_method,
                equalization=group.factors,
                equalization_into=group.into,
            )
        )
    return entries, errors


def _weight_only(graph: ir.Model, layer: Layer, options: PlanOptions) -> LayerPlan:
    """The entry of an embedding or a recurrent weight: all of a row's numbers count the same."""
    weight = layer_weight(graph, layer)
    if options.weights == "search":
        scale = choose_weight_scales(weight).scale
    else:
        scale = scale_from_range(largest_magnitude(weight, 1))
    return LayerPlan(
        name=layer.name,
        kind=layer.kind,
        input_method="not quantized",
        weight_scale=tuple(float(value) for value in scale),
        weight_method=options.weights,
    )


def _weight_scales(
    layer: Layer, weight: FloatArray, seen: ChannelStats, options: PlanOptions
) -> tuple[FloatArray, str]:
    if options.weights == "search":
        scale = choose_weight_scales(weight, seen.channel_power).scale
    else:
        scale = scale_from_range(largest_magnitude(weight, 1))
    if not options.safe_without_vnni:
        return scale, options.weights
    if layer.kind == "conv":
        return seven_bit_scales(weight, scale), f"{options.weights}, seven bits"
    return pair_safe_scales(weight, scale), f"{options.weights}, pair-safe"


def _output_scale(adjusted: _Adjusted, layer: Layer, weight: FloatArray, seen: ChannelStats) -> float | None:
    """From the observed output; from the sampled rows too where equalization has changed what comes out."""
    low, high = adjusted.observed.get(layer.name, (0.0, 0.0))
    widest = max(-low, high)
    if layer.kind == "linear" and (widest == 0 or layer.name in adjusted.rescaled):
        outputs = seen.rows @ weight.T
        bias = layer_bias(adjusted.graph, adjusted.layers[layer.name])
        widest = max(widest, float(np.abs(outputs if bias is None else outputs + bias).max()))
    return float(scale_from_range(widest)) if widest > 0 else None


def _matching(layer: Layer, patterns: Sequence[str]) -> str:
    return next((pattern for pattern in patterns if fnmatch.fnmatchcase(layer.name, pattern)), "")


def _check_patterns(patterns: Sequence[str], layers: Sequence[Layer]) -> None:
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(layer.name, pattern) for layer in layers):
            raise PlanError(
                f"expected --skip {pattern!r} to match a layer, found none; layers are called {layers[0].name}, …"
            )
