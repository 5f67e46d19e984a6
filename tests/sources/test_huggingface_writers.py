"""Encoder-decoders in Hugging Face layout: parts that make the whole, and what their settings say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edgevit.errors import InputError
from edgevit.sources import SourceOptions, open_source
from edgevit.types import FloatModel, Generation, TextPreprocess

Directory = Callable[..., Path]
FAMILIES = ("marian", "bart", "t5")


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids, target = (torch.randint(5, 300, (2, length), generator=generator) for length in (7, 5))
    return ids, torch.tensor([[1] * 4 + [0] * 3, [1] * 7]), target


def in_parts(model: FloatModel, *calls: slice) -> torch.Tensor:
    """The target's logits, by the two parts, in several calls of the decoder."""
    ids, mask, target = batch()
    encoder, decoder = (part.module for part in model.parts)
    _, *source = encoder(ids, mask)
    heads, size = source[0].shape[1], source[0].shape[3]
    past = [torch.zeros(2, heads, 0, size) for _ in source]
    logits = []
    for call in calls:
        found, *past = decoder(target[:, call], mask, *source, *past)
        logits.append(found)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parts_make_the_whole_and_that_is_the_models_own(family: str, huggingface_directory: Directory) -> None:
    from transformers import AutoModelForSeq2SeqLM

    directory = huggingface_directory(family)
    model = open_source(str(directory))
    ids, mask, target = batch()
    with torch.no_grad():
        expected = (
            AutoModelForSeq2SeqLM.from_pretrained(directory)
            .eval()(input_ids=ids, attention_mask=mask, decoder_input_ids=target)
            .logits
        )
        torch.testing.assert_close(model.module(ids, mask, target), expected)
        for calls in ([slice(0, 5)], [slice(0, 3), slice(3, 4), slice(4, 5)]):
            torch.testing.assert_close(in_parts(model, *calls), expected, rtol=1e-4, atol=1e-4)
    assert [(part.name, part.depth) for part in model.parts] == [("encoder", 2), ("decoder", 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_no_parameter_is_in_both_parts_and_none_is_lost(family: str, huggingface_directory: Directory) -> None:
    """But for the table of words, which each part has under its own name."""
    model = open_source(str(huggingface_directory(family)))
    encoder, decoder = (dict(part.module.named_parameters()) for part in model.parts)
    assert not encoder.keys() & decoder.keys()
    table = {name for name in decoder if name.endswith("decoder.embed_tokens.weight")}
    assert {name.replace("decoder.embed", "encoder.embed") for name in table} <= encoder.keys()
    whole = dict(model.module.named_parameters())
    shared = {name for name in whole if name.endswith("shared.weight")}
    assert whole.keys() - shared <= encoder.keys() | decoder.keys()


def test_settings_of_generation(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("marian")
    settings = {"num_beams": 6, "max_length": 30, "length_penalty": 0.5, "early_stopping": True, "pad_token_id": 0,
                "eos_token_id": 3, "decoder_start_token_id": 2, "bad_words_ids": [[0], [7, 8]],
                "no_repeat_ngram_size": 3}  # fmt: skip
    (directory / "generation_config.json").write_text(json.dumps(settings))
    model = open_source(str(directory))
    assert model.generation == Generation(
        start_token_id=2, end_token_id=3, pad_token_id=0, max_length=29, beams=6, length_penalty=0.5,
        early_stopping=True,
    )  # fmt: skip
    assert model.notes[-1] == (
        "does not follow the generation settings no_repeat_ngram_size 3, bad_words_ids of several tokens"
    )
    assert isinstance(model.preprocess, TextPreprocess) and not model.preprocess.truncate


def test_what_is_never_written_has_the_least_score(huggingface_directory: Directory) -> None:
    directory = huggingface_directory("bart")
    plain = open_source(str(directory))
    ids, mask, target = batch()
    likeliest = int(plain.module(ids, mask, target)[0, 0].argmax())
    stored = json.loads((directory / "generation_config.json").read_text())
    (directory / "generation_config.json").write_text(json.dumps({**stored, "bad_words_ids": [[likeliest]]}))
    model = open_source(str(directory))
    logits, before = model.module(ids, mask, target), plain.module(ids, mask, target)
    assert torch.equal(logits[..., likeliest], before.amin(-1))
    assert int(logits[0, 0].argmax()) != likeliest
    others = [token for token in range(logits.shape[-1]) if token != likeliest]
    assert torch.equal(logits[..., others], before[..., others])
    torch.testing.assert_close(in_parts(model, slice(0, 5)), logits, rtol=1e-4, atol=1e-4)
    assert model.digest != plain.digest


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder_start_token_id": None}, "found no decoder_start_token_id"),
        ({"eos_token_id": [3, 4]}, "found 2 end tokens"),
    ],
)
def test_tokens_that_nothing_names(changes: dict[str, Any], words: str, huggingface_directory: Directory) -> None:
    directory = huggingface_directory("marian")
    stored = json.loads((directory / "generation_config.json").read_text())
    (directory / "generation_config.json").write_text(json.dumps({**stored, **changes}))
    with pytest.raises(InputError, match=words):
        open_source(str(directory))


def test_prefixes_of_the_training_are_said(huggingface_directory: Directory) -> None:
    tasks = {"summarization": {"prefix": "summarize: "}, "other": {"max_length": 9}}
    model = open_source(str(huggingface_directory("t5", task_specific_params=tasks)))
    assert model.notes == ("was trained on texts that begin with 'summarize: ': put that before yours",)
    assert isinstance(model.preprocess, TextPreprocess)
    assert model.preprocess.max_length == 512  # T5's positions have no end


def test_a_decoder_built_otherwise_and_options_of_images(
    huggingface_directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = huggingface_directory("marian")
    with pytest.raises(InputError, match="which reads texts; leave them out"):
        open_source(str(directory), options=SourceOptions(image_size=(8, 8)))
    from edgevit.sources.huggingface import writer_modules

    monkeypatch.setattr(writer_modules, "CROSS", {"somewhere_else": ("k", "v")})
    with pytest.raises(InputError, match=r"attends to the source as BART's or T5's does .* found MarianMTModel"):
        open_source(str(directory))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_begins_with_the_forced_token(family: str, huggingface_directory: Directory) -> None:
    """As mBART and NLLB are told the language to write in; two other languages give two other texts."""
    from transformers import AutoModelForSeq2SeqLM

    from edgevit.zoo.generate import generate

    directory = huggingface_directory(family)
    path = directory / "generation_config.json"
    stored = json.loads(path.read_text())
    ids, mask, _ = batch()
    for language in (17, 23):
        path.write_text(json.dumps({**stored, "forced_bos_token_id": language, "max_length": 9}))
        model = open_source(str(directory))
        assert f"every text begins with token {language}, as forced_bos_token_id says" in model.notes
        assert model.generation is not None
        written = generate(model.module, ids, mask, model.generation)
        theirs = AutoModelForSeq2SeqLM.from_pretrained(directory).eval()
        expected = theirs.generate(input_ids=ids, attention_mask=mask, num_beams=1, do_sample=False)[:, 1:].tolist()
        end = model.generation.end_token_id
        assert written == [row[: row.index(end) + 1] if end in row else row for row in expected]
        assert {row[0] for row in written} == {language}
        with torch.no_grad():
            whole = model.module(*batch())
            torch.testing.assert_close(
                in_parts(model, slice(0, 3), slice(3, 4), slice(4, 5)), whole, rtol=1e-4, atol=1e-4
            )
        assert set(whole.argmax(-1)[:, 0].tolist()) == {language}
        assert set(whole.argmax(-1)[:, 1:].flatten().tolist()) != {language}
