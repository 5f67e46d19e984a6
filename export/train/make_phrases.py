"""Makes the phrases that the sequence models of the zoo learn, are calibrated with and are judged by.

    python export/train/make_phrases.py            writes the train split to out/phrases/train.jsonl
    python export/train/make_phrases.py --publish  also writes the splits and the digest that are committed

`edgevit/sets/phrases/calibration.jsonl` and `evaluation.jsonl` hold the committed splits, `train.json` beside them the
number of phrases and the digest of the train split, which this script makes again and checks. Which split a phrase may
be in is decided by its text alone (`split_of`), so no phrase is in two. The German and English names are the Unicode
CLDR's, in Babel's copy; the numbers in words are num2words'. The grammar is `phrases.py`.
"""

from __future__ import annotations

import argparse
import hashlib
from importlib.metadata import version
from pathlib import Path
from random import Random

import msgspec
from phrases import Phrase, draw

ROOT = Path(__file__).resolve().parent.parent.parent
PUBLISHED = ROOT / "edgevit" / "sets" / "phrases"
TRAIN = ROOT / "out" / "phrases" / "train.jsonl"
SEED = 0
SIZES = {"train": 240_000, "calibration": 512, "evaluation": 1400}
LONGEST = 170
"""Characters of a source or a target; with the published vocabularies no phrase is longer than 96 tokens."""


class TrainSplit(msgspec.Struct, frozen=True, kw_only=True):
    """`train.json`: what the train split was, for whoever makes it again."""

    phrases: int
    seed: int
    sha256: str
    """Of the file, one phrase a line."""
    packages: dict[str, str]
    """What the words come from; another version may write other ones."""


def split_of(text: str) -> str:
    """The split a phrase may be in: 4 % of all texts are for evaluation, 2 % for calibration."""
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return "evaluation" if place < 0.04 else "calibration" if place < 0.06 else "train"


def make(sizes: dict[str, int]) -> dict[str, list[Phrase]]:
    """The first `sizes` phrases of each split, as drawn, each once. Raises ValueError for a text with two meanings."""
    rng = Random(SEED)
    seen: dict[str, Phrase] = {}
    splits: dict[str, list[Phrase]] = {name: [] for name in sizes}
    while any(len(splits[name]) < size for name, size in sizes.items()):
        phrase = draw(rng)
        if max(len(phrase.text), len(phrase.target)) > LONGEST:
            continue
        known = seen.setdefault(phrase.text, phrase)
        if known != phrase:
            raise ValueError(f"expected one meaning of {phrase.text!r}, found {known} and {phrase}")
        split = split_of(phrase.text)
        if known is phrase and len(splits[split]) < sizes[split]:
            splits[split].append(phrase)
    return splits


def lines(phrases: list[Phrase]) -> bytes:
    """JSONL: {"text", "target", "kind", "tags"}."""
    return b"".join(msgspec.json.encode(phrase._asdict()) + b"\n" for phrase in phrases)


def check_disjoint(splits: dict[str, list[Phrase]]) -> None:
    texts = [phrase.text for phrases in splits.values() for phrase in phrases]
    if len(set(texts)) != len(texts):
        raise ValueError("expected every phrase in one split, found one in two; correct split_of")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="write the committed splits and the digest, too")
    publish = parser.parse_args().publish
    splits = make(SIZES)
    check_disjoint(splits)
    TRAIN.parent.mkdir(parents=True, exist_ok=True)
    TRAIN.write_bytes(lines(splits["train"]))
    digest = hashlib.sha256(TRAIN.read_bytes()).hexdigest()
    packages = {name: version(name) for name in ("babel", "num2words")}
    found = TrainSplit(phrases=len(splits["train"]), seed=SEED, sha256=digest, packages=packages)
    record = PUBLISHED / "train.json"
    if publish:
        PUBLISHED.mkdir(parents=True, exist_ok=True)
        for name in ("calibration", "evaluation"):
            (PUBLISHED / f"{name}.jsonl").write_bytes(lines(splits[name]))
        record.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    published = msgspec.json.decode(record.read_bytes(), type=TrainSplit)
    if found != published:
        raise SystemExit(f"expected the train split of {record}, {published}, found {found}; install those packages")
    for name in ("calibration", "evaluation"):
        if (PUBLISHED / f"{name}.jsonl").read_bytes() != lines(splits[name]):
            raise SystemExit(f"expected {PUBLISHED / name}.jsonl as committed, found other phrases; run with --publish")
    print(", ".join(f"{len(phrases)} {name}" for name, phrases in splits.items()))


if __name__ == "__main__":
    main()
