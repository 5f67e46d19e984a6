"""Models that write: token for token what PyTorch writes without a cache, in every engine, batch and beam."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.preprocess import open_tokenizer, texts_batch
from edgevit.runtime import Translation, load
from edgevit.runtime.loop import ArrayLoop, Decoding
from edgevit.runtime.parts import PartsSession
from edgevit.targets.base import ClosedSession
from edgevit.targets.openvino_loop import OpenvinoLoop
from tests.text_models import GENERATION, TEXTS

ARCHITECTURES = ("transformer", "lstm", "gru")
ENGINES = ("openvino", "onnxruntime")


@pytest.fixture(scope="module")
def opened(text_bundle):
    models = {}

    def model(name, engine="openvino"):
        if (name, engine) not in models:
            models[name, engine] = load(text_bundle(name), engine, threads=1)
        return models[name, engine]

    yield model
    for one in models.values():
        one.close()


@pytest.fixture(scope="module")
def batch(tokenizer_file, opened):
    return texts_batch(TEXTS, opened("transformer")._texts, open_tokenizer(tokenizer_file))


def reference(module, batch, **changes):
    """What PyTorch writes, the whole model run again for every token."""
    import torch

    from edgevit.zoo.generate import generate

    settings = msgspec.structs.replace(GENERATION, **changes)
    ids, mask = (torch.from_numpy(array) for array in batch.values())
    return generate(module, ids, mask, settings)


def wordiest(model):
    """The text for which it writes the most words."""
    return max(TEXTS, key=lambda text: len(model.predict(text).text.split()))


def sequences_of(found):
    return [row[:length].tolist() for row, length in zip(found["sequences"], found["lengths"], strict=True)]


# ------------------------------------------------------------------------------------------ against PyTorch


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("changes", [{}, {"beams": 4}, {"beams": 3, "length_penalty": 0.0}, {"max_length": 3}], ids=str)
def test_it_writes_what_pytorch_writes(name, engine, changes, opened, batch, sequence_module):
    expected = reference(sequence_module(name).module, batch, **changes)
    assert len({tuple(row) for row in expected}) > 3, "a model that always writes the same shows nothing"
    assert sequences_of(opened(name, engine).generate(batch, **changes)) == expected


def test_the_models_of_the_tests_end_at_different_lengths(sequence_module, batch):
    for name in ARCHITECTURES:
        lengths = {len(row) for row in reference(sequence_module(name).module, batch)}
        assert len(lengths) > 2
        assert min(lengths) < GENERATION.max_length


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_teacher_forcing_is_the_whole_module(name, engine, opened, batch, sequence_module):
    import torch

    target = np.array([[3, 4, 5, 6, 7]] * len(TEXTS), np.int64)
    inputs = {**batch, "decoder_input_ids": target}
    expected = sequence_module(name).module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
    found = opened(name, engine).run(inputs)
    assert found.keys() == {"logits"}
    assert found["logits"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_with_the_cache_is_the_step_without(engine, opened, batch):
    model = opened("transformer", engine)
    target = np.random.default_rng(0).integers(4, 28, size=(len(TEXTS), 9))
    whole = model.run({**batch, "decoder_input_ids": target})["logits"]
    with Decoding(model.session, *batch.values()) as steps:
        for place in range(9):
            assert steps.step(target[:, place]) == pytest.approx(whole[:, place], abs=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_can_be_left_out_repeated_and_reordered(engine, opened, batch):
    model = opened("transformer", engine)
    target = np.random.default_rng(1).integers(4, 28, size=(len(TEXTS), 6))
    rows = np.array([5, 2, 2, 0])
    whole = model.run({**batch, "decoder_input_ids": target})["logits"]
    with Decoding(model.session, *batch.values()) as steps:
        for place in range(3):
            steps.step(target[:, place])
        steps.select(rows)
        for place in range(3, 6):
            assert steps.step(target[rows, place]) == pytest.approx(whole[rows, place], abs=1e-4)


def test_each_engine_loops_in_its_own_way(opened, batch):
    for engine, kind in (("openvino", OpenvinoLoop), ("onnxruntime", ArrayLoop)):
        with Decoding(opened("transformer", engine).session, *batch.values()) as steps:
            assert type(steps._loop) is kind


def test_what_is_executed_can_be_asked_after_a_loop_whose_arrays_are_gone(opened):
    """OpenVINO's graph remembers where the last request had its inputs; a careless look at it was a crash."""
    session = opened("transformer", "openvino").session
    ids, mask = np.full((3, 7), 5), np.ones((3, 7), np.int64)
    with Decoding(session, ids, mask) as steps:
        for _ in range(12):
            steps.step(np.full(3, 6))
    del ids, mask, steps
    gc.collect()
    assert session.execution().layers


