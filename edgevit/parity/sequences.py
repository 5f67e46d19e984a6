"""Translations: what a build writes by itself, and how it would have gone on with the reference's own words.

An answer is a whole text, right when it is the set's own (exact match); everything a verdict rests on is then as for
labels. Closeness is measured under teacher forcing, on the tokens that the reference wrote: left to itself, a build
that once took another word is asked different questions from there on, and its numbers no longer compare.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import numpy as np

from edgevit.errors import EdgevitError, InputError, SetError, UnavailableError
from edgevit.parity import verdict
from edgevit.parity.compare import WORST_SCORE, ComparisonOptions, Ranked, flips, kept_worst, task_comparison
from edgevit.parity.corpus import corpus_scores
from edgevit.parity.ladder import Stage, unjudged
from edgevit.parity.lengths import added, length_bins
from edgevit.parity.metrics import ClosenessSums, SampleCloseness, finite_rows, sample_closeness
from edgevit.parity.statistics import Decision, agreement_with_reference, non_inferiority
from edgevit.parity.tasks import Tally
from edgevit.types import CorpusScore, Rung, TokenAgreement, Value, WorstSample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgevit.types import Arrays

METRIC = "exact match"
TARGETS = "decoder_input_ids"
LOGITS = "logits"


class Translator(Protocol):
    """What a stage needs of an encoder-decoder."""

    def generate(self, inputs: Arrays) -> list[tuple[int, ...]]:
        """The ids it writes for each source, without the start token, with the end token where it was reached."""

    def run(self, inputs: Arrays) -> Arrays:
        """The whole under teacher forcing: `decoder_input_ids` beside the sources, `logits` for each of them."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """One batch of sources and what the reference wrote for them."""

    names: Sequence[str]
    inputs: Arrays
    """int64 (batch, source_length), ids and their mask."""
    truths: Sequence[str | None]
    """The set's translations; None for every source of a set without."""
    lengths: Sequence[int]
    """Tokens of each source."""
    ids: Sequence[tuple[int, ...]]
    """The reference's, without the start token."""
    logits: NDArray[Any] | None
    """float32 (tokens of all texts in order, vocabulary), what the reference gave for each of `ids`; None where it is
    not known any more: closeness is then not measured."""


class SequenceOptions(msgspec.Struct, frozen=True, kw_only=True):
    comparison: ComparisonOptions
    start: int
    """The token that every target begins with."""
    pad: int
    decode: Callable[[Sequence[int]], str]
    """Ids as text."""


class Sequences(Value, frozen=True, kw_only=True):
    """Everything known of one stage after some batches."""

    labelled: bool | None = None
    counts: Tally = Tally()
    texts: tuple[tuple[str, str, str], ...] = ()
    """Reference's, build's, truth: of each source in a labelled set, for the corpus scores."""
    closeness: ClosenessSums = ClosenessSums()
    tokens: int = 0
    tokens_agreed: int = 0
    not_finite: int = 0
    first_not_finite: str = ""
    worst: tuple[Ranked, ...] = ()
    by_length: dict[int, Tally] = {}


def compare_sequences(
    batches: Iterable[Written],
    stage: Stage,
    translator: Translator,
    options: SequenceOptions,
    progress: Callable[[int], None] = lambda done: None,
) -> Rung:
    """The rung of one stage.

    A stage that raises an EdgevitError gets a failed rung with that reason (`not executed` for UnavailableError); what
    is wrong with the set or the reference propagates: SetError, InputError.
    """
    state = Sequences()
    for batch in batches:
        check_written(batch)
        try:
            state = extended(state, batch, translator, options)
        except SetError:
            raise
        except UnavailableError as error:
            return unjudged(stage, state.counts.samples, "not executed", str(error))
        except EdgevitError as error:
            done = state.counts.samples
            return unjudged(stage, done, "failed", f"stopped after {done} samples: {error}")
        progress(state.counts.samples)
    if state.counts.samples == 0:
        raise SetError(f"expected at least one evaluation sample to compare '{stage.name}' with, found none")
    return rung(state, stage, options.comparison)


def check_written(batch: Written) -> None:
    """InputError unless the reference wrote something for every source, with finite logits."""
    empty = next((name for name, ids in zip(batch.names, batch.ids, strict=True) if not ids), None)
    if empty is not None:
        raise InputError(f"expected at least one token from the float reference, found none for {empty!r}")
    if batch.logits is None:
        return
    if len(batch.logits) != sum(map(len, batch.ids)):
        raise InputError(f"expected logits for {sum(map(len, batch.ids))} tokens, found {len(batch.logits)}")
    if not finite_rows(batch.logits).all():
        raise InputError("expected finite outputs of the float reference, found NaN or infinity; check the checkpoint")


