"""How fast a build is, and what it needs."""

from __future__ import annotations

from edgevit.types.builds import Machine
from edgevit.types.parity import Interval
from edgevit.types.signature import Value


class Latency(Value, frozen=True, kw_only=True):
    """Milliseconds per call; raw samples are kept, in the order they were taken."""

    p50: float
    p90: float
    p99: float
    mean: float
    samples: tuple[float, ...]
    calls: int = 0
    """How many calls the figures above come from; `samples` is evenly thinned when it holds fewer."""
    round_sizes: tuple[int, ...] = ()
    """How many of `samples` each round gave, in order; empty when rounds are unknown."""


class ColdStart(Value, frozen=True, kw_only=True):
    """Process start to first result, milliseconds: median over repeats, with the raw samples."""

    first_ms: float
    cached_ms: float | None = None
    """The same with the engine's compile cache warm; None where the engine has none."""
    samples_ms: tuple[float, ...] = ()
    cached_samples_ms: tuple[float, ...] = ()


class Ratio(Value, frozen=True, kw_only=True):
    """A ratio of medians with its bootstrap confidence interval; below 1 is better than the baseline."""

    value: float
    interval: Interval
    baseline: str


class Reading(Value, frozen=True, kw_only=True):
    """The processor at one moment; None for what the system does not tell."""

    clock_mhz: float | None = None
    temperature_c: float | None = None


class Conditions(Value, frozen=True, kw_only=True):
    """The processor in the first and in the last third of the rounds, medians."""

    first: Reading
    last: Reading


class BeamRate(Value, frozen=True, kw_only=True):
    """How fast one number of beams writes; all sources of the batch together."""

    beams: int
    tokens_per_second: float
    """Of the results, not of the beams."""


class MemoryAt(Value, frozen=True, kw_only=True):
    """The process's resident memory when so many tokens had been written."""

    tokens: int
    resident_bytes: int


class GenerationTimes(Value, frozen=True, kw_only=True):
    """How a decoder writes `tokens` tokens for each source of the batch; the end token is not listened to."""

    source_length: int
    tokens: int
    first_token: Latency
    """From the source's ids to the first token: the encoder and one step."""
    next_token: Latency
    """One further token of each source, greedy search."""
    by_place: tuple[float, ...]
    """Median milliseconds of the first, second, … token."""
    rates: tuple[BeamRate, ...]
    memory: tuple[MemoryAt, ...]
    without_cache: float | None = None
    """Tokens per second of one beam whose decoder reads all tokens again for each; None: not measured."""


class BenchEntry(Value, frozen=True, kw_only=True):
    """One build under one setting."""

    target: str
    precision: str
    batch_size: int
    threads: int
    latency: Latency
    throughput: float
    """Items per second, streams and batch as set below."""
    streams: int
    cold_start: ColdStart | None = None
    peak_memory_bytes: int
    size_bytes: int
    executed_precision: str
    ratio: Ratio | None = None
    """Latency against the same target's float32 build at the same batch and threads (or the first float32 build)."""
    verdict: str = ""
    """`worth it`, `not worth it` (no faster than float32) or empty for the baseline."""
    drift: float | None = None
    """Last third of the rounds against the first, ratio of median latencies minus 1; None for a single round."""
    drift_noise: float | None = None
    """The drift that the scatter from round to round makes by chance, at most, 19 times of 20; None for few rounds."""
    conditions: Conditions | None = None
    """Clock and temperature meanwhile; None where the system tells neither."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the raw images, for builds with the preprocessing inside; it is in every figure then."""
    generation: GenerationTimes | None = None
    """For builds that write: their decoding loop. `latency` is then one call of encoder and decoder, teacher-forced."""
    runner: str = ""
    """The vendor's program that measured it, on inputs of its own; empty for edgevit, which checks outputs too."""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"

    @property
    def drifted(self) -> bool:
        """Whether it became slower or faster by more than noise does; as thermal throttling shows."""
        return self.drift is not None and self.drift_noise is not None and abs(self.drift) > self.drift_noise


class BenchReport(Value, frozen=True, kw_only=True):
    schema: int = 1
    model: str
    machine: Machine
    device: str = ""
    """Where it was measured, as that was asked for (`pi@kitchen`); empty for the machine that asked."""
    seconds: float
    rounds: int
    entries: tuple[BenchEntry, ...]
    not_executed: dict[str, str] = {}
    """Build name to the reason it was not measured here."""
    started: str = ""
    """UTC, ISO 8601."""
    warnings: tuple[str, ...] = ()
    """What makes a figure less trustworthy: a busy machine, latency that drifted across rounds, a failed cold start."""