# -------------------------------------------------------------------------------------- edges and neighbours


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_padding_and_neighbours_change_nothing(name, beams, opened, batch):
    model = opened(name)
    together = model.generate(batch, beams=beams)
    for place, row in enumerate(sequences_of(together)):
        length = int(batch["attention_mask"][place].sum())
        alone = model.generate({key: array[place : place + 1, :length] for key, array in batch.items()}, beams=beams)
        assert sequences_of(alone) == [row]
        assert alone["scores"][0] == pytest.approx(together["scores"][place], abs=1e-4)


def test_one_token_in_and_the_most_in_and_out(opened, sequence_module):
    for length in (1, 24):
        ids = np.random.default_rng(length).integers(4, 28, size=(2, length))
        batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for name in ARCHITECTURES:
            assert sequences_of(opened(name).generate(batch)) == reference(sequence_module(name).module, batch)
    found = opened("transformer").generate(batch, max_length=1)
    assert found["sequences"].shape == (2, 1)


def test_results_are_arrays(opened, batch):
    found = opened("transformer").generate(batch)
    assert found.keys() == {"sequences", "lengths", "scores"}
    assert [array.dtype.name for array in found.values()] == ["int64", "int64", "float32"]
    assert found["sequences"].shape == (len(TEXTS), found["lengths"].max())
    assert (found["scores"] < 0).all()
    for row, length in zip(found["sequences"], found["lengths"], strict=True):
        assert (row[length:] == GENERATION.pad_token_id).all()
        assert (row[: length - 1] != GENERATION.end_token_id).all()


# ---------------------------------------------------------------------------------------------------- texts


def test_a_text_becomes_a_translation(opened, batch, tokenizer_file):
    model, tokenizer = opened("transformer"), open_tokenizer(tokenizer_file)
    sequences = sequences_of(model.generate(batch))
    results = model.predict(TEXTS)
    assert [list(result.tokens) for result in results] == sequences
    for text, result in zip(TEXTS, results, strict=True):
        assert isinstance(result, Translation)
        assert result.text == tokenizer.decode([token for token in result.tokens if token != 1])
        assert model.predict(text).tokens == model.predict(text.encode()).tokens == result.tokens
    assert any(result.text for result in results)
    assert model.predict([]) == []


def test_what_is_lost_or_does_not_end_is_noted(opened):
    model = opened("transformer")
    result = model.predict("am 日本 Dienstag", max_length=1)
    assert result.notes[0].startswith("2 of 5 tokens unknown")
    assert result.notes[1:] == (() if result.tokens == (1,) else ("no end within 1 tokens",))
    assert msgspec.to_builtins(Translation("a", (1,), -1.0)) == {"text": "a", "tokens": (1,), "score": -1.0}


def test_options_reach_the_search(opened):
    model = opened("transformer")
    one, four = model.predict(TEXTS), model.predict(TEXTS, beams=4)
    assert [result.tokens for result in one] != [result.tokens for result in four]
    short, long = (model.predict(TEXTS, beams=4, length_penalty=penalty) for penalty in (0.0, 4.0))
    assert sum(len(result.tokens) for result in short) < sum(len(result.tokens) for result in long)
    assert all(len(result.tokens) <= 2 for result in model.predict(TEXTS, max_length=2))
    assert model.generation == GENERATION


