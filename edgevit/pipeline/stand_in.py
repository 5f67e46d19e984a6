"""The reference of a finished bundle: what travels in it, or its own float32 build in place of it."""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.errors import BundleError, InputError, SetError
from edgevit.files import inside
from edgevit.pipeline.evaluation import (
    LENGTHS,
    LOGITS,
    TOKENS,
    Evaluation,
    forced_logits,
    joined,
    load_reference,
    without_labels,
    write_translations,
)
from edgevit.pipeline.pixels import fed
from edgevit.pipeline.translators import SessionTranslator, untrained_settings
from edgevit.preprocess import open_tokenizer
from edgevit.runtime.parts import PartsSession
from edgevit.runtime.selection import open_session, runnable
from edgevit.sets import Wanted, label_places, open_set, take, with_label_map
from edgevit.targets.base import OpenOptions
from edgevit.types import TextPreprocess

if TYPE_CHECKING:
    from edgevit.bundle import Bundle, Manifest
    from edgevit.preprocess import Tokenizer
    from edgevit.progress import Progress
    from edgevit.sets import SampleSet
    from edgevit.types import Arrays, Build

REFERENCE = "reference.npz"


def bundle_evaluation(bundle: Bundle, name: str | None, progress: Progress) -> Evaluation:
    """The set `name`, or the one the bundle was judged on, with the reference's outputs.

    Raises SetError for a set that is not here, BundleError where neither outputs nor a float32 build are in the bundle.
    """
    samples = bundle_samples(bundle, name)
    return completed(bundle, evaluation_of(bundle, samples, stored_reference(bundle, samples)), progress)


def bundle_samples(bundle: Bundle, name: str | None) -> SampleSet:
    """The samples of the set `name`, or of the one the bundle was judged on, as its task and labels read them."""
    manifest = bundle.manifest
    if name is None and manifest.evaluation is None:
        raise InputError(f"expected --evaluation SET, the bundle {bundle.root} does not say what it was judged on")
    samples = _samples(manifest, name)
    return samples if manifest.trained else without_labels(samples)


def evaluation_of(bundle: Bundle, samples: SampleSet, reference: Arrays) -> Evaluation:
    """Samples of the bundle's set, all or some, with what is known of the reference's outputs for them."""
    manifest = bundle.manifest
    fixed = manifest.signature.inputs[0].shape[0]
    return Evaluation(
        samples=samples,
        preprocess=manifest.preprocess,
        labels=manifest.labels,
        batch=fixed if isinstance(fixed, int) else 16,
        reference=reference,
        tokenizer=_tokenizer(bundle, manifest),
        target=None
        if manifest.generation is None
        else open_tokenizer(inside(bundle.root, manifest.generation.tokenizer)),
        generation=untrained_settings(manifest.generation, trained=manifest.trained),
    )


def _samples(manifest: Manifest, name: str | None) -> SampleSet:
    facts = manifest.evaluation
    wanted = name or (facts.set if facts else "")
    try:
        few = Wanted(facts.samples) if facts is not None and name is None else None
        samples = open_set(wanted, manifest.task, few)
    except SetError as error:
        if name is not None:
            raise
        raise SetError(f"the set the bundle was judged on is not here ({error}); give --evaluation SET") from error
    known = facts.label_map if facts else {}
    if (
        known
        and samples.labels
        and set(samples.labels) <= known.keys()
        and not set(samples.labels) <= set(manifest.labels)
    ):
        samples = with_label_map(samples, known, wanted)
    if facts is not None and len(samples) != facts.samples and name is None:
        samples = take(samples, min(facts.samples, len(samples)), 0)
    if manifest.trained:
        label_places(samples, manifest.labels)
    return samples


def _tokenizer(bundle: Bundle, manifest: Manifest) -> Tokenizer | None:
    spec = manifest.preprocess
    if not isinstance(spec, TextPreprocess):
        return None
    return open_tokenizer(inside(bundle.root, spec.tokenizer), sha256=spec.tokenizer_sha256)


