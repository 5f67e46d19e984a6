"""What the decoder is calibrated on: exactly the calls that write what the model writes, without any padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevit.pipeline.translators import Graphs, SessionTranslator, TorchTranslator, decoder_calls, whole_signature
from edgevit.types import FloatModel, Generation, TextPreprocess

if TYPE_CHECKING:
    from edgevit.types import Arrays

START, END, PAD = 2, 3, 0
KINDS = ("transformer", "lstm", "gru")


def graphs(sequences: Any, kind: str) -> Graphs:
    return Graphs({part: sequences.onnx(f"{kind}.{part}") for part in ("encoder", "decoder")})


def reference(sequences: Any, kind: str, settings: Generation) -> TorchTranslator:
    whole = sequences_module(kind)
    model = FloatModel(
        name=kind,
        module=whole.module,
        signature=whole.signature,
        task="translation",
        preprocess=TextPreprocess(max_length=24),
        labels=(),
        trained=True,
        generation=settings,
    )
    return TorchTranslator(model, settings)


def sequences_module(kind: str) -> Any:
    from sequences import make_part

    return make_part(kind)


def sources(rows: int, length: int, seed: int = 7) -> Arrays:
    """Sources of one length, as calibration has them."""
    ids = np.random.default_rng(seed).integers(4, 40, (rows, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def ended(translator: Any, inputs: Arrays) -> Generation:
    """Settings under which the texts end at different places: the end is a token that some texts write early."""
    texts = translator(Generation(start_token_id=START, end_token_id=29, pad_token_id=PAD, max_length=9)).generate(
        inputs
    )
    best = max({token for text in texts for token in text}, key=lambda token: len({_place(t, token) for t in texts}))
    return Generation(start_token_id=START, end_token_id=best, pad_token_id=PAD, max_length=9)


def _place(text: tuple[int, ...], token: int) -> int:
    return text.index(token) if token in text else len(text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_graphs_write_what_torch_writes(sequences: Any, kind: str) -> None:
    # Weights that nobody trained may write one text for all sources: the first sources that end at different places.
    for seed in range(7, 40):
        inputs = sources(6, 5, seed)
        inputs["attention_mask"][1, 3:] = 0
        settings = ended(lambda how: reference(sequences, kind, how), inputs)
        expected = reference(sequences, kind, settings).generate(inputs)
        if len({len(text) for text in expected}) > 1:
            break
    assert len({len(text) for text in expected}) > 1
    with graphs(sequences, kind) as opened:
        assert SessionTranslator(opened.session, settings).generate(inputs) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_every_written_token_is_in_one_call_and_no_padding_in_any(sequences: Any, kind: str) -> None:
    inputs = sources(6, 5)
    with graphs(sequences, kind) as opened:
        settings = ended(lambda how: SessionTranslator(opened.session, how), inputs)
        texts = SessionTranslator(opened.session, settings).generate(inputs)
        calls = list(decoder_calls(opened.session, inputs, settings))
        read = sorted(token for call in calls for token in call["input_ids"].ravel().tolist())
        assert read == sorted(token for text in texts for token in (START, *text[:-1]))
        shortest = min(map(len, texts))
        assert calls[0]["input_ids"].shape == (6, shortest)
        assert all(call["input_ids"].shape[1] == 1 for call in calls[1:])
        assert [len(call["input_ids"]) for call in calls[1:]] == [
            sum(len(text) > place for text in texts) for place in range(shortest, max(map(len, texts)))
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_calls_give_the_logits_of_the_whole(sequences: Any, kind: str) -> None:
    inputs = sources(4, 5)
    with graphs(sequences, kind) as opened:
        settings = ended(lambda how: SessionTranslator(opened.session, how), inputs)
        texts = SessionTranslator(opened.session, settings).generate(inputs)
        rows = [index for index in range(4)]
        width = max(map(len, texts))
        targets = np.full((4, width), PAD)
        for row, text in enumerate(texts):
            targets[row, : len(text)] = (START, *text[:-1])
        whole = opened.session.run({**inputs, "decoder_input_ids": targets})["logits"]
        place = 0
        for call in decoder_calls(opened.session, inputs, settings):
            rows = [row for row in range(4) if len(texts[row]) > place]
            found = opened.session.decoder.run(call)["logits"]
            np.testing.assert_allclose(found, whole[rows, place : place + found.shape[1]], atol=1e-4)
            place += found.shape[1]
        assert place == width


def test_the_whole_has_the_tensors_of_both_parts(sequences: Any) -> None:
    parts = [sequences.onnx(f"lstm.{part}").signature for part in ("encoder", "decoder")]
    found = whole_signature(*parts)
    assert [spec.name for spec in found.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert [spec.name for spec in found.outputs] == ["logits"]
