"""Makes the word-piece vocabularies of the phrases: `source.json` for German, `target.json` for English.

    python export/train/make_phrases.py && python export/train/make_vocabularies.py

Byte-pair merges are learnt from the train split with digits and signs apart, so that no piece holds two digits; spaces
are part of the pieces (`▁`), so that decoding gives back the text as it was. Two vocabularies of 700: the held-out
phrases are 16.1 and 16.2 tokens long on average; with one of 700 for both they are 18.5 and 18.7, and with one of 1,400
14.8 and 15.2, for an embedding in the encoder's graph and one in the decoder's that are twice as large.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sequences import Phrase, read_split
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from edgevit.zoo.catalog import VOCABULARIES

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
"""Padding, what the vocabulary cannot spell, the start that a decoder is given, the end: ids 0 to 3."""
PIECES = 700
LONGEST = 96


def learn(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    words = pre_tokenizers.Metaspace()
    signs = pre_tokenizers.Split(Regex(r"▁?\d|[.,:;%/()]"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, signs])
    trainer = trainers.BpeTrainer(vocab_size=PIECES, special_tokens=SPECIAL, min_frequency=20, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = words  # no merge goes across a sign, so words are enough from here on
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 3)])
    return tokenizer


def check(tokenizer: Tokenizer, texts: list[str], where: Path) -> int:
    """The longest text in tokens. Raises SystemExit when a text does not come back as it was, or is too long."""
    longest = 0
    for text, encoding in zip(texts, tokenizer.encode_batch(texts), strict=True):
        longest = max(longest, len(encoding.ids))
        found = tokenizer.decode(encoding.ids)
        if found != text or len(encoding.ids) > LONGEST:
            raise SystemExit(
                f"{where}: expected {text!r} back in {LONGEST} tokens, found {found!r} in {encoding.tokens}"
            )
    return longest


def main() -> None:
    phrases: list[Phrase] = read_split("train")
    held_out = read_split("calibration") + read_split("evaluation")
    VOCABULARIES.mkdir(parents=True, exist_ok=True)
    for name, field in (("source.json", "text"), ("target.json", "target")):
        tokenizer = learn(getattr(phrase, field) for phrase in phrases)
        longest = check(tokenizer, [getattr(phrase, field) for phrase in phrases + held_out], VOCABULARIES / name)
        tokenizer.save(str(VOCABULARIES / name))
        print(f"{name}: {tokenizer.get_vocab_size()} pieces, the longest {field} has {longest} tokens")


if __name__ == "__main__":
    main()
