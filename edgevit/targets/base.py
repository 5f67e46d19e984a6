"""What a target is: one module (or object) with the names of the `Target` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from edgevit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from edgevit.types import (
        Arrays,
        Build,
        Engine,
        Execution,
        FloatModel,
        OnnxModel,
        Precision,
        QuantPlan,
        Signature,
    )


class ClosedSession(InputError):  # noqa: N818 - it names a state of the session
    """`run` after `close`."""

    def __init__(self, build: str) -> None:
        super().__init__(f"expected an open model, found {build} already closed; call edgevit.load again")


class Availability(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this machine can build for a target and run its builds; a `no` names the command that changes it."""

    build: bool
    run: bool
    version: str = ""
    build_fix: str = ""
    run_fix: str = ""
    run_reason: str = ""
    """Why nothing runs here where the engine itself is installed; empty where it is the engine that is missing."""


class OpenOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a build is opened; the defaults are right for one caller on one device."""

    threads: int | None = None
    """Compute threads; None leaves the engine's own choice (all cores)."""
    streams: int = 1
    """How many `run` calls may execute at the same time."""
    cache_dir: Path | None = None
    """Where the engine may keep compiled models between processes."""
    rebuild: bool = False
    """Compile the build again from the ONNX it holds where it was made for another card or version."""


class BuildSource(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a target may build from; it uses what its compiler takes."""

    float_model: Callable[[], FloatModel] | None
    """Loads the float model again, for the targets that start from torch: nothing else keeps its weights in memory."""
    onnx: OnnxModel
    """Float32."""
    quantized: OnnxModel | None = None
    """The same graph with Q/DQ written from the plan; present for int8."""
    plan: QuantPlan | None = None
    others: tuple[Signature, ...] = ()
    """Of the model's other parts: dimensions of one name are one size in all of them."""


class Loop(Protocol):
    """A session that is run again and again, some of its outputs being inputs of its next run. For one caller."""

    def step(self, inputs: Arrays) -> Arrays:
        """Runs with the inputs that are new at every step; returns the outputs that are not fed back.

        They may be the engine's own memory: good until the next step.
        """

    def select(self, rows: NDArray[np.int64], *, constant: bool) -> None:
        """Goes on with these rows of everything that is fed back, and with `constant` of the fixed inputs too."""

    def close(self) -> None: ...


class EngineSession(Protocol):
    """An opened build. `run` is thread-safe; after `close` it raises.

    An engine that can feed its outputs back without copying them has a method `loop(fed, inputs) -> Loop` too: `fed`
    names the input that each of some outputs becomes, `inputs` is all but what every step brings.
    """

    signature: Signature
    engine: Engine

    def run(self, inputs: Arrays) -> Arrays: ...

    def execution(self) -> Execution: ...

    def close(self) -> None: ...


class Target(Protocol):
    """One engine. Modules of `edgevit.targets` and entry points of the group `edgevit.targets` satisfy it.

    Three functions more are called where a target has them: `check_model(model)`, before anything is built;
    `complete(model, graphs, out) -> options`, once the parts of a build are in `out`, for what lies around them; and
    `part_opener(directory, build, options)`, which opens all parts at once and gives `open_parts` each of them.

    One whose builds can hold the preprocessing of images has a name `pixels` too, which is True.
    It then gets graphs whose input is `types.PIXELS`; `check_pixels(precision, options)` says before which it cannot.
    """

    name: str
    precisions: tuple[Precision, ...]

    def availability(self) -> Availability: ...

    def why_not(self, precision: Precision) -> str:
        """Why this machine cannot build and execute that precision although the engine is here; empty if it can."""

    def build(self, source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
        """Writes the engine's files into the empty directory `out`; returns the options it really used."""

    def open(self, directory: Path, build: Build, options: OpenOptions) -> EngineSession: ...