def forced(translator: Translator, batch: Written, start: int, pad: int) -> NDArray[Any]:
    """The logits for each token the reference wrote, given those before it: (tokens of all texts in order, vocabulary).

    Padding to the longest text is fed and left out: no token of a text sees what comes after it.
    """
    lengths = [len(ids) for ids in batch.ids]
    targets = np.full((len(lengths), max(lengths)), pad, dtype=np.int64)
    targets[:, 0] = start
    for row, ids in enumerate(batch.ids):
        targets[row, 1 : len(ids)] = ids[:-1]
    logits = translator.run({**batch.inputs, TARGETS: targets})[LOGITS]
    if logits.shape[:2] != targets.shape:
        raise InputError(f"expected logits of shape {targets.shape} and the vocabulary, found {logits.shape}")
    return np.concatenate([logits[row, :length] for row, length in enumerate(lengths)])


def extended(state: Sequences, batch: Written, translator: Translator, options: SequenceOptions) -> Sequences:
    """`state` and one more batch."""
    return followed(state, compared(batch, translator, options), options.comparison)


def compared(batch: Written, translator: Translator, options: SequenceOptions) -> Sequences:
    """What one batch tells."""
    labelled = _labelled(batch.truths) and options.comparison.trained
    found = translator.generate(batch.inputs) if options.comparison.trained else list(batch.ids)
    texts = [
        (_plain(options.decode(expected)), _plain(options.decode(ids)), _plain(truth) if labelled and truth else "")
        for expected, ids, truth in zip(batch.ids, found, batch.truths, strict=True)
    ]
    per_token = None if batch.logits is None else _per_token(translator, batch, options)
    scores = _scores(batch, per_token)
    counts = [
        _counted(expected, ids, text if labelled else None, finite)
        for expected, ids, text, finite in zip(batch.ids, found, texts, np.isfinite(scores), strict=True)
    ]
    bad = [name for name, score in zip(batch.names, scores, strict=True) if not np.isfinite(score)]
    return Sequences(
        labelled=labelled,
        counts=sum(counts, Tally()),
        texts=tuple(texts) if labelled else (),
        closeness=ClosenessSums() if per_token is None else ClosenessSums().plus(per_token.closeness),
        tokens=0 if per_token is None else len(per_token.agreed),
        tokens_agreed=0 if per_token is None else int(per_token.agreed.sum()),
        not_finite=len(bad),
        first_not_finite=next(iter(bad), ""),
        worst=kept_worst(_ranked(batch, texts, counts, scores), options.comparison.worst),
        by_length=_by_length({}, batch.lengths, counts),
    )


def followed(state: Sequences, batch: Sequences, options: ComparisonOptions) -> Sequences:
    """`state` and what the next batch told; see `compare.followed`."""
    if state.labelled is not None and state.labelled != batch.labelled:
        raise SetError("expected translations for all samples or for none, found batches with and without")
    return Sequences(
        labelled=batch.labelled,
        counts=state.counts + batch.counts,
        texts=state.texts + batch.texts,
        closeness=state.closeness + batch.closeness,
        tokens=state.tokens + batch.tokens,
        tokens_agreed=state.tokens_agreed + batch.tokens_agreed,
        not_finite=state.not_finite + batch.not_finite,
        first_not_finite=state.first_not_finite or batch.first_not_finite,
        worst=kept_worst(state.worst + batch.worst, options.worst),
        by_length=added(state.by_length, batch.by_length),
    )


class _PerToken(msgspec.Struct, frozen=True):
    closeness: SampleCloseness
    agreed: NDArray[np.bool_]


def _per_token(translator: Translator, batch: Written, options: SequenceOptions) -> _PerToken:
    assert batch.logits is not None
    logits = forced(translator, batch, options.start, options.pad)
    closeness = sample_closeness(batch.logits, logits, scores=True)
    return _PerToken(closeness, (batch.logits.argmax(axis=1) == logits.argmax(axis=1)) & closeness.finite)


def _scores(batch: Written, per_token: _PerToken | None) -> NDArray[np.float64]:
    """Per text the mean divergence of its tokens; infinite where one is not finite, 0 where nothing is known."""
    if per_token is None or per_token.closeness.kl is None:
        return np.zeros(len(batch.ids))
    divergence = np.where(per_token.closeness.finite, per_token.closeness.kl, np.inf)
    ends = np.cumsum([len(ids) for ids in batch.ids])
    return np.array([part.mean() for part in np.split(divergence, ends[:-1])])


