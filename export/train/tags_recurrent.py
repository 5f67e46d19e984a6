"""Trains `zoo:tags-rnn`, `zoo:tags-lstm` and `zoo:tags-gru`, which tag the words of German phrases.

    python export/train/make_phrases.py               the train split
    python export/train/tags_recurrent.py rnn         or lstm, or gru: trains, scores once, writes the checkpoint

A minute or two of one core each. A word's tag stands on its first piece; the other pieces and the end token have
none and count neither in the loss nor in the scores. The same machine, package versions and number of threads give the
same weights.
"""

from __future__ import annotations

import argparse
import time

import msgspec
import torch
from german_words import TAGS
from sequences import (
    CALIBRATION,
    EVALUATION,
    IGNORED,
    SPLIT,
    Phrase,
    Settings,
    Task,
    padded,
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
from edgevit.zoo.recurrent import Tagger, initialize_tagger
from edgevit.zoo.sequence_config import TaggerConfig

HIDDEN = {"rnn": 128, "lstm": 64, "gru": 72}
"""In each direction."""
SETTINGS = Settings(epochs=1, learning_rate=3e-3, warmup_steps=200)


def tagged(phrases: list[Phrase]) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids, and for each token the tag of the word it begins, or `IGNORED`."""
    rows, labels = [], []
    for phrase, encoding in zip(phrases, vocabulary("source").encode_batch([p.text for p in phrases]), strict=True):
        tags, known = [], -1
        for word in encoding.word_ids:
            tags.append(IGNORED if word is None or word == known else TAGS.index(phrase.tags[word]))
            known = word
        rows.append(encoding.ids)
        labels.append(tags)
    return rows, labels


def tag_task(model: Tagger, phrases: list[Phrase]) -> Task:
    rows, labels = tagged(phrases)

    def loss(chosen: list[int]) -> Tensor:
        logits = model(*sources([rows[index] for index in chosen]))
        wanted = padded([labels[index] for index in chosen], IGNORED)
        return functional.cross_entropy(logits.float().flatten(0, 1), wanted.flatten())

    return Task(loss, [len(row) for row in rows])


def card_of(model: Tagger, config: TaggerConfig, cell: str) -> SequenceCard:
    """Scores on the evaluation split, which is looked at here for the first time."""
    rows, labels = tagged(read_split("evaluation"))
    right: list[bool] = []
    hits = count = 0
    with torch.inference_mode():
        for row, tags in zip(rows, labels, strict=True):
            found = model(*sources([row])).argmax(-1)[0].tolist()
            judged = [one == tag for one, tag in zip(found, tags, strict=True) if tag != IGNORED]
            right.append(all(judged))
            hits, count = hits + sum(judged), count + len(judged)
    return SequenceCard(
        architecture=config,
        task="token-classification",
        preprocess=text_preprocess(),
        labels=TAGS,
        calibration=CALIBRATION,
        evaluation=EVALUATION,
        scores={
            "accuracy": round(100 * hits / count, 2),
            "exact match": round(100 * sum(right) / len(right), 2),
        },
        by_length=scores_by_length([len(row) for row in rows], right),
        samples=len(rows),
        split=SPLIT,
        script=f"export/train/tags_recurrent.py {cell}",
        training=msgspec.structs.asdict(SETTINGS),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cell", choices=sorted(HIDDEN))
    cell = parser.parse_args().cell
    start = time.monotonic()
    pieces = vocabulary("source").get_vocab_size()
    config = TaggerConfig(cell=cell, vocabulary=pieces, tags=len(TAGS), dim=64, hidden=HIDDEN[cell])
    model = initialize_tagger(config, SETTINGS.seed)
    train(model, tag_task(model, read_split("train")), SETTINGS)
    card = card_of(model, config, cell)
    publish(f"tags-{cell}", model, card)
    print(*card.by_length, sep="\n")
    print(f"{time.monotonic() - start:.0f} s, {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
