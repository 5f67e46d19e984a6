"""What to measure and for how long."""

from __future__ import annotations

from edgevit.errors import InputError
from edgevit.types import Value

SOURCE_LENGTH, TOKENS, BEAMS = 16, 32, (1, 4)
IMAGE_SIZE = (480, 640)
"""What cameras have given for decades, and about what a photograph is scaled to before it is stored in a data set."""


class BenchOptions(Value, frozen=True, kw_only=True):
    """What is measured, for how long. Every combination of batch size and threads is one cell of the grid."""

    targets: tuple[str, ...] = ()
    """Only these (`openvino`, or `openvino:int8` for one build); empty for all. Ratios need a float32 build."""
    batch_sizes: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    """Compute threads; empty for one setting, all cores this process may use."""
    seconds: float = 3.0
    """Of latency measurement per build and cell, and as much again of throughput when there are streams."""
    rounds: int = 10
    """In how many turns these seconds are taken; the builds take turns, so that drift meets them alike."""
    streams: int | None = None
    """Concurrent callers of the throughput measurement; None for as many as threads."""
    cold_starts: int = 3
    """Counted process starts per build (and as many with a warm cache); 0 for none."""
    seed: int = 0
    """Of the random inputs and the bootstrap."""
    warmup_seconds: float = 0.5
    dimensions: dict[str, int] = {}
    """Sizes of dynamic dimensions other than the batch, by name."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the images for builds with the preprocessing inside; None: `IMAGE_SIZE`."""
    source_length: int | None = None
    """Tokens of each source, for models of texts; None: `SOURCE_LENGTH`, or the most that the model takes."""
    tokens: int | None = None
    """Written for each source by models that write; None: `TOKENS`, or the most that the model was exported for."""
    beams: tuple[int, ...] = ()
    """Whose tokens per second are measured; empty: `BEAMS`."""
    without_cache: bool = False
    """Measure writing without the decoder's cache too; its time grows with the square of `tokens`."""
    timeout: float = 600.0
    """Seconds any single step of a measuring process may take, opening included."""


def check(options: BenchOptions) -> None:
    """Raises InputError for a count below 1 or a duration that is not positive."""
    counts = {
        "batch_sizes": options.batch_sizes or (0,),
        "threads": options.threads,
        "rounds": (options.rounds,),
        "source_length": () if options.source_length is None else (options.source_length,),
        "beams": options.beams,
        "image_size": options.image_size or (),
        "streams": () if options.streams is None else (options.streams,),
    }
    for name, values in counts.items():
        if any(value < 1 for value in values):
            raise InputError(f"expected {name} of at least 1, found {values}; correct the option")
    if options.tokens is not None and options.tokens < 2:
        raise InputError(f"expected tokens of at least 2, the first and a further one, found {options.tokens}")
    for name, value in (("seconds", options.seconds), ("timeout", options.timeout)):
        if value <= 0:
            raise InputError(f"expected {name} above 0, found {value}; correct the option")
    for name, value in (("cold_starts", options.cold_starts), ("warmup_seconds", options.warmup_seconds)):
        if value < 0:
            raise InputError(f"expected {name} of at least 0, found {value}; correct the option")
