"""What the suite `mobile` tells of its measurements: figures against the vendors' recipes, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from coreml_weights import PEER as COREMLTOOLS
from peers import SAMPLES_KEPT
from record import (
    DECIBEL,
    MEGABYTES,
    MILLISECONDS,
    PERCENT,
    RATIO,
    Figure,
    Quantity,
    Table,
    Target,
    figure,
    with_interval,
)
from vendors import EDGE_QUANTIZER, PEERS, TORCHAO, TORCHAO_4BIT

from edgevit.measure.samples import rounds_of, thin
from edgevit.statistics import median_ratio
from edgevit.types import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgevit.types import BenchEntry, Latency

TEXT_TARGETS = ("ort-mobile", "executorch", "litert", "coreml", "web")
"""Those that take an encoder and a decoder."""
TITLES = {
    TORCHAO: "torchao PT2E, XNNPACK's default",
    TORCHAO_4BIT: "torchao, 4-bit groups of 32",
    EDGE_QUANTIZER: "ai-edge-quantizer, dynamic range",
    COREMLTOOLS: "coremltools, linear_quantize_weights",
}
RIVALS = {"executorch-int8": TORCHAO, "executorch-int4d": TORCHAO_4BIT, "litert-int8d": EDGE_QUANTIZER}
"""Ours to the vendor's recipe of the same precision."""
SHARE = Quantity(unit="%", digits=1)


def entry_of(entry: BenchEntry) -> dict[str, Any]:
    """As JSON values, with few of the samples: ratios are computed from all of them."""
    kept: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(entry, latency=_thinned(entry.latency)))
    if entry.generation is not None:
        written = msgspec.structs.replace(
            entry.generation,
            first_token=_thinned(entry.generation.first_token),
            next_token=_thinned(entry.generation.next_token),
        )
        kept["generation"] = msgspec.to_builtins(written)
    return kept


def _thinned(latency: Latency) -> Latency:
    kept = thin(rounds_of(latency), SAMPLES_KEPT)  # type: ignore[arg-type]
    return msgspec.structs.replace(
        latency, samples=tuple(sample for part in kept for sample in part), round_sizes=tuple(map(len, kept))
    )


def ratios(entries: Sequence[BenchEntry]) -> dict[str, dict[str, dict[str, Any]]]:
    """Build to baseline to the ratio of their latencies: its engine's float32, and the vendor's recipe.

    Of a build that writes it is the latency of a further token.
    """
    rounds = {entry.name: rounds_of(timed(entry)) for entry in entries}

    def ratio(build: str, baseline: str) -> dict[str, Any]:
        value, interval = median_ratio(rounds[build], rounds[baseline], paired=True)
        return {"value": value, "interval": msgspec.to_builtins(interval)}

    found: dict[str, dict[str, dict[str, Any]]] = {}
    for build in rounds:
        rival = RIVALS.get(build, "")
        baselines = [one for one in (float_of(build), rival) if one in rounds and one != build]
        found[build] = {one: ratio(build, one) for one in baselines}
    return found


def timed(entry: BenchEntry) -> Latency:
    """A call of a build that reads, a further token of one that writes."""
    return entry.latency if entry.generation is None else entry.generation.next_token


def float_of(build: str) -> str:
    target = PEERS[build][0] if build in PEERS else build.rpartition("-")[0]
    return f"{target}-float32"


# ------------------------------------------------------------------------------------------------- findings


def figures(name: str, found: dict[str, Any]) -> list[Figure]:
    """Ours against the vendor's recipe of the same precision: latency, closeness; of Core ML the weights alone."""
    made = []
    for ours, peer in RIVALS.items():
        ratio = found["ratios"].get(ours, {}).get(peer)
        if ratio is None:
            continue
        interval = msgspec.convert(ratio["interval"], Interval)
        target = Target(limit=1.02, quantity=RATIO)
        made.append(figure(f"{name} {ours}: latency against {TITLES[peer]}", ratio["value"], target, interval))
        limit, value = (found["closeness"][one]["sqnr_db"] for one in (peer, ours))
        target = Target(limit=limit, quantity=DECIBEL, at_least=True, whose=TITLES[peer])
        made.append(figure(f"{name} {ours}: logits' SQNR", value, target))
    weights = found.get("weights") or {}
    if {"coreml-int8w", COREMLTOOLS} <= set(weights):
        limit, value = (_typical(weights[one]) for one in (COREMLTOOLS, "coreml-int8w"))
        target = Target(limit=limit, quantity=DECIBEL, at_least=True, whose=TITLES[COREMLTOOLS])
        made.append(figure(f"{name} coreml-int8w: SQNR of the weights, median of the layers", value, target))
    return made


