"""What the measurements say: ratio against float32, verdict, drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.measure.samples import rounds_of
from edgevit.statistics import median_ratio
from edgevit.types import Ratio

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgevit.types import BenchEntry, Conditions

DRIFT_WORTH_A_WARNING = 0.05
BUSY_WORTH_A_WARNING = 0.1
WORTH_IT = "worth it"
NOT_WORTH_IT = "not worth it"


def judged(entry: BenchEntry, cell: Sequence[BenchEntry], seed: int) -> BenchEntry:
    """`entry` with its ratio and verdict against the float32 build of its target, else the first one of the cell.

    `cell` holds the entries measured in the same rounds, which pairs them. A float32 entry, and any entry of a cell
    without float32, has neither. `worth it`: the whole confidence interval lies below 1; else `not worth it`.
    """
    baseline = baseline_of(entry, cell)
    if entry.precision == "float32" or baseline is None:
        return entry
    value, interval = median_ratio(rounds_of(entry.latency), rounds_of(baseline.latency), paired=True, seed=seed)
    return msgspec.structs.replace(
        entry,
        ratio=Ratio(value=value, interval=interval, baseline=baseline.name),
        verdict=WORTH_IT if interval.high < 1.0 else NOT_WORTH_IT,
    )


def baseline_of(entry: BenchEntry, cell: Sequence[BenchEntry]) -> BenchEntry | None:
    floats = [other for other in cell if other.precision == "float32"]
    return next((other for other in floats if other.target == entry.target), floats[0] if floats else None)


def drift_warnings(entries: Iterable[BenchEntry]) -> list[str]:
    """One line per entry whose latency drifted by more than 5 % over its rounds, and by more than they scatter.

    Ratios are paired and suffer less.
    """
    return [
        f"{entry.name}, batch {entry.batch_size}, threads {entry.threads}: latency drifted by {entry.drift:+.0%} from "
        f"the first third of the rounds to the last{_meanwhile(entry.conditions)}; its absolute figures depend on when "
        "they were taken"
        for entry in entries
        if entry.drift is not None
        and abs(entry.drift) > DRIFT_WORTH_A_WARNING
        and (entry.drift_noise is None or entry.drifted)
    ]


def _meanwhile(conditions: Conditions | None) -> str:
    if conditions is None:
        return ""
    first, last = conditions.first, conditions.last
    told = []
    if first.clock_mhz is not None and last.clock_mhz is not None:
        before, after = f"{first.clock_mhz:.0f}", f"{last.clock_mhz:.0f}"
        told.append(
            f"the clock went from {before} to {after} MHz" if before != after else f"the clock stayed at {after} MHz"
        )
    if first.temperature_c is not None and last.temperature_c is not None:
        told.append(f"the processor from {first.temperature_c:.0f} to {last.temperature_c:.0f} °C")
    return f" ({', '.join(told)})" if told else ""


def busy_warnings(share: float | None) -> list[str]:
    """A line when other programs used more than 10 % of the processors just before the measurement."""
    if share is None or share <= BUSY_WORTH_A_WARNING:
        return []
    return [
        f"other programs kept {share:.0%} of the processors busy when the measurement began; expect slower and less "
        "steady figures than on an idle machine"
    ]
