"""What a measuring process and its parent say to each other: one JSON document per line.

Every command gets exactly one reply: its own kind, or a `Failure`, after which the process still obeys. All times are
integer nanoseconds.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from edgevit.types import Engine, Execution, Signature

DEFAULT_OPENER = "edgevit.runtime:open_build"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, forbid_unknown_fields=True):
    pass


class Opening(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the process opens the one build it measures.

    `opener` is "package.module:function", called as (bundle: Path, build name: str, OpenOptions) -> EngineSession. It
    comes from the caller's code, never from a bundle.
    """

    opener: str = DEFAULT_OPENER
    bundle: str
    build: str
    threads: int | None = None
    streams: int = 1
    cache_dir: str | None = None


# ------------------------------------------------------------------------------------------------ commands


class Open(Message, frozen=True, kw_only=True):
    opening: Opening


class Prepare(Message, frozen=True, kw_only=True):
    """Make the fixed inputs that every later call uses: seeded, of the signature's shapes and dtypes."""

    batch_size: int
    seed: int
    dimensions: dict[str, int] = {}
    """Sizes of the dynamic dimensions that are not the batch."""
    vocabulary: dict[str, int] = {}
    """How many different ids an input may have, by its name."""


class Warm(Message, frozen=True, kw_only=True):
    """Run for at least `seconds` without keeping times, from `streams` threads."""

    seconds: float
    streams: int = 1


class Measure(Message, frozen=True, kw_only=True):
    """Run `settle_calls` untimed, then time every call for at least `seconds` and `min_calls`."""

    seconds: float
    min_calls: int = 1
    settle_calls: int = 0


class Write(Message, frozen=True, kw_only=True):
    """Write `tokens` tokens for each prepared source, again and again for at least `seconds`, timing each token."""

    seconds: float
    beams: int
    tokens: int
    start_token_id: int
    settle_calls: int = 0
    cache: bool = True
    """False: the decoder reads everything that was written again for each token. Of one beam only."""


class WriteOnce(Message, frozen=True, kw_only=True):
    """Write `tokens` tokens with one beam, and say how large the process is on the way."""

    tokens: int
    start_token_id: int


class Throughput(Message, frozen=True, kw_only=True):
    """Run from `streams` concurrent threads for `seconds`; every thread finishes the call it is in."""

    seconds: float
    streams: int


class FirstResult(Message, frozen=True, kw_only=True):
    """Open, run once on zeros (drawing random numbers would be timed too), and say when the result was there."""

    opening: Opening
    batch_size: int
    dimensions: dict[str, int] = {}


class Report(Message, frozen=True, kw_only=True):
    pass


class Stop(Message, frozen=True, kw_only=True):
    pass


Command: TypeAlias = Open | Prepare | Warm | Measure | Write | WriteOnce | Throughput | FirstResult | Report | Stop

# ------------------------------------------------------------------------------------------------- replies


class Opened(Message, frozen=True, kw_only=True):
    signature: Signature
    engine: Engine


class Done(Message, frozen=True, kw_only=True):
    pass


class Timings(Message, frozen=True, kw_only=True):
    ns: tuple[int, ...]


class TokenTimings(Message, frozen=True, kw_only=True):
    runs: tuple[tuple[int, ...], ...]
    """Of each run the time of every token, the encoder's counted to the first; one sum where there are more beams."""


class Sizes(Message, frozen=True, kw_only=True):
    resident_bytes: dict[int, int]
    """By the number of tokens that had been written."""


class Rate(Message, frozen=True, kw_only=True):
    calls: int
    elapsed_ns: int
    """From the common start to the end of the last call."""


class ResultAt(Message, frozen=True, kw_only=True):
    monotonic_ns: int
    """`time.monotonic_ns()` of the child, comparable with the parent's: both read the system's monotonic clock."""


class Usage(Message, frozen=True, kw_only=True):
    peak_memory_bytes: int
    """Taken before the engine is asked what it executed, which may profile and so allocate."""
    execution: Execution


class Failure(Message, frozen=True, kw_only=True):
    kind: str
    """Name of the exception's class."""
    message: str


Reply: TypeAlias = Opened | Done | Timings | TokenTimings | Sizes | Rate | ResultAt | Usage | Failure
