"""Trains `zoo:kinds-transformer`, which says what kind a German phrase is, and writes its checkpoint.

    python export/train/make_phrases.py           the train split
    python export/train/kinds_transformer.py      trains, scores the held-out phrases once, writes the checkpoint

A few minutes of one core. The same machine, package versions and number of threads give the same weights.
"""

from __future__ import annotations

import time

import msgspec
import torch
from phrases import KINDS
from sequences import (
    CALIBRATION,
    EVALUATION,
    SPLIT,
    Phrase,
    Settings,
    Task,
    publish,
    read_split,
    scores_by_length,
    sources,
    text_preprocess,
    train,
    vocabulary,
)
from torch import Tensor
from torch.nn import functional

from edgevit.zoo.cards import SequenceCard
from edgevit.zoo.sequence_config import ClassifierConfig
from edgevit.zoo.transformer import EncoderClassifier, initialize_classifier

LABELS = tuple(KINDS)
CONFIG = ClassifierConfig(
    vocabulary=vocabulary("source").get_vocab_size(),
    classes=len(LABELS),
    dim=96,
    heads=4,
    encoder_layers=2,
    hidden=256,
    max_length=128,
)
SETTINGS = Settings(epochs=1, learning_rate=1e-3, warmup_steps=200, label_smoothing=0.1)


def encoded(phrases: list[Phrase]) -> tuple[list[list[int]], list[int]]:
    """Token ids and the place of each phrase's kind in `LABELS`."""
    rows = [encoding.ids for encoding in vocabulary("source").encode_batch([phrase.text for phrase in phrases])]
    return rows, [LABELS.index(phrase.kind) for phrase in phrases]


def kind_task(model: EncoderClassifier, phrases: list[Phrase]) -> Task:
    rows, labels = encoded(phrases)

    def loss(chosen: list[int]) -> Tensor:
        logits = model(*sources([rows[index] for index in chosen]))
        wanted = torch.tensor([labels[index] for index in chosen])
        return functional.cross_entropy(logits, wanted, label_smoothing=SETTINGS.label_smoothing)

    return Task(loss, [len(row) for row in rows])


def card_of(model: EncoderClassifier) -> SequenceCard:
    """Scores on the evaluation split, which is looked at here for the first time."""
    rows, labels = encoded(read_split("evaluation"))
    with torch.inference_mode():
        right = [int(model(*sources([row])).argmax()) == label for row, label in zip(rows, labels, strict=True)]
    return SequenceCard(
        architecture=CONFIG,
        task="text-classification",
        preprocess=text_preprocess(),
        labels=LABELS,
        calibration=CALIBRATION,
        evaluation=EVALUATION,
        scores={"accuracy": round(100 * sum(right) / len(right), 2)},
        by_length=scores_by_length([len(row) for row in rows], right),
        samples=len(rows),
        split=SPLIT,
        script="export/train/kinds_transformer.py",
        training=msgspec.structs.asdict(SETTINGS),
    )


def main() -> None:
    start = time.monotonic()
    model = initialize_classifier(CONFIG, SETTINGS.seed)
    train(model, kind_task(model, read_split("train")), SETTINGS)
    card = card_of(model)
    publish("kinds-transformer", model, card)
    print(*card.by_length, sep="\n")
    print(f"{time.monotonic() - start:.0f} s, {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
