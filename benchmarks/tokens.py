"""What the suite `sequences` tells of its measurements: figures against their targets, and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from bootstrap import median_of
from nncf_parts import DYNAMIC, STATIC, TITLES, WEIGHTS
from record import MEGABYTES, MILLISECONDS, PERCENT, RATIO, Figure, Quantity, Table, Target, figure, with_interval

from edgevit.measure.samples import rounds_of
from edgevit.statistics import median_ratio
from edgevit.types import BenchEntry, GenerationTimes, Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

FLOAT, INT8 = "openvino-float32", "openvino-int8"
PEERS = {STATIC: INT8, DYNAMIC: "openvino-int8d", WEIGHTS: "openvino-int8w"}
"""NNCF's builds, and ours of the same precisions and settings."""
EARLY, LATE = slice(5, 11), slice(-7, None)
"""The tokens around the eighth and the last ones: a median of six or seven."""
RATE = Quantity(unit="/s", digits=1)


def loop_figures(name: str, loops: dict[str, Any]) -> list[Figure]:
    """What the loop adds, how the cost of a token grows, and what the cache saves."""
    beyond, growth, saved = [], [], []
    for build, found in loops.items():
        times, engine = (np.asarray(found[key], dtype=np.float64)[:, 1:] for key in ("token_ns", "engine_ns"))
        value, interval = median_of(100 * (times.sum(axis=1) / engine.sum(axis=1) - 1))
        target = Target(limit=5.0, quantity=PERCENT)
        beyond.append(figure(f"{name} {build}: the loop beyond the engine's own steps", value, target, interval))
        value, interval = median_of(np.median(times[:, LATE], axis=1) / np.median(times[:, EARLY], axis=1))
        target = Target(limit=1.3, quantity=RATIO)
        growth.append(figure(f"{name} {build}: token {times.shape[1] + 1} against token 8", value, target, interval))
        if "whole" in found:
            whole = found["whole"]
            value, interval = median_of(np.asarray(whole["without"]) / np.asarray(whole["cached"]))
            label = f"{name} {build}: {whole['tokens']} tokens without the cache against with it"
            target = Target(limit=3.0, quantity=RATIO, at_least=True)
            saved.append(figure(label, value, target, interval))
    return [*growth, *saved, *beyond]


def build_figures(name: str, entries: Sequence[BenchEntry]) -> list[Figure]:
    """int8 against float32, and ours against NNCF's, by a further token at batch 1."""
    first = {entry.name: entry for entry in entries if entry.batch_size == 1}
    faster, interval = _ratio(first[FLOAT], first[INT8])
    target = Target(limit=1.8, quantity=RATIO, at_least=True, needs_vnni=True)
    figures = [figure(f"{name}, OpenVINO: a token in float32 against int8", faster, target, interval)]
    for peer, ours in PEERS.items():
        value, interval = _ratio(first[ours], first[peer])
        label = f"{name}, OpenVINO {first[ours].precision}: a token against {TITLES[peer]}"
        figures.append(figure(label, value, Target(limit=1.0, quantity=RATIO), interval))
    return figures


def optimum_figures(name: str, loops: dict[str, Any], optimum: dict[str, Any]) -> list[Figure]:
    """A token by our loop against one by optimum-intel's, each with its own int8 build of a model of one size."""
    ours, theirs = (_further(found) for found in (loops[INT8], optimum["builds"]["int8"]))
    low, high = np.quantile(_ratios(ours, theirs), [0.025, 0.975])
    interval = Interval(low=float(low), high=float(high), level=0.95)
    value = float(np.median(ours) / np.median(theirs))
    label = f"{name}, OpenVINO int8: a token against optimum-intel, int8"
    return [figure(label, value, Target(limit=1.0, quantity=RATIO), interval)]


def _further(found: dict[str, Any], key: str = "token_ns") -> Any:
    """Of each run the median of a further token, nanoseconds."""
    return np.median(np.asarray(found[key], dtype=np.float64)[:, 1:], axis=1)


def _ratios(ours: Any, theirs: Any) -> Any:
    """Ratios of medians over runs drawn with replacement; the two did not take turns."""
    random = np.random.default_rng(0)
    one, other = (np.median(random.choice(values, (2000, len(values))), axis=1) for values in (ours, theirs))
    return one / other


