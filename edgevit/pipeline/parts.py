"""The graphs of one model: one, or an encoder and a decoder, with one plan for all of them.

Every stage works on a dict of part name to graph. The only graph of a one-graph model is the part "", so that
`folder / part` is right for both kinds. Parameters have the names of the whole model in every part, and none that can
be quantized is in two parts: one plan serves all.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import PlanError
from edgevit.graph import storage
from edgevit.graph.layers import quantizable_layers
from edgevit.types import QuantPlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgevit.types import FloatModel, OnnxModel

WHOLE = ""
"""The name of the only graph of a one-graph model."""


def part_models(model: FloatModel) -> dict[str, FloatModel]:
    """What is traced: the parts of an encoder-decoder as models of their own, or the model itself."""
    if not model.parts:
        return {WHOLE: model}
    return {
        part.name: msgspec.structs.replace(
            model,
            name=f"{model.name}, {part.name}",
            module=part.module,
            signature=part.signature,
            depth=part.depth,
            parts=(),
        )
        for part in model.parts
    }


def whole_digest(digests: Mapping[str, str]) -> str:
    """One digest for all parts, by part name; that of the only graph is its own."""
    if digests.keys() == {WHOLE}:
        return digests[WHOLE]
    return hashlib.sha256(json.dumps(dict(digests), sort_keys=True).encode()).hexdigest()


def graphs_digest(graphs: Mapping[str, OnnxModel]) -> str:
    """The digest that plans and stages know a model's graphs by."""
    return whole_digest({part: graph.digest for part, graph in graphs.items()})


def layer_names(graph: OnnxModel) -> tuple[str, ...]:
    """The layers of a graph that can be quantized, by parameter name, in its order."""
    return tuple(layer.name for layer in quantizable_layers(storage.load(graph.path)))


def patterns_of(patterns: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """For each part the patterns that match a layer of it; PlanError for one that matches none in any part.

    `names` are the layers by part. A planner takes a pattern that matches nothing for a mistake, and `decoder.*` is
    none although the encoder has no such layer.
    """
    if names.keys() == {WHOLE}:
        return {WHOLE: tuple(patterns)}
    chosen = {
        part: tuple(pattern for pattern in patterns if any(fnmatch.fnmatchcase(name, pattern) for name in layers))
        for part, layers in names.items()
    }
    for pattern in patterns:
        if not any(pattern in found for found in chosen.values()):
            some = next((layers[0] for layers in names.values() if layers), "none")
            raise PlanError(f"expected --skip {pattern!r} to match a layer, found none; layers are called {some}, …")
    return chosen


def merged(plans: Mapping[str, QuantPlan], graphs: Mapping[str, OnnxModel]) -> QuantPlan:
    """One plan of the plans of all parts, in the order of the parts. PlanError for a layer that two parts plan."""
    if plans.keys() == {WHOLE}:
        return plans[WHOLE]
    first = next(iter(plans.values()))
    layers = tuple(layer for plan in plans.values() for layer in plan.layers)
    skipped = tuple(layer for plan in plans.values() for layer in plan.skipped)
    _check_once([*(layer.name for layer in layers), *(layer.name for layer in skipped)])
    return msgspec.structs.replace(
        first,
        model_digest=graphs_digest(graphs),
        statistics_digest=whole_digest({part: plan.statistics_digest for part, plan in plans.items()}),
        layers=layers,
        skipped=skipped,
    )


def split(plan: QuantPlan, graphs: Mapping[str, OnnxModel]) -> dict[str, QuantPlan]:
    """For each part the entries whose layers its graph has."""
    if graphs.keys() == {WHOLE}:
        return {WHOLE: plan}
    plans: dict[str, QuantPlan] = {}
    for part, graph in graphs.items():
        names = set(layer_names(graph))
        plans[part] = msgspec.structs.replace(
            plan,
            model_digest=graph.digest,
            layers=tuple(layer for layer in plan.layers if layer.name in names),
            skipped=tuple(layer for layer in plan.skipped if layer.name in names),
        )
    return plans


def _check_once(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PlanError(
                f"expected each quantizable layer in one part of the model, found {name} in two; give the parts "
                "parameters of their own, or share only what is not quantized"
            )
        seen.add(name)
