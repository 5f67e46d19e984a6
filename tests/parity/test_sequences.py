"""Translations against the reference's: exact match, what stands in for it, and closeness under teacher forcing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevit.errors import BuildError, InputError, SetError, UnavailableError
from edgevit.parity.compare import ComparisonOptions
from edgevit.parity.ladder import Stage
from edgevit.parity.sequences import SequenceOptions, Written, compare_sequences, forced
from edgevit.types import Rung

if TYPE_CHECKING:
    from edgevit.types import Arrays

VOCABULARY = 12
START, PAD, END = 3, 0, 1


class Copier:
    """A stand-in for an engine: it writes each source's tokens plus `shift`, and the end; its logits say the same."""

    def __init__(self, shift: int = 0, noise: float = 0.0, wrong: Sequence[int] = ()) -> None:
        self.shift, self.noise, self.wrong = shift, noise, wrong
        self.forced: list[np.ndarray] = []

    def generate(self, inputs: Arrays) -> list[tuple[int, ...]]:
        rows = [row[mask == 1] for row, mask in zip(inputs["input_ids"], inputs["attention_mask"], strict=True)]
        return [(*((row + self.shift + (int(row[0]) in self.wrong)) % VOCABULARY).tolist(), END) for row in rows]

    def run(self, inputs: Arrays) -> Arrays:
        targets = inputs["decoder_input_ids"]
        self.forced.append(targets)
        logits = np.zeros((*targets.shape, VOCABULARY), np.float32)
        for row, ids in enumerate(self.generate(inputs)):
            for place in range(targets.shape[1]):
                logits[row, place, ids[min(place, len(ids) - 1)]] = 5
        return {"logits": logits + self.noise * np.sin(np.arange(logits.size)).reshape(logits.shape)}


def decode(ids: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in ids if token != END)


OPTIONS = SequenceOptions(comparison=ComparisonOptions(task="translation"), start=START, pad=PAD, decode=decode)


def written(count: int = 40, *, truths: bool = True, logits: bool = True) -> list[Written]:
    """Batches of four sources of 1 to 9 tokens; the truth is what `Copier()` writes."""
    reference = Copier()
    made = []
    for first in range(0, count, 4):
        lengths = [1 + number % 9 for number in range(first, first + 4)]
        ids = np.zeros((4, max(lengths)), np.int64)
        mask = np.zeros_like(ids)
        for row, length in enumerate(lengths):
            ids[row, :length] = 4 + (np.arange(length) + first + row) % 8
            mask[row, :length] = 1
        batch = Written(
            names=[f"source {number}" for number in range(first, first + 4)],
            inputs={"input_ids": ids, "attention_mask": mask},
            truths=(None,) * 4,
            lengths=lengths,
            ids=reference.generate({"input_ids": ids, "attention_mask": mask}),
            logits=None,
        )
        if truths:
            batch = Written(**{**fields(batch), "truths": tuple(f" {decode(one)}" for one in batch.ids)})
        if logits:
            batch = Written(**{**fields(batch), "logits": forced(reference, batch, START, PAD)})
        made.append(batch)
    return made


def fields(batch: Written) -> dict[str, object]:
    return {name: getattr(batch, name) for name in batch.__struct_fields__}


def rung(translator: Copier, batches: list[Written] | None = None, options: SequenceOptions = OPTIONS) -> Rung:
    stage = Stage(name="build", target="openvino", precision="int8")
    return compare_sequences(batches or written(), stage, translator, options)


def test_the_reference_itself_is_right_everywhere() -> None:
    found = rung(Copier(), written(1200))
    assert found.verdict == "passed"
    assert found.task is not None
    assert (found.task.metric, found.task.reference, found.task.build) == ("exact match", 100.0, 100.0)
    assert found.agreement == 100.0
    assert found.tokens is not None
    assert found.tokens.agreement == 100.0
    assert found.tokens.tokens == sum(len(ids) for batch in written(1200) for ids in batch.ids)
    assert found.closeness is not None
    assert (found.closeness.sqnr_db, found.closeness.kl_mean) == (300.0, 0.0)
    assert [score.metric for score in found.scores] == ["BLEU", "chrF"]
    assert all(score.build == 100.0 for score in found.scores)


def test_lost_texts_are_counted_scored_and_shown() -> None:
    found = rung(Copier(wrong=(4,)))
    lost = sum(batch.inputs["input_ids"][row, 0] == 4 for batch in written() for row in range(4))
    assert found.flips is not None
    assert (found.flips.lost, found.flips.gained) == (lost, 0)
    assert found.task is not None
    assert found.task.build == pytest.approx(100 - 100 * lost / 40)
    assert found.verdict == "failed"
    assert f"exact match -{100 * lost / 40:.2f} points on 40 samples (lost {lost}, gained 0)" in found.reason
    worst = found.worst[0]
    assert (worst.reference, worst.truth) == (worst.truth, worst.reference)
    assert worst.build != worst.reference
    assert all(score.difference < 0 for score in found.scores)
    assert found.tokens is not None
    assert found.tokens.agreement < 100