def test_long_lists_are_run_in_parts_and_stay_in_order(opened, monkeypatch):
    from edgevit.runtime import texts

    model = opened("gru")
    expected = [model.predict(text).tokens for text in TEXTS]
    monkeypatch.setattr(texts, "LARGEST_BATCH", 3)
    assert [result.tokens for result in model.predict(TEXTS * 3)] == expected * 3


# ------------------------------------------------------------------------------------------------ streaming


@pytest.mark.parametrize("engine", ENGINES)
def test_the_pieces_are_the_text(engine, opened):
    for name in ARCHITECTURES:
        model = opened(name, engine)
        for text in TEXTS:
            pieces = list(model.stream(text))
            assert "".join(pieces) == model.predict(text, beams=1).text
            assert all(pieces)


def test_they_come_as_they_are_written(opened, monkeypatch):
    model = opened("transformer")
    text = wordiest(model)
    steps = []
    step = Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self, tokens: steps.append(1) or step(self, tokens))
    stream = model.stream(text)
    assert steps == [], "nothing is written before it is asked for"
    seen = []
    for _ in stream:
        seen.append(len(steps))
    assert len(seen) > 2
    assert seen == sorted(set(seen)), "one piece after the other"
    assert "".join(model.stream(text, max_length=2)) == model.predict(text, beams=1, max_length=2).text


def test_a_stream_that_is_left_gives_its_requests_back(opened):
    model = opened("transformer")
    text = wordiest(model)
    expected = model.predict(text).text
    for _ in range(3):
        stream = model.stream(text)
        next(stream)
        stream.close()
    assert model.session.decoder._pairs.qsize() >= 1
    before = model.session.decoder._pairs.qsize()
    model.predict(TEXTS)
    assert model.session.decoder._pairs.qsize() == before
    streams = [model.stream(text) for _ in range(3)]
    assert ["".join(pieces) for pieces in zip(*streams, strict=True)]
    assert "".join(model.stream(text)) == expected


def test_a_text_is_checked_before_its_stream_is_read(opened):
    with pytest.raises(InputError, match="at least one word"):
        opened("transformer").stream("")
    with pytest.raises(InputError, match="max_length from 1 to 14"):
        opened("transformer").stream("am", max_length=15)


# ------------------------------------------------------------------------------------------------- sessions


def test_the_parts_are_one_session(opened):
    for engine in ENGINES:
        session = opened("transformer", engine).session
        assert isinstance(session, PartsSession)
        assert session.engine.name == engine
        assert [spec.name for spec in session.signature.inputs] == ["input_ids", "attention_mask", "decoder_input_ids"]
        execution = session.execution()
        own = session.encoder.execution().layers + session.decoder.execution().layers
        assert len(execution.layers) == len(own)
        assert execution.precision == "float32"
        names = [layer.name for layer in execution.layers]
        assert len(names) == len(set(names))


def test_many_threads_share_one_model(text_bundle):
    with load(text_bundle("transformer"), "openvino", threads=2, streams=2) as model:
        expected = [model.predict(text, beams=1 + index % 3).tokens for index, text in enumerate(TEXTS)]

        def work(turn):
            index = turn % len(TEXTS)
            if turn % 2:
                return "".join(model.stream(TEXTS[index])) == model.predict(TEXTS[index], beams=1).text
            return model.predict(TEXTS[index], beams=1 + index % 3).tokens == expected[index]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(80)))