def tables(name: str, found: dict[str, Any]) -> list[Table]:
    if "closeness" not in found:
        return [_texts_table(name, found), *_packages_table(name, found)]
    return [_images_table(name, found), *([_weights_table(name, found)] if found["weights"] else ())]


def _images_table(name: str, found: dict[str, Any]) -> Table:
    rows = []
    for entry in found["entries"]:
        build = _name(entry)
        close = found["closeness"][build]
        rows.append(
            (
                TITLES.get(build, build),
                MEGABYTES(found["sizes"][build]),
                MILLISECONDS(entry["latency"]["p50"]),
                _of_float(build, found),
                DECIBEL(close["sqnr_db"]),
                SHARE(close["agreement"]),
                _share(found["delegated"].get(build)),
                MILLISECONDS(float(np.median(found["loading_ms"][build]))),
                found["rungs"].get(build, {}).get("verdict", ""),
            )
        )
    columns = ("build", "size", "median latency", "of its engine's float32", "logits' SQNR", "same label")
    versions = ", ".join(f"{package} {version}" for package, version in found["versions"].items())
    note = (
        "Delegated: share of the multiply-accumulates that XNNPACK takes. Loaded: from files to the first result, the "
        "engine's own code apart; of web with the start of the browser. A web folder holds its runtime and page."
    )
    return Table(
        title=f"{name} for phones and browsers, batch 1",
        columns=(*columns, "delegated", "loaded in", "verdict"),
        rows=tuple(rows),
        note=f"{note} {versions}." if versions else note,
    )


def _weights_table(name: str, found: dict[str, Any]) -> Table:
    rows = tuple(
        (
            TITLES.get(build, build),
            MEGABYTES(one["size"]),
            f"{one['narrow']} of {one['layers']}",
            DECIBEL(_typical(one)),
            DECIBEL(min(one["sqnr_db"])),
        )
        for build, one in found["weights"].items()
    )
    return Table(
        title=f"{name} for Core ML, built and not executed: what the packages store",
        columns=("build", "size", "narrow weights", "SQNR of a layer's weight, median", "worst layer"),
        rows=rows,
    )


def _texts_table(name: str, found: dict[str, Any]) -> Table:
    rows = []
    for entry in found["entries"]:
        build, written = _name(entry), entry["generation"]
        rung = found["rungs"].get(build, {})
        task = rung.get("task") or {}
        rows.append(
            (
                build,
                MEGABYTES(found["sizes"][build]),
                MILLISECONDS(written["first_token"]["p50"]),
                MILLISECONDS(written["next_token"]["p50"]),
                _of_float(build, found),
                PERCENT(task["build"]) if task else "",
                SHARE(rung["agreement"]) if rung.get("agreement") is not None else "",
                _share(found["delegated"].get(build)),
                MILLISECONDS(float(np.median(found["loading_ms"][build]))),
                rung.get("verdict", ""),
            )
        )
    columns = ("build", "size", "first token", "further token", "of its engine's float32", "exact match")
    return Table(
        title=f"{name} for phones and browsers, one phrase at a time",
        columns=(*columns, "same as float", "delegated", "loaded in", "verdict"),
        rows=tuple(rows),
    )


def _packages_table(name: str, found: dict[str, Any]) -> list[Table]:
    """Core ML's, of which nothing is executed here; none where none was built."""
    rows = tuple((build, MEGABYTES(size)) for build, size in found["sizes"].items() if build.startswith("coreml"))
    title = f"{name} for Core ML, built and not executed: encoder, first tokens and further ones"
    return [Table(title=title, columns=("build", "size"), rows=rows)] if rows else []


def _name(entry: dict[str, Any]) -> str:
    return f"{entry['target']}-{entry['precision']}"


def _typical(weights: dict[str, Any]) -> float:
    return float(np.median(weights["sqnr_db"]))


def _of_float(build: str, found: dict[str, Any]) -> str:
    ratio = found["ratios"].get(build, {}).get(float_of(build))
    if ratio is None:
        return "1"
    return with_interval(RATIO, ratio["value"], msgspec.convert(ratio["interval"], Interval))


def _share(delegated: dict[str, Any] | None) -> str:
    return "" if delegated is None else SHARE(100 * delegated["macs"])
