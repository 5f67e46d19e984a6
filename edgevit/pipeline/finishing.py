"""Build kits finished on the device: compiled, checked against the golden inputs, and written into the manifest."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.bundle import (
    GOLDEN,
    MANIFEST,
    Bundle,
    describe_directory,
    inputs_of,
    open_bundle,
    read_golden,
    write_manifest,
)
from edgevit.errors import InputError, UnavailableError
from edgevit.files import staged_directory
from edgevit.measure import describe_machine
from edgevit.parity.metrics import sqnr_db
from edgevit.parity.verdict import sqnr_floor
from edgevit.pipeline.parts import WHOLE
from edgevit.pipeline.stages import together
from edgevit.progress import Progress, Silent
from edgevit.runtime.selection import open_session
from edgevit.targets import get_target, parse_target
from edgevit.targets.base import OpenOptions
from edgevit.targets.nvidia.architectures import parse_architectures
from edgevit.targets.nvidia.triton import TritonRepository, write_triton
from edgevit.types import Build, BuildPart, Engine, Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.recipe import Recipe
    from edgevit.types import Arrays


class FinishedBuild(Value, frozen=True, kw_only=True):
    build: str
    size_bytes: int
    sqnr_db: float | None
    """Closeness to the float reference on the golden inputs; None where the outputs are not finite."""
    verdict: str
    """`inconclusive` (the golden inputs agree; parity needs an evaluation set) or `failed`."""
    reason: str
    options: dict[str, str]


class Finishing(Value, frozen=True, kw_only=True):
    bundle: str
    builds: tuple[FinishedBuild, ...]
    triton: TritonRepository | None = None

    @property
    def passed(self) -> bool:
        return all(build.verdict != "failed" for build in self.builds)


def finish_or_serve(
    bundle: str | Path, target: str | None, again: bool, triton: Path | None, progress: Progress | None = None
) -> Finishing:
    """Finishes the kits; with `triton` also writes a Triton repository, and then kits may stay unfinished."""
    result = Finishing(bundle=str(bundle), builds=())
    kits = _kits(open_bundle(bundle, check="manifest"), target, again)
    here = bool(kits) and all(get_target(build.target).availability().run for build in kits)
    if triton is None or again or here:
        result = finish(bundle, target, again=again, progress=progress)
    if triton is None or not result.passed:
        return result
    return msgspec.structs.replace(result, triton=write_triton(open_bundle(bundle, check="hashes"), triton))


def with_cards(recipe: Recipe, gpu: str) -> Recipe:
    """The recipe with `gpu` for its tensorrt-rtx builds. Raises InputError with the choices, or where it has none."""
    return with_option(recipe, ("tensorrt-rtx",), "gpu", ",".join(parse_architectures(gpu)))


def with_profile(recipe: Recipe, profile: str) -> Recipe:
    """The recipe with `profile` for all its builds of NVIDIA's targets. Raises InputError where it has none."""
    return with_option(recipe, ("tensorrt-rtx", "tensorrt"), "profile", profile)


def with_option(recipe: Recipe, targets: tuple[str, ...], key: str, value: str) -> Recipe:
    """The recipe with one option more for all its builds of `targets`. Raises InputError where it has none."""
    texts = [text for text in (*recipe.targets, *recipe.when_available) if parse_target(text)[0] in targets]
    if not texts:
        flag = key.replace("_", "-")
        raise InputError(
            f"expected a target {' or '.join(targets)} for --{flag} {value}, found {', '.join(recipe.targets)}"
        )
    options = {**recipe.options, **{text: {**recipe.options.get(text, {}), key: value} for text in texts}}
    return msgspec.structs.replace(recipe, options=options)


def finish(
    bundle: str | Path, target: str | None = None, *, again: bool = False, progress: Progress | None = None
) -> Finishing:
    """Finishes the build kits of a bundle on this machine; with `again` also those that were finished before.

    The bundle is replaced as a whole once every kit is finished. Raises InputError where there is no kit,
    UnavailableError without the compiler or the card, BuildError with the compiler's reason.
    """
    progress = progress or Silent()
    opened = open_bundle(bundle, check="hashes")
    wanted = _kits(opened, target, again)
    if not wanted:
        listed = ", ".join(build.name for build in opened.builds(target))
        raise InputError(
            f"expected a build kit in {opened.root}, found none to finish ({listed}); export with --target "
            "tensorrt:int8, or add --again to compile a finished one again"
        )
    for build in wanted:
        state = get_target(build.target).availability()
        if not state.run:
            raise UnavailableError(f"expected to finish {build.name} here: {state.run_reason}; {state.run_fix}")
    with staged_directory(Path(bundle), replace=True, marker=MANIFEST) as stage:
        shutil.copytree(opened.root, stage, dirs_exist_ok=True)
        results: list[FinishedBuild] = []
        manifest = opened.manifest
        for build in wanted:
            with progress.task(f"building {build.name}", None):
                changed, result = _finished(Bundle(root=stage, manifest=manifest), build)
            builds = tuple(changed if other.name == build.name else other for other in manifest.builds)
            manifest = msgspec.structs.replace(manifest, builds=builds)
            results.append(result)
        write_manifest(stage, manifest)
    return Finishing(bundle=str(bundle), builds=tuple(results))


def _kits(bundle: Bundle, target: str | None, again: bool) -> tuple[Build, ...]:
    found = []
    for build in bundle.builds(target):
        unfinished = getattr(get_target(build.target), "unfinished", None)
        if unfinished is not None and (again or unfinished(build)):
            found.append(build)
    return tuple(found)


def _finished(bundle: Bundle, build: Build) -> tuple[Build, FinishedBuild]:
    """The build with its engine, and what the golden inputs say of it."""
    target = get_target(build.target)
    directory = bundle.directory(build)
    compile_kit: Callable[..., dict[str, str]] = target.finish  # type: ignore[attr-defined]
    parts = build.parts or (BuildPart(name=WHOLE, signature=build.signature),)
    options = together({part.name: compile_kit(directory / part.name, part.signature) for part in parts})
    changed = msgspec.structs.replace(
        build,
        files=describe_directory(bundle.root, directory),
        options=options,
        machine=describe_machine(),
        engine=Engine(name=build.target, version=target.availability().version, device=options.get("gpu", "GPU")),
    )
    session = open_session(bundle, changed, OpenOptions())
    try:
        closeness = _golden(bundle, build, session.run)
        execution = session.execution()
    finally:
        session.close()
    floor = sqnr_floor(build.precision)
    good = closeness is not None and closeness >= floor
    found = "outputs that are not finite" if closeness is None else f"{closeness:.1f} dB"
    reason = (
        f"the golden inputs agree ({found}, at least {floor:.0f} dB expected); run edgevit parity for a verdict"
        if good
        else f"expected at least {floor:.0f} dB on the golden inputs, found {found}"
    )
    verdict = "inconclusive" if good else "failed"
    result = FinishedBuild(
        build=build.name,
        size_bytes=sum(file.size for file in changed.files),
        sqnr_db=closeness,
        verdict=verdict,
        reason=reason,
        options=options,
    )
    shown = {"execution": execution, "verdict": verdict, "reason": reason, "golden_sqnr_db": closeness}
    return msgspec.structs.replace(changed, **shown), result


def _golden(bundle: Bundle, build: Build, run: Callable[[Arrays], Arrays]) -> float | None:
    inputs, outputs = read_golden(bundle.root / GOLDEN)
    name = build.signature.outputs[0].name
    found = run(inputs_of(build, inputs))[name]
    return float(sqnr_db(outputs[name], found)) if np.isfinite(found).all() else None
