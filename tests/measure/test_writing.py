"""A decoding loop under the clock, in its own process, and the figures that come of it."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest

from edgevit.bundle import open_bundle
from edgevit.errors import InputError
from edgevit.measure import BenchOptions, protocol
from edgevit.measure.bench import bench, subjects_of, texts_of
from edgevit.measure.inputs import random_inputs, zero_inputs
from edgevit.measure.memory import resident_memory
from edgevit.measure.writing import (
    GREEDY,
    REREADING,
    Loop,
    Rereading,
    generation_times,
    sizes_while_writing,
    time_tokens,
)
from edgevit.runtime.selection import open_build
from edgevit.types import BenchReport, Generation, Signature, TensorSpec

QUICK = BenchOptions(
    threads=(1,), streams=1, seconds=0.2, rounds=2, cold_starts=0, warmup_seconds=0.0, timeout=60, tokens=6,
    source_length=5, beams=(1, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def writer(text_bundle):
    session = open_build(text_bundle("transformer"), "onnxruntime-float32")
    yield session
    session.close()


@pytest.fixture(scope="module")
def inputs(writer):
    sizes = {"source_length": 5, "target_length": 6}
    ids = {"input_ids": 28, "decoder_input_ids": 28}
    return random_inputs(writer.signature, 2, 0, sizes, ids)


def test_every_token_of_every_run_is_timed(writer, inputs):
    ticks = itertools.count(step=10)
    command = protocol.Write(seconds=2e-7, beams=1, tokens=6, start_token_id=3)
    runs = time_tokens(writer, inputs, command, lambda: next(ticks))
    assert len(runs) > 1
    assert runs == [[10] * 6] * len(runs)


def test_a_beam_search_is_timed_as_a_whole(writer, inputs):
    ticks = itertools.count(step=10)
    command = protocol.Write(seconds=1e-7, beams=3, tokens=6, start_token_id=3, settle_calls=2)
    runs = time_tokens(writer, inputs, command, lambda: next(ticks))
    assert runs == [[10]] * len(runs)


def test_without_its_cache_the_decoder_reads_all_tokens_again(writer, inputs, monkeypatch):
    read = []
    run = writer.decoder.run
    monkeypatch.setattr(writer.decoder, "run", lambda given: read.append(given["input_ids"].shape) or run(given))
    ticks = itertools.count(step=10)
    command = protocol.Write(seconds=0, beams=1, tokens=6, start_token_id=3, cache=False)
    assert time_tokens(writer, inputs, command, lambda: next(ticks)) == [[10]]
    assert read == [(2, length) for length in range(1, 7)]


def test_both_loops_write_the_same(writer, inputs):
    from edgevit.runtime.loop import Decoding
    from edgevit.runtime.search import generate

    settings = Generation(start_token_id=3, end_token_id=1, pad_token_id=0, max_length=12)
    given = (writer, inputs["input_ids"], inputs["attention_mask"])
    with Decoding(*given) as steps:
        expected = [row.ids for row in generate(steps, 2, settings)]
    assert [row.ids for row in generate(Rereading(*given), 2, settings)] == expected


def test_no_end_is_listened_to(writer, inputs, monkeypatch):
    from edgevit.runtime.loop import Decoding

    widths = []
    step = Decoding.step
    monkeypatch.setattr(Decoding, "step", lambda self, tokens: widths.append(len(tokens)) or step(self, tokens))
    for beams in (1, 3):
        widths.clear()
        time_tokens(writer, inputs, protocol.Write(seconds=0, beams=beams, tokens=14, start_token_id=3))
        assert widths == [2] + [2 * beams] * 13


def test_the_process_is_weighed_on_the_way(writer, inputs):
    sizes = sizes_while_writing(writer, inputs, protocol.WriteOnce(tokens=6, start_token_id=3))
    assert list(sizes) == [1, 2, 4, 6]
    assert all(size > 10_000_000 for size in sizes.values())
    assert abs(resident_memory() - sizes[6]) < sizes[6]


def test_what_writes_nothing_is_said(text_bundle, inputs):
    session = open_build(text_bundle("kinds"), "onnxruntime-float32")
    with pytest.raises(InputError, match="an encoder and a decoder, found one graph"):
        time_tokens(session, inputs, protocol.Write(seconds=0, beams=1, tokens=6, start_token_id=3))
    session.close()


def test_figures_are_those_of_the_raw_times():
    by_token = [[(5_000_000, 1_000_000, 3_000_000)], [(7_000_000, 1_000_000, 5_000_000)] * 2]
    rounds = {GREEDY: by_token, Loop(4): [[(30_000_000,)], [(10_000_000,)]], REREADING: [[(60_000_000,)]]}
    found = generation_times(rounds, {1: 10, 3: 12}, 2, 5)
    assert (found.source_length, found.tokens) == (5, 3)
    assert found.first_token.samples == (5.0, 7.0, 7.0)
    assert found.first_token.round_sizes == (1, 2)
    assert found.next_token.samples == (1.0, 3.0, 1.0, 5.0, 1.0, 5.0)
    assert found.by_place == (7.0, 1.0, 5.0)
    assert [rate.beams for rate in found.rates] == [1, 4]
    assert found.rates[0].tokens_per_second == pytest.approx(2 * 3 * 3 / 0.035)
    assert found.rates[1].tokens_per_second == pytest.approx(2 * 3 * 2 / 0.040)
    assert found.without_cache == pytest.approx(2 * 3 / 0.060)
    assert [(at.tokens, at.resident_bytes) for at in found.memory] == [(1, 10), (3, 12)]
    assert generation_times({GREEDY: by_token}, {1: 10}, 2, 5).without_cache is None


# --------------------------------------------------------------------------------------------------- bench


def test_builds_that_write_are_measured_writing(text_bundle):
    steps: list[tuple[int, int, str]] = []
    report = bench(text_bundle("transformer"), QUICK, lambda *step: steps.append(step))
    assert report.not_executed == {}
    assert [step[0] for step in steps] == list(range(1, steps[0][1] + 1))
    assert [entry.name for entry in report.entries] == ["openvino-float32", "onnxruntime-float32"]
    for entry in report.entries:
        times = entry.generation
        assert times is not None
        assert (times.source_length, times.tokens, len(times.by_place)) == (5, 6, 6)
        assert [rate.beams for rate in times.rates] == [1, 3]
        assert min(rate.tokens_per_second for rate in times.rates) > 0
        assert times.next_token.calls == 5 * times.first_token.calls
        assert len(times.first_token.round_sizes) == 2
        assert [at.tokens for at in times.memory] == [1, 2, 4, 6]
        assert math.isfinite(entry.latency.p50)
    again = msgspec.json.decode(msgspec.json.encode(report), type=BenchReport)
    assert again == report


def test_writing_without_the_cache_is_measured_where_it_is_asked_for(text_bundle):
    for asked in (True, False):
        options = msgspec.structs.replace(QUICK, without_cache=asked, rounds=1, targets=("onnxruntime",))
        (entry,) = bench(text_bundle("gru"), options).entries
        assert entry.generation is not None
        assert (entry.generation.without_cache is not None) == asked
        assert [rate.beams for rate in entry.generation.rates] == [1, 3]


def test_lengths_are_at_most_the_models(text_bundle):
    texts = texts_of(open_bundle(text_bundle("gru")))
    assert texts is not None
    assert texts.vocabulary == {"input_ids": 28, "decoder_input_ids": 28}
    assert (texts.source_length(BenchOptions()), texts.tokens(BenchOptions())) == (16, 14)
    assert (texts.source_length(BenchOptions(source_length=24)), texts.tokens(BenchOptions(tokens=3))) == (24, 3)
    assert [subject.texts for subject in subjects_of(open_bundle(text_bundle("gru")))] == [texts, texts]


def test_models_that_only_read_are_measured_reading(text_bundle):
    for name in ("kinds", "tags"):
        only_read = msgspec.structs.replace(QUICK, cold_starts=1, rounds=1, tokens=None, beams=())
        report = bench(text_bundle(name), only_read)
        assert report.not_executed == {}
        assert all(entry.generation is None and entry.cold_start for entry in report.entries)


@pytest.mark.parametrize(
    "wrong",
    [{"tokens": 1}, {"tokens": -4}, {"tokens": 15}, {"source_length": 0}, {"source_length": 25}, {"beams": (1, 0)}],
)
def test_options_that_make_no_sense(text_bundle, wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        bench(text_bundle("gru"), msgspec.structs.replace(QUICK, **wrong))


@pytest.mark.parametrize("wrong", [{"tokens": 5}, {"beams": (1,)}, {"without_cache": True}])
def test_what_writes_nothing_is_not_asked_for_tokens(text_bundle, wrong):
    options = msgspec.structs.replace(QUICK, **{"tokens": None, "beams": (), **wrong})
    with pytest.raises(InputError, match=f"a model that writes text for {next(iter(wrong))}"):
        bench(text_bundle("kinds"), options)


# -------------------------------------------------------------------------------------------------- inputs


def test_ids_are_ids_and_masks_are_ones():
    ids = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "source_length"))
    mask = TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "source_length"))
    signature = Signature(inputs=(ids, mask), outputs=())
    made = random_inputs(signature, 4, 0, {"source_length": 50}, {"input_ids": 9})
    assert sorted(set(made["input_ids"].ravel().tolist())) == list(range(9))
    assert (made["attention_mask"] == 1).all()
    assert set(random_inputs(signature, 4, 0, {"source_length": 50})["input_ids"].ravel().tolist()) == {0, 1}
    zeros = zero_inputs(signature, 1, {"source_length": 3})
    assert (zeros["input_ids"].tolist(), zeros["attention_mask"].tolist()) == ([[0, 0, 0]], [[1, 1, 1]])
    assert {array.dtype for array in made.values()} == {np.dtype(np.int64)}