def test_closing_closes_both(text_bundle):
    model = load(text_bundle("gru"))
    stream = model.stream(wordiest(model))
    next(stream)
    encoder, decoder = model.session.encoder, model.session.decoder
    model.close()
    model.close()
    for session in (encoder, decoder):
        with pytest.raises(ClosedSession):
            session.run({})
    with pytest.raises(ClosedSession):
        model.predict(TEXTS[0])


# ------------------------------------------------------------------------------------------------ bad input

IDS = np.array([[4, 5, 6, 1], [9, 1, 0, 0]])
LONG = np.full((2, 25), 4)
INPUTS = {"input_ids": IDS, "attention_mask": (IDS != 0).astype(np.int64), "decoder_input_ids": IDS[:, :2]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beams": 0}, "beams of at least 1, found 0"),
        ({"beams": -2}, "beams of at least 1, found -2"),
        ({"beams": 1.5}, "found 1.5"),
        ({"beams": True}, "found True"),
        ({"max_length": 0}, "max_length from 1 to 14, what the model was exported for, found 0"),
        ({"max_length": -1}, "found -1"),
        ({"max_length": 15}, "found 15"),
        ({"length_penalty": float("nan")}, "length_penalty as a finite number, found nan"),
        ({"length_penalty": "1"}, "found '1'"),
    ],
)
def test_settings_that_make_no_sense(opened, changes, message):
    model = opened("transformer")
    sources = {key: INPUTS[key] for key in ("input_ids", "attention_mask")}
    for call in (lambda: model.predict("am", **changes), lambda: model.generate(sources, **changes)):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_input_ids": None}, "decoder_input_ids"),
        ({"attention_mask": None}, "attention_mask"),
        ({"attention_mask": np.ones((2, 3), np.int64)}, r"attention_mask of shape \(batch, source_length\)"),
        ({"attention_mask": np.ones(2, np.int64)}, r"found \(2,\)"),
        ({"attention_mask": np.ones((2, 4), bool)}, "of int64, found bool"),
        ({"attention_mask": np.array([[1, 1, 1, 1], [0, 1, 1, 1]])}, r"then zeros for padding, found \[0, 1, 1, 1\]"),
        ({"attention_mask": np.array([[1, 1, 1, 1], [1, 2, 0, 0]])}, r"found \[1, 2, 0, 0\]"),
        ({"attention_mask": np.array([[1, 1, 1, 1], [0, 0, 0, 0]])}, "found a row of padding"),
        ({"input_ids": IDS + 24}, "input_ids from 0 to 27, found 33"),
        ({"input_ids": IDS - 1}, "input_ids from 0 to 27, found -1"),
        ({"input_ids": IDS[:, :0]}, "no empty dimension"),
        ({"input_ids": LONG, "attention_mask": np.ones_like(LONG)}, "at most 24 tokens, found 25"),
        ({"decoder_input_ids": np.full((2, 15), 4)}, "decoder_input_ids of at most 14 tokens, found 15"),
        ({"decoder_input_ids": np.full((2, 2), 28)}, "decoder_input_ids from 0 to 27, found 28"),
        ({"decoder_input_ids": np.full((3, 2), 4)}, r"found \(3, 2\)"),
        ({"decoder_input_ids": np.full((2, 0), 4)}, "no empty dimension"),
    ],
)  # fmt: skip
def test_arrays_that_no_text_makes(opened, changes, message):
    inputs = {key: array for key, array in {**INPUTS, **changes}.items() if array is not None}
    model = opened("transformer")
    model.run(INPUTS)
    with pytest.raises(InputError, match=message) as caught:
        model.run(inputs)
    assert "\n" not in str(caught.value)
    if "decoder" not in message:
        sources = {key: inputs[key] for key in inputs if key != "decoder_input_ids"}
        if "decoder_input_ids" not in changes:
            with pytest.raises(InputError, match=message):
                model.generate(sources)


def test_a_target_has_no_place_in_what_generates(opened):
    with pytest.raises(InputError, match=r"\['attention_mask', 'input_ids'\]"):
        opened("transformer").generate(INPUTS)
