"""Which build of a bundle runs here, and which of those is best."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from edgevit.bundle import DRAFT, open_bundle
from edgevit.errors import BundleError, InputError, UnavailableError
from edgevit.files import inside
from edgevit.runtime.parts import open_parts
from edgevit.targets import get_target
from edgevit.targets.base import OpenOptions
from edgevit.targets.processor import instruction_sets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgevit.bundle import Bundle
    from edgevit.targets.base import EngineSession
    from edgevit.types import Build

TRUSTED = {"passed": 0, "inconclusive": 1, "not executed": 2}
"""Verdicts a build may have to be chosen by itself, best first. A failed one has to be asked for by name."""


def open_build(bundle: Path, name: str, options: OpenOptions | None = None) -> EngineSession:
    """The engine's own session of the build `name` (`openvino-int8`), as raw as the engine is."""
    opened = open_bundle(bundle, check="sizes")
    build = opened.builds(name)[0]
    return open_session(opened, build, options or OpenOptions())


def open_draft(bundle: Path, name: str, options: OpenOptions | None = None) -> EngineSession:
    """The same of a bundle that is still being measured, which has no manifest under its final name."""
    opened = open_bundle(bundle, name=DRAFT)
    return open_session(opened, opened.builds(name)[0], options or OpenOptions())


def open_session(bundle: Bundle, build: Build, options: OpenOptions) -> EngineSession:
    """Opens one build; raises UnavailableError with the command that would help if its engine is not here."""
    target = get_target(build.target)
    state = target.availability()
    if state.run_reason:
        raise UnavailableError(f"expected {build.name} to run on this machine: {state.run_reason}; {state.run_fix}")
    if not state.run:
        raise UnavailableError(f"expected the engine of {build.name} on this machine, found none; run: {state.run_fix}")
    directory = bundle.directory(build)
    together = getattr(target, "part_opener", None)  # an engine that opens all parts at once has one
    if build.parts and together is not None:
        return open_parts(build, together(directory, build, options))
    if build.parts:
        return open_parts(build, lambda part, alone: target.open(inside(directory, part.name), alone, options))
    return target.open(directory, build, options)


def why_not_here(build: Build) -> str:
    """Why this build cannot be trusted to run here, or an empty string."""
    try:
        state = get_target(build.target).availability()
    except InputError as error:
        return str(error)
    unfinished = getattr(get_target(build.target), "unfinished", None)
    if unfinished is not None and unfinished(build):
        return str(unfinished(build))
    if state.run_reason:
        return f"{state.run_reason}; {state.run_fix}"
    if not state.run:
        return f"{build.target} is not installed here; run: {state.run_fix}"
    if build.requires_any and platform.machine() in ("x86_64", "AMD64"):
        present = instruction_sets()
        if not set(build.requires_any) & set(present):
            return (
                f"its int8 kernels overflow on this processor, which has none of {', '.join(build.requires_any)}; "
                "export it with --cpu any"
            )
    return ""


def runnable(bundle: Bundle, wanted: str | None = None) -> tuple[Build, ...]:
    """The builds that may run here, best first: by verdict, then by measured latency.

    Raises UnavailableError, saying why of each, when there is none.
    """
    candidates = bundle.builds(wanted)
    reasons = {build.name: why_not_here(build) for build in candidates}
    usable = [build for build in candidates if not reasons[build.name]]
    if not usable:
        listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise UnavailableError(f"expected a build that runs on this machine, found none ({listed})")
    return tuple(sorted(usable, key=_rank))


def best(bundle: Bundle, wanted: str | None = None) -> Build:
    """The build `load` opens. Without `wanted`, one that failed parity is never chosen; BundleError if all have."""
    builds = runnable(bundle, wanted)
    trusted = builds if wanted is not None else tuple(build for build in builds if build.verdict in TRUSTED)
    if not trusted:
        raise BundleError(
            f"expected a build within its parity budget, found only failed ones ({_names(builds)}); "
            "export again with another plan, or ask for one by its target"
        )
    return trusted[0]


def _rank(build: Build) -> tuple[int, float]:
    latency = float("inf") if build.latency_ms is None else build.latency_ms
    return TRUSTED.get(build.verdict, len(TRUSTED)), latency


def _names(builds: Sequence[Build]) -> str:
    return ", ".join(build.name for build in builds)