def _counted(expected: Sequence[int], ids: Sequence[int], texts: tuple[str, str, str] | None, finite: bool) -> Tally:
    """One text's answer; an answer of logits that are not finite is always wrong."""
    agreed = tuple(expected) == tuple(ids) and finite
    if texts is None:
        return Tally(samples=1, agreed=int(agreed))
    right, build_right = texts[0] == texts[2], texts[1] == texts[2] and finite
    return Tally(
        samples=1,
        agreed=int(agreed),
        reference_right=int(right),
        build_right=int(build_right),
        lost=int(right and not build_right),
        gained=int(build_right and not right),
        changed=int(not right and not build_right and not agreed),
    )


def _ranked(
    batch: Written, texts: Sequence[tuple[str, str, str]], counts: Sequence[Tally], scores: NDArray[np.float64]
) -> tuple[Ranked, ...]:
    """Not finite before another text before the rest, then by divergence."""
    return tuple(
        Ranked(
            severity=2 if not np.isfinite(score) else 1 - one.agreed,
            sample=WorstSample(
                name=name,
                score=min(float(score), WORST_SCORE),
                reference=text[0],
                build=text[1] if np.isfinite(score) else "not finite",
                truth=text[2],
            ),
        )
        for name, text, one, score in zip(batch.names, texts, counts, scores, strict=True)
    )


def _by_length(known: dict[int, Tally], lengths: Sequence[int], counts: Sequence[Tally]) -> dict[int, Tally]:
    for length, one in zip(lengths, counts, strict=True):
        known = added(known, {length: one})
    return known


def _labelled(truths: Sequence[str | None]) -> bool:
    missing = sum(truth is None for truth in truths)
    if missing not in (0, len(truths)):
        raise SetError(f"expected a translation for all samples or for none, found {missing} of {len(truths)} without")
    return missing == 0


def _plain(text: str) -> str:
    """A text as it is compared: without spaces at its ends or two in a row, which no reader sees."""
    return " ".join(text.split())


# ------------------------------------------------------------------------------------------------ the rung


def rung(state: Sequences, stage: Stage, options: ComparisonOptions) -> Rung:
    counts, closeness = state.counts, state.closeness.result()
    decision = _decision(state, options)
    words = verdict.Words(metric=METRIC)
    if state.not_finite:
        judged = verdict.not_finite(state.not_finite, counts.samples, state.first_not_finite, words)
    elif decision is None:
        assert closeness is not None
        floor = verdict.sqnr_floor(stage.precision) if options.budget.sqnr_db is None else options.budget.sqnr_db
        judged = verdict.untrained(closeness, floor)
    else:
        judge = verdict.labelled if state.labelled else verdict.unlabelled
        judged = judge(decision, counts, options.budget.margin, words)
    shown = decision if state.labelled else None
    return Rung(
        name=stage.name,
        target=stage.target,
        precision=stage.precision,
        samples=counts.samples,
        labelled=shown is not None,
        task=task_comparison(METRIC, counts, shown) if shown else None,
        agreement=100.0 * counts.agreed / counts.samples if decision else None,
        flips=flips(counts, shown) if shown else None,
        closeness=closeness,
        worst=tuple(ranked.sample for ranked in state.worst),
        scores=_corpus(state) if shown else (),
        tokens=TokenAgreement(tokens=state.tokens, agreement=100.0 * state.tokens_agreed / state.tokens)
        if state.tokens and decision
        else None,
        lengths=length_bins(state.by_length, labelled=shown is not None) if decision else (),
        verdict=judged.verdict,
        reason=judged.reason,
        samples_needed=judged.samples_needed,
    )


def _decision(state: Sequences, options: ComparisonOptions) -> Decision | None:
    """The paired test on exact match, or on agreement without translations; None for an untrained model."""
    counts, margin = state.counts, options.budget.margin
    if not options.trained:
        return None
    if state.labelled:
        return non_inferiority(counts.lost, counts.gained, counts.samples, margin)
    return agreement_with_reference(counts.samples - counts.agreed, counts.samples, margin)


def _corpus(state: Sequences) -> tuple[CorpusScore, ...]:
    reference, build, truths = (list(side) for side in zip(*state.texts, strict=True))
    return corpus_scores(reference, build, truths)
