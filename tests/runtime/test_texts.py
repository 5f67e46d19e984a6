"""Texts to classes and tags, as an application asks for them."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from edgevit.errors import InputError, PreprocessError
from edgevit.preprocess import open_tokenizer, texts_batch
from edgevit.runtime import Classification, Tagging, load, texts
from tests.text_models import TEXTS


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def kinds(request, text_bundle):
    with load(text_bundle("kinds"), request.param, threads=1) as model:
        yield model


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def tags(request, text_bundle):
    with load(text_bundle("tags"), request.param, threads=1) as model:
        yield model


def logits_of(module, text, tokenizer_file, spec):
    import torch

    batch = texts_batch([text], spec, open_tokenizer(tokenizer_file))
    return module(*(torch.from_numpy(array) for array in batch.values()))[0].numpy().astype(np.float64)


def softmax(logits):
    scores = np.exp(logits - logits.max(-1, keepdims=True))
    return scores / scores.sum(-1, keepdims=True)


def test_a_text_has_a_class(kinds, sequence_module, tokenizer_file):
    found = kinds.predict(TEXTS)
    for text, result in zip(TEXTS, found, strict=True):
        scores = softmax(logits_of(sequence_module("kinds").module, text, tokenizer_file, kinds._texts))
        assert isinstance(result, Classification)
        assert result.label == kinds.labels[scores.argmax()]
        assert result.score == pytest.approx(scores.max(), abs=1e-4)
        assert kinds.predict(text.encode()).label == result.label
    assert len(kinds.predict("am", top=2).top) == 2
    assert len({result.label for result in found}) > 1


def test_a_word_has_a_tag(tags, sequence_module, tokenizer_file):
    text = "am Dienstag, um 12 Uhr"
    result = tags.predict(text)
    assert isinstance(result, Tagging)
    assert [tag.word for tag in result.words] == text.split()
    scores = softmax(logits_of(sequence_module("tags").module, text, tokenizer_file, tags._texts))
    for tag, place in zip(result.words, (0, 1, 4, 5, 7), strict=True):
        assert tag.label == tags.labels[scores[place].argmax()]
        assert tag.score == pytest.approx(scores[place].max(), abs=1e-4)


def test_a_word_of_nothing_has_none(tags):
    assert [(tag.label, tag.score) for tag in tags.predict("am \u200b um").words][1] == ("", 0.0)


def test_long_lists_run_in_parts_and_stay_in_order(kinds, tags, monkeypatch):
    expected = [kinds.predict(text).label for text in TEXTS], [tags.predict(text).words for text in TEXTS]
    monkeypatch.setattr(texts, "LARGEST_BATCH", 2)
    assert [result.label for result in kinds.predict(TEXTS)] == expected[0]
    found = [result.words for result in tags.predict(TEXTS)]
    for one, other in zip(found, expected[1], strict=True):
        assert [(tag.word, tag.label) for tag in one] == [(tag.word, tag.label) for tag in other]
    assert kinds.predict([]) == tags.predict(()) == []


def test_what_the_model_did_not_see_is_noted(kinds, tags):
    for model in (kinds, tags):
        assert model.predict("am").notes == ()
        assert "notes" not in msgspec.to_builtins(model.predict("am"))
        assert "1 of 2 tokens unknown to the vocabulary: 'Xyz'" in model.predict("am Xyz").notes


@pytest.mark.parametrize("bad", ["", "  ", None, 3, b"\xff", "um " * 30, ["am", ""], ["am", None]])
def test_what_is_no_text_is_refused_before_anything_runs(kinds, bad, monkeypatch):
    monkeypatch.setattr(kinds.session, "run", None)
    with pytest.raises(PreprocessError) as caught:
        kinds.predict(bad)
    assert "\n" not in str(caught.value)


def test_a_model_that_writes_nothing_says_so(kinds):
    for call in (
        lambda: kinds.predict("am", beams=2),
        lambda: kinds.stream("am"),
        lambda: kinds.generate({}, max_length=3),
    ):
        with pytest.raises(InputError, match="writes text for .*found one for text-classification"):
            call()


def test_arrays_are_checked(kinds):
    ids = np.array([[4, 1]])
    assert kinds.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"].shape == (1, 3)
    with pytest.raises(InputError, match="input_ids from 0 to 27, found 28"):
        kinds.run({"input_ids": ids + 24, "attention_mask": np.ones_like(ids)})
    with pytest.raises(InputError, match="a row of padding"):
        kinds.run({"input_ids": ids, "attention_mask": np.zeros_like(ids)})