def stored_reference(bundle: Bundle, samples: SampleSet) -> Arrays:
    """The float reference's outputs that the bundle carries, one row per sample (of translations: `LENGTHS`).

    Nothing for another set than the one they were computed for.
    """
    facts = bundle.manifest.evaluation
    if facts is None or samples.digest != facts.set_digest or not (bundle.root / REFERENCE).exists():
        return {}
    try:
        with np.load(bundle.root / REFERENCE, allow_pickle=False) as stored:
            outputs = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(
            f"expected the reference's outputs in {bundle.root / REFERENCE}, which cannot be read: {error}"
        ) from error
    rows = {name: len(values) for name, values in outputs.items() if name not in (TOKENS, LOGITS)}
    tokens = {name: len(values) for name, values in outputs.items() if name in (TOKENS, LOGITS)}
    if bundle.manifest.generation is None:
        rows, tokens = {**rows, **tokens}, {}
    wrote = int(outputs[LENGTHS].sum()) if tokens and LENGTHS in outputs else 0
    if set(rows.values()) != {len(samples)} or (tokens and set(tokens.values()) != {wrote}):
        raise BundleError(
            f"expected {len(samples)} rows in {bundle.root / REFERENCE}, found {rows | tokens}; export it again"
        )
    return outputs


def completed(bundle: Bundle, evaluation: Evaluation, progress: Progress) -> Evaluation:
    """With what is not stored computed by the bundle's float32 build."""
    if evaluation.generation is None:
        if evaluation.reference:
            return evaluation
        return msgspec.structs.replace(evaluation, reference=_outputs(bundle, evaluation, progress))
    if LOGITS in evaluation.reference:
        return evaluation
    return msgspec.structs.replace(evaluation, reference=_translations(bundle, evaluation, progress))


def _float_build(bundle: Bundle) -> Build:
    floats = [build for build in runnable(bundle) if build.precision == "float32" and build.verdict != "failed"]
    if not floats:
        raise BundleError(
            f"expected a float32 build in {bundle.root} to stand in for the reference on another set, found none; "
            "export with openvino:float32 or use the set it was judged on"
        )
    # The reference has the ordinary preprocessing in front of it wherever a build does.
    return min(floats, key=lambda build: build.takes_pixels)


def _outputs(bundle: Bundle, evaluation: Evaluation, progress: Progress) -> Arrays:
    build = _float_build(bundle)
    session = open_session(bundle, build, OpenOptions())
    collected: dict[str, list[np.ndarray]] = {spec.name: [] for spec in build.signature.outputs}
    try:
        with progress.task(f"reference by {build.name}", len(evaluation.samples)) as advance:
            done = 0
            stage, stream = fed(evaluation, build, session)
            for batch in stream:
                for key, value in stage.run(batch.inputs).items():
                    collected[key].append(value)
                done += len(batch)
                advance(done)
    finally:
        session.close()
    return {key: joined(parts) for key, parts in collected.items()}


def _translations(bundle: Bundle, evaluation: Evaluation, progress: Progress) -> Arrays:
    """What the float build writes; where it is stored what the reference wrote, only the build's logits for that.

    A bundle without a float32 build that runs here is then compared by what was written alone.
    """
    assert evaluation.generation is not None
    known = evaluation.reference
    try:
        build = _float_build(bundle)
    except BundleError:
        if known:
            return known
        raise
    session = open_session(bundle, build, OpenOptions())
    try:
        assert isinstance(session, PartsSession)
        translator = SessionTranslator(session, evaluation.generation)
        with progress.task(f"reference by {build.name}", len(evaluation.samples)) as advance:
            if known:
                return {**known, LOGITS: np.concatenate([part for _, part in forced_logits(evaluation, translator)])}
            with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
                write_translations(evaluation, translator, Path(folder), advance)
                return {name: np.array(values) for name, values in load_reference(Path(folder)).items()}
    finally:
        session.close()
