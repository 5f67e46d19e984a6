"""Training and scoring of the models that translate phrases, whatever their architecture."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
from sacrebleu import corpus_bleu, corpus_chrf
from sequences import (
    CALIBRATION,
    EVALUATION,
    IGNORED,
    SPLIT,
    Phrase,
    Settings,
    Task,
    generation,
    padded,
    publish,
    read_split,
    scores_by_length,
    sources,
    text_preprocess,
    train,
    vocabulary,
)
from torch import Tensor, nn
from torch.nn import functional

from edgevit.zoo.cards import SequenceCard
from edgevit.zoo.generate import generate
from edgevit.zoo.sequence_config import RecurrentConfig, TransformerConfig


def translation_task(model: nn.Module, phrases: list[Phrase], smoothing: float) -> Task:
    """Teacher forcing: the start and the target without its end go in, the target with its end must come out."""
    source = [encoding.ids for encoding in vocabulary("source").encode_batch([phrase.text for phrase in phrases])]
    target = [encoding.ids for encoding in vocabulary("target").encode_batch([phrase.target for phrase in phrases])]
    start = generation().start_token_id

    def loss(chosen: list[int]) -> Tensor:
        wanted = [target[index] for index in chosen]
        logits = model(*sources([source[index] for index in chosen]), padded([[start, *row[:-1]] for row in wanted]))
        labels = padded(wanted, IGNORED).flatten()
        return functional.cross_entropy(logits.float().flatten(0, 1), labels, label_smoothing=smoothing)

    return Task(loss, [len(row) + len(other) for row, other in zip(source, target, strict=True)])


def translations(model: nn.Module, texts: list[str]) -> list[str]:
    """Greedy, by the reference's own generation, a hundred of about equal length at a time."""
    rows = [encoding.ids for encoding in vocabulary("source").encode_batch(texts)]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    english, found = vocabulary("target"), dict[int, str]()
    for start in range(0, len(order), 100):
        chosen = order[start : start + 100]
        for index, ids in zip(
            chosen, generate(model, *sources([rows[index] for index in chosen]), generation()), strict=True
        ):
            found[index] = english.decode(ids)
    return [found[index] for index in range(len(texts))]


def card_of(
    model: nn.Module, config: TransformerConfig | RecurrentConfig, script: str, settings: Settings
) -> SequenceCard:
    """Scores on the evaluation split, which is looked at here for the first time."""
    phrases = read_split("evaluation")
    found = translations(model, [phrase.text for phrase in phrases])
    expected = [phrase.target for phrase in phrases]
    right = [one == other for one, other in zip(found, expected, strict=True)]
    lengths = [len(encoding.ids) for encoding in vocabulary("source").encode_batch([p.text for p in phrases])]
    return SequenceCard(
        architecture=config,
        task="translation",
        preprocess=text_preprocess(),
        generation=generation(),
        calibration=CALIBRATION,
        evaluation=EVALUATION,
        scores={
            "exact match": round(100 * sum(right) / len(right), 2),
            "BLEU": round(corpus_bleu(found, [expected]).score, 2),
            "chrF": round(corpus_chrf(found, [expected]).score, 2),
        },
        by_length=scores_by_length(lengths, right),
        samples=len(phrases),
        split=SPLIT,
        script=script,
        training=msgspec.structs.asdict(settings),
    )


def run(
    name: str,
    config: TransformerConfig | RecurrentConfig,
    make: Callable[[], nn.Module],
    settings: Settings,
    script: str,
) -> None:
    """Trains on the train split, scores the held-out one, writes the checkpoint."""
    start = time.monotonic()
    model = make()
    train(model, translation_task(model, read_split("train"), settings.label_smoothing), settings)
    card = card_of(model, config, script, settings)
    publish(name, model, card)
    print(*card.by_length, sep="\n")
    print(f"{time.monotonic() - start:.0f} s, {sum(p.numel() for p in model.parameters())} parameters")
