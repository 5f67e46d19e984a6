"""Parity over large sets: shares of the samples as tasks, and the rungs of all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.bundle import MANIFEST, open_bundle
from edgevit.errors import BundleError, SetError
from edgevit.files import sha256
from edgevit.files.python import names_function
from edgevit.parity.parts import Part, joined_rung, outputs_part, sequences_part
from edgevit.pipeline.evaluation import LENGTHS, LOGITS, TOKENS, Evaluation
from edgevit.pipeline.pixels import fed, pixel_difference
from edgevit.pipeline.proof import sequence_options, stage_of
from edgevit.pipeline.stand_in import bundle_samples, completed, evaluation_of, stored_reference
from edgevit.pipeline.translators import SessionTranslator
from edgevit.progress import Silent
from edgevit.runtime.parts import PartsSession
from edgevit.runtime.selection import open_session, why_not_here
from edgevit.targets.base import OpenOptions

if TYPE_CHECKING:
    from edgevit.bundle import Bundle
    from edgevit.cluster import Pool
    from edgevit.parity.compare import ComparisonOptions
    from edgevit.progress import Progress
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, Build, Rung

FEWEST, MOST = 256, 1024
"""Samples of a share. Fewer, and opening the builds costs more than running them; more, and a worker that is lost takes
minutes of work with it, and one with a gigabyte of memory cannot take part."""
MOST_WRITTEN = 32
"""Of translations, whose reference is a row of the whole vocabulary for every token."""
SHARES = 2
"""For each of those that work, at least: who is done first takes from those who are not."""


class Shared(msgspec.Struct, frozen=True):
    """What is compared: the samples, the set as it was given (None: the bundle's own), builds and budget."""

    samples: SampleSet
    set: str | None
    builds: tuple[Build, ...]
    options: ComparisonOptions


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """A task: consecutive samples through all builds. Bundle and set are read where it runs, by the same paths."""

    bundle: str
    manifest: str
    """SHA-256 of the manifest, which holds that of every file."""
    set: str
    """A path from the root where it is one: a process there may stand in another directory."""
    own: bool
    """It is the set that the bundle was judged on."""
    first: int
    end: int
    digest: str
    """Of these samples: names, truth and content."""
    builds: tuple[str, ...]
    options: ComparisonOptions
    reference: Arrays
    """What the float reference made of these samples, where it is known."""


def shared_rungs(bundle: Bundle, shared: Shared, pool: Pool, progress: Progress) -> tuple[Rung, ...]:
    """One rung per build, the same as `proof.build_rungs` gives."""
    shares = cut(bundle, shared, pool.slots, progress)
    done = 0
    with progress.task(
        f"parity of {len(shared.builds)} builds in {len(shares)} shares", len(shared.samples)
    ) as advance:

        def finished(place: int, parts: tuple[Part, ...]) -> None:
            nonlocal done
            done += shares[place].end - shares[place].first
            advance(done, f"{pool.slots} at a time")

        found = pool.each(judged, shares, finished)
    return tuple(
        _rung(build, [parts[place] for parts in found], shared.options) for place, build in enumerate(shared.builds)
    )


def _rung(build: Build, parts: list[Part], options: ComparisonOptions) -> Rung:
    rung = joined_rung(stage_of(build), parts, options)
    return msgspec.structs.replace(rung, preprocessing=parts[0].preprocessing)


def cut(bundle: Bundle, shared: Shared, slots: int, progress: Progress) -> list[Share]:
    samples = shared.samples
    with progress.task("reading the set", None):
        # The digest of every sample is kept with it: what follows reads nothing again.
        reference = stored_reference(bundle, samples)
    whole = evaluation_of(bundle, samples, reference)
    size = share_size(len(samples), slots, whole)
    return [
        Share(
            bundle=str(bundle.root.resolve()),
            manifest=sha256(bundle.root / MANIFEST),
            set=_from_root(shared.set or _own_set(bundle)),
            own=shared.set is None,
            first=first,
            end=min(first + size, len(samples)),
            digest=_some(samples, first, first + size).digest,
            builds=tuple(build.name for build in shared.builds),
            options=shared.options,
            reference=rows(reference, first, first + size),
        )
        for first in range(0, len(samples), size)
    ]


def share_size(samples: int, slots: int, evaluation: Evaluation) -> int:
    """Samples of a share: whole batches, so that the batches are those of one pass over the set."""
    fewest, most = (FEWEST, MOST) if evaluation.generation is None else (MOST_WRITTEN, MOST_WRITTEN)
    wanted = min(max(-(-samples // (SHARES * slots)), fewest), most)
    return -(-wanted // evaluation.batch) * evaluation.batch


def _own_set(bundle: Bundle) -> str:
    facts = bundle.manifest.evaluation
    return "" if facts is None else facts.set


def _from_root(name: str) -> str:
    return name if name.startswith("zoo:") or names_function(name) else str(Path(name).absolute())


def _some(samples: SampleSet, first: int, end: int) -> SampleSet:
    return msgspec.structs.replace(samples, samples=samples.samples[first:end])


def rows(reference: Arrays, first: int, end: int) -> Arrays:
    """The reference's outputs for some samples; of translations each has as many rows as tokens."""
    if LENGTHS not in reference:
        return {name: values[first:end] for name, values in reference.items()}
    ends = np.concatenate([[0], np.cumsum(reference[LENGTHS])])
    tokens = slice(int(ends[first]), int(ends[min(end, len(ends) - 1)]))
    return {
        name: values[tokens] if name in (TOKENS, LOGITS) else values[first:end] for name, values in reference.items()
    }


# ------------------------------------------------------------------------------------------- where it runs


def judged(share: Share, threads: int | None) -> tuple[Part, ...]:
    """One part per build. Raises BundleError and SetError where bundle or set are others than the sender's."""
    bundle = open_bundle(share.bundle, check="hashes")
    if sha256(bundle.root / MANIFEST) != share.manifest:
        raise BundleError(
            f"expected the bundle {share.bundle} as it was sent, found another one there; put the same files under the "
            "same path on every machine"
        )
    evaluation = completed(bundle, evaluation_of(bundle, _same_samples(bundle, share), share.reference), Silent())
    builds = {build.name: build for build in bundle.manifest.builds}
    parts = []
    for build in (builds[name] for name in share.builds):
        part = _part(bundle, build, evaluation, share.options, threads)
        if build.takes_pixels and share.first == 0 and part.verdict != "not executed":
            part = msgspec.structs.replace(part, preprocessing=pixel_difference(bundle, build, evaluation.samples))
        parts.append(part)
    return tuple(parts)


def _same_samples(bundle: Bundle, share: Share) -> SampleSet:
    facts = bundle.manifest.evaluation
    if share.own and facts is not None:
        replace = msgspec.structs.replace
        bundle = replace(bundle, manifest=replace(bundle.manifest, evaluation=replace(facts, set=share.set)))
    samples = _some(bundle_samples(bundle, None if share.own else share.set), share.first, share.end)
    if samples.digest != share.digest:
        raise SetError(
            f"expected the samples {share.first} to {share.end - 1} of {share.set} as they were sent, found others "
            f"there ({len(samples)} samples); put the same files under the same path on every machine"
        )
    return samples


def _part(
    bundle: Bundle, build: Build, evaluation: Evaluation, options: ComparisonOptions, threads: int | None
) -> Part:
    reason = why_not_here(build)
    if reason:
        return Part(verdict="not executed", reason=reason)
    session = open_session(bundle, build, OpenOptions(threads=threads))
    try:
        if isinstance(session, PartsSession) and evaluation.generation is not None:
            translator = SessionTranslator(session, evaluation.generation)
            return sequences_part(evaluation.written(), translator, sequence_options(evaluation, options))
        runnable, stream = fed(evaluation, build, session)
        return outputs_part(stream, evaluation.reference_of(), runnable, stage_of(build), options)
    finally:
        session.close()
