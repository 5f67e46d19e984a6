"""The page's own tokenizer against the library tokenizers: the same ids and the same texts, executed by Node.js."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgevit.targets import web

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None,
    reason="Node.js is not here, so the page's tokenizer was not executed; sudo apt-get install npm",
)

PROGRAM = """
import { readFileSync } from "node:fs";
const { openTokenizer } = await import(process.argv[1]);
const { file, texts, limit, lists } = JSON.parse(readFileSync(0, "utf8"));
const tokenizer = openTokenizer(JSON.parse(readFileSync(file, "utf8")));
const encode = (text) => {
  try {
    return tokenizer.encode(text, limit ?? undefined).ids;
  } catch (error) {
    return error.message;
  }
};
const result = { ids: texts.map(encode), texts: lists.map((ids) => tokenizer.decode(ids)), unknown: tokenizer.unknown };
console.log(JSON.stringify(result));
"""
LETTERS = [
    *"abteA39 \t\n\r.,'-_()&@#$%<>/ßÉé▁ĠĊ",
    *"\u0130\u0301\u0323\ufb01\u00bd\u216b\uff11\uff12\u0085\u00a0\u2003\ufeff\u200b\u00ad\u2019\u4e2d\u56fd\u30ab\ud55c\u0e01\u0e33",
    *("\U0001f642", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u0000", "\ufffd"),
    *("'s", "n't", "</s>", "<unk>", ">>fra<<", "the", "und", "  "),
]
"""What tokenizers trip over: accents apart, digits of other scripts, spaces that are none, signs of their own."""


@pytest.fixture(scope="module")
def texts(sentences: Path) -> list[str]:
    rng = random.Random(7)
    wild = ["".join(rng.choices(LETTERS, k=rng.randint(1, 24))) for _ in range(400)]
    lines = (sentences / "evaluation.txt").read_text(encoding="utf-8").splitlines()[:60]
    return [*lines, *(f"{a} {b}".title() for a, b in itertools.pairwise(lines)), *wild]


def in_node(file: Path, texts: list[str], lists: list[list[int]], limit: int | None = None) -> Any:
    given = json.dumps({"file": str(file), "texts": texts, "limit": limit, "lists": lists})
    module = (web.PAGES / "texts" / "tokenizer.mjs").as_uri()
    command = ["node", "--input-type=module", "-e", PROGRAM, module]
    done = subprocess.run(command, input=given, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def agree(file: Path, texts: list[str]) -> None:
    """Ids, what a limit leaves of them, and texts of ids, those that no text gives included."""
    from edgevit.preprocess import open_tokenizer

    tokenizer = open_tokenizer(file)
    expected = [tokenizer.encode(text).ids for text in texts]
    rng = random.Random(3)
    lists = [*expected[:100], *([rng.randrange(tokenizer.size) for _ in range(12)] for _ in range(200))]
    found = in_node(file, texts, lists)
    for text, ours, theirs in zip(texts, found["ids"], expected, strict=True):
        assert ours == theirs, repr(text)
    for ids, text in zip(lists, found["texts"], strict=True):
        assert text == tokenizer.decode(ids), ids
    assert found.get("unknown") == tokenizer.unknown
    cut = in_node(file, texts, [], 7)["ids"]
    assert cut == [list(tokenizer.encode(text, 7).ids) for text in texts]


def saved(tokenizer: Any, place: Path) -> Path:
    tokenizer.save(str(place / "tokenizer.json"))
    return place / "tokenizer.json"


def trained(sentences: Path, kind: str, size: int = 400, **options: Any) -> Any:
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(getattr(models, kind)(**options))
    trainer = {"BPE": trainers.BpeTrainer, "WordPiece": trainers.WordPieceTrainer, "Unigram": trainers.UnigramTrainer}
    return tokenizer, trainer[kind], [str(sentences / "calibration.txt")], size


@pytest.mark.parametrize("name", ["source", "target"])
def test_of_the_zoos_translators(name: str, texts: list[str]) -> None:
    from edgevit.zoo.catalog import VOCABULARIES

    agree(VOCABULARIES / f"{name}.json", texts)


def test_of_bert(tokenizer_file: Path, word_pieces: Path, texts: list[str]) -> None:
    agree(tokenizer_file, texts)
    agree(word_pieces, texts)


def test_of_roberta(byte_pairs: Path, texts: list[str]) -> None:
    agree(byte_pairs, texts)


def test_of_t5(sentences: Path, texts: list[str], tmp_path: Path) -> None:
    """SentencePiece's pieces and its rules of normalization, as its checkpoints' files have them."""
    from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import UnigramTrainer

    tokenizer, *_ = trained(sentences, "Unigram")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    special = ["<pad>", "</s>", "<unk>"]
    trainer = UnigramTrainer(vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train([str(sentences / "calibration.txt")], trainer)
    steps = [
        normalizers.Precompiled(rules(tmp_path)),
        normalizers.Strip(left=False),
        normalizers.Replace(Regex(" {2,}"), "▁"),
    ]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_tokens([AddedToken(">>fra<<", rstrip=True, normalized=False), AddedToken("und", single_word=True)])
    agree(saved(tokenizer, tmp_path), texts)


def rules(folder: Path) -> bytes:
    """The charsmap of a new model of SentencePiece: NFKC and what T5 and Marian add to it."""
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2

    (folder / "text.txt").write_text("one line of text\nand another one\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "spm"), vocab_size=30, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    proto = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    proto.ParseFromString((folder / "spm.model").read_bytes())
    assert len(proto.normalizer_spec.precompiled_charsmap) > 100_000
    return bytes(proto.normalizer_spec.precompiled_charsmap)


def test_of_llama(sentences: Path, texts: list[str], tmp_path: Path) -> None:
    """Byte pairs that fall back to bytes, and a decoder of several steps."""
    from tokenizers import decoders, normalizers
    from tokenizers.trainers import BpeTrainer

    tokenizer, *_ = trained(sentences, "BPE", byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = BpeTrainer(vocab_size=420, special_tokens=tokens, show_progress=False)
    tokenizer.train([str(sentences / "calibration.txt")], trainer)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    file = saved(tokenizer, tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    for token in content["added_tokens"]:
        token["special"] = not token["content"].startswith("<0x")
    content["added_tokens"] = [token for token in content["added_tokens"] if token["special"]]
    file.write_text(json.dumps(content), encoding="utf-8")
    agree(file, texts)


def test_of_subwords_with_other_cuts(sentences: Path, texts: list[str], tmp_path: Path) -> None:
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors
    from tokenizers.trainers import BpeTrainer, WordPieceTrainer

    cuts = [
        [pre_tokenizers.Whitespace(), pre_tokenizers.Digits(individual_digits=True)],
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("merged_with_previous")],
        [pre_tokenizers.Split(Regex(r"\s+|\p{N}{1,3}"), "merged_with_next"), pre_tokenizers.Digits()],
        [pre_tokenizers.Split(Regex(r"[\p{L}\p{M}]+"), "removed", invert=True), pre_tokenizers.Punctuation()],
        [pre_tokenizers.Split(" ", "contiguous"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)],
    ]
    steps = [normalizers.NFKD(), normalizers.Lowercase(), normalizers.StripAccents(), normalizers.Strip()]
    for place, cut in enumerate(cuts):
        if place % 2:
            tokenizer, *_ = trained(sentences, "WordPiece", unk_token="[UNK]", max_input_chars_per_word=9)
            trainer: Any = WordPieceTrainer(vocab_size=250, special_tokens=["[UNK]"], show_progress=False)
            tokenizer.decoder = decoders.WordPiece(cleanup=place == 1)
            tokenizer.post_processor = processors.BertProcessing(("[UNK]", 0), ("[UNK]", 0))
        else:
            tokenizer, *_ = trained(sentences, "BPE", unk_token="[UNK]", end_of_word_suffix="</w>", fuse_unk=place == 0)
            trainer = BpeTrainer(
                vocab_size=250, special_tokens=["[UNK]"], end_of_word_suffix="</w>", show_progress=False
            )
            tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
        tokenizer.normalizer = normalizers.Sequence(steps[place % 2 :])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(cut)
        tokenizer.train([str(sentences / "calibration.txt")], trainer)
        agree(saved(tokenizer, tmp_path), texts)