def _ratio(one: BenchEntry, other: BenchEntry) -> tuple[float, Interval]:
    """Of the medians of a further token, paired by round."""
    further = (rounds_of(_times(entry).next_token) for entry in (one, other))
    return median_ratio(*further, paired=True)


def without_samples(entry: BenchEntry) -> dict[str, Any]:
    """An entry for the record: thousands of samples become the medians of their rounds, which figures rest on."""
    kept: dict[str, Any] = msgspec.to_builtins(entry)
    times = _times(entry)
    for name, latency in (("first_token", times.first_token), ("next_token", times.next_token)):
        kept["generation"][name]["round_medians"] = [float(np.median(samples)) for samples in rounds_of(latency)]
    for latency in (kept["latency"], kept["generation"]["first_token"], kept["generation"]["next_token"]):
        del latency["samples"], latency["round_sizes"]
    return kept


def _times(entry: BenchEntry) -> GenerationTimes:
    if entry.generation is None:
        raise RuntimeError(f"expected times of writing of {entry.name}, found none")
    return entry.generation


# ---------------------------------------------------------------------------------------------------- tables


def builds_table(name: str, entries: Sequence[BenchEntry]) -> Table:
    rows = []
    beams = sorted({rate.beams for entry in entries for rate in _times(entry).rates})
    for entry in entries:
        times = _times(entry)
        rates = {rate.beams: rate.tokens_per_second for rate in times.rates}
        rows.append(
            (
                TITLES.get(entry.name, entry.name),
                str(entry.batch_size),
                MILLISECONDS(times.first_token.p50),
                MILLISECONDS(times.next_token.p50),
                *(RATE(rates[count]) for count in beams),
                MEGABYTES(entry.size_bytes),
            )
        )
    written = _times(entries[0])
    return Table(
        title=f"{name}: {written.tokens} tokens written for each source of {written.source_length}, medians; tokens "
        "per second of the whole batch",
        columns=(
            "build", "batch", "first token", "further token", *(f"tokens, beams {count}" for count in beams), "size",
        ),
        rows=tuple(rows),
    )  # fmt: skip


def memory_table(name: str, entries: Sequence[BenchEntry]) -> Table:
    places = [at.tokens for at in _times(entries[0]).memory]
    return Table(
        title=f"{name}: resident memory of the process by tokens written, one beam",
        columns=("build", "batch", *map(str, places)),
        rows=tuple(
            (
                TITLES.get(entry.name, entry.name),
                str(entry.batch_size),
                *(MEGABYTES(at.resident_bytes) for at in _times(entry).memory),
            )
            for entry in entries
        ),
    )


def graphs_table(name: str, graphs: dict[str, Any]) -> Table:
    """Whether a graph for steps alone would be faster."""
    rows = []
    for build, found in graphs.items():
        one, two = (np.asarray(found[key], dtype=np.float64)[:, 1:] for key in ("one", "two"))
        value, interval = median_of(np.median(two, axis=1) / np.median(one, axis=1))
        rows.append(
            (
                build,
                MILLISECONDS(float(np.median(one)) / 1e6),
                MILLISECONDS(float(np.median(two)) / 1e6),
                with_interval(RATIO, value, interval),
            )
        )
    return Table(
        title=f"{name}: a further token by one decoder graph for every length, and by one for steps alone",
        columns=("build", "one graph", "a graph for steps", "second against first"),
        rows=tuple(rows),
    )


def optimum_table(name: str, loops: dict[str, Any], optimum: dict[str, Any]) -> Table:
    """Both loops by precision, and how much of a token is the engine's."""
    pairs = [(f"edgevit {build}", loops[build]) for build in (FLOAT, INT8)]
    pairs += [(f"optimum-intel {build}", found) for build, found in optimum["builds"].items()]
    rows = []
    for build, found in pairs:
        whole, engine = (float(np.median(_further(found, key))) / 1e6 for key in ("token_ns", "engine_ns"))
        rows.append((build, MILLISECONDS(whole), MILLISECONDS(engine)))
    versions = ", ".join(f"{package} {version}" for package, version in optimum["versions"].items())
    return Table(
        title=f"{name} and a Marian model of its size by optimum-intel: a further token, batch 1",
        columns=("build and loop", "a token", "of it the engine's"),
        rows=tuple(rows),
        note=f"{versions}. Its int8 has int8 weights; its float32 is held to float32.",
    )