def test_accuracy_by_length_adds_up() -> None:
    found = rung(Copier(wrong=(4,)))
    assert [(one.low, one.high) for one in found.lengths] == [(1, 4), (5, 8), (9, 12)]
    assert sum(one.answers for one in found.lengths) == 40
    right = sum(one.answers * (one.build or 0) / 100 for one in found.lengths)
    assert found.task is not None
    assert right == pytest.approx(0.4 * found.task.build)


def test_without_translations_agreement_decides_and_says_so() -> None:
    found = rung(Copier(wrong=(4,)), written(truths=False))
    assert not found.labelled
    assert found.task is None
    assert found.scores == ()
    assert found.agreement is not None
    assert found.agreement < 100
    assert found.verdict == "failed"
    assert found.reason.startswith("no labels, so the reference's answers stand in for the truth")
    assert all(one.build is None and one.agreement <= 100 for one in found.lengths)


def test_an_untrained_model_is_judged_by_closeness_alone() -> None:
    options = SequenceOptions(
        comparison=ComparisonOptions(task="translation", trained=False), start=START, pad=PAD, decode=decode
    )
    found = rung(Copier(wrong=(4,), noise=0.01), options=options)
    assert (found.task, found.agreement, found.scores, found.tokens, found.lengths) == (None, None, (), None, ())
    assert found.reason.startswith("untrained model, judged by closeness alone")


def test_forced_tokens_are_the_references_shifted_by_the_start() -> None:
    batch = written(4)[0]
    translator = Copier()
    logits = forced(translator, batch, START, PAD)
    assert len(logits) == sum(map(len, batch.ids))
    (targets,) = translator.forced
    for row, ids in enumerate(batch.ids):
        assert targets[row, : len(ids)].tolist() == [START, *ids[:-1]]
        assert (targets[row, len(ids) :] == PAD).all()


def test_padding_is_in_no_figure() -> None:
    """A build that is wrong only where shorter texts are padded is the reference."""

    class WrongInPadding(Copier):
        def run(self, inputs: Arrays) -> Arrays:
            logits = super().run(inputs)["logits"]
            lengths = inputs["attention_mask"].sum(1) + 1
            logits[np.arange(logits.shape[1])[None, :] >= lengths[:, None]] = 1e9
            return {"logits": logits}

    assert rung(WrongInPadding()).closeness == rung(Copier()).closeness


def test_outputs_that_are_not_finite_fail() -> None:
    class Broken(Copier):
        def run(self, inputs: Arrays) -> Arrays:
            logits = super().run(inputs)["logits"]
            logits[1, 0, 0] = np.nan
            return {"logits": logits}

    found = rung(Broken())
    assert found.verdict == "failed"
    assert found.reason.startswith("10 of 40 samples have NaN or infinite outputs, the first is source 1")
    assert found.worst[0].build == "not finite"


def test_a_stage_that_stops_and_one_that_is_not_here() -> None:
    class Stopping(Copier):
        def __init__(self, error: Exception) -> None:
            super().__init__()
            self.error = error

        def generate(self, inputs: Arrays) -> list[tuple[int, ...]]:
            raise self.error

    assert rung(Stopping(BuildError("no kernel"))).reason == "stopped after 0 samples: no kernel"
    assert rung(Stopping(UnavailableError("no engine"))).verdict == "not executed"


def test_known_texts_without_logits_give_everything_but_closeness() -> None:
    found = rung(Copier(wrong=(4,)), written(logits=False))
    assert found.task is not None
    assert (found.closeness, found.tokens) == (None, None)


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"truths": ("a", None, "b", "c")}, SetError, "for all samples or for none, found 1 of 4 without"),
        ({"ids": ((1,), (1,), (), (1,))}, InputError, "at least one token from the float reference, found none for"),
        ({"logits": np.zeros((3, VOCABULARY))}, InputError, "expected logits for"),
        ({"logits": np.full((14, VOCABULARY), np.nan)}, InputError, "expected finite outputs of the float reference"),
    ],
)
def test_a_reference_or_a_set_that_makes_no_sense(changes: dict[str, object], error: type, expected: str) -> None:
    batch = written(4)[0]
    with pytest.raises(error, match=expected):
        rung(Copier(), [Written(**{**fields(batch), **changes})])


def test_nothing_to_compare() -> None:
    with pytest.raises(SetError, match="at least one evaluation sample"):
        compare_sequences([], Stage(name="build"), Copier(), OPTIONS)
