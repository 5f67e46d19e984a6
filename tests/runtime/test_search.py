"""Greedy and beam search over made-up decoders, against brute force and against the plain algorithm of the zoo."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.runtime.search import Generated, best_continuations, generate, greedy, log_sum_exp
from edgevit.types import Generation

START, END = 0, 1


class Table:
    """A decoder whose logits depend on the source and on every token so far, drawn once from a seed."""

    def __init__(self, vocabulary: int, sources: int, seed: int) -> None:
        self.vocabulary, self.seed = vocabulary, seed
        self.rows: list[tuple[int, tuple[int, ...]]] = [(source, ()) for source in range(sources)]
        self.widths: list[int] = []

    def logits(self, source: int, tokens: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng((self.seed, source, *tokens))
        return (2 * rng.normal(size=self.vocabulary)).astype(np.float32)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        assert tokens.dtype == np.int64
        assert tokens.shape == (len(self.rows),)
        self.rows = [(source, (*before, int(token))) for (source, before), token in zip(self.rows, tokens, strict=True)]
        self.widths.append(len(self.rows))
        return np.stack([self.logits(*row) for row in self.rows])

    def select(self, rows: np.ndarray) -> None:
        self.rows = [self.rows[row] for row in rows]


def settings_of(**fields) -> Generation:
    return Generation(**{"start_token_id": START, "end_token_id": END, "pad_token_id": 0, "max_length": 4, **fields})


def log_probability(table: Table, source: int, ids: tuple[int, ...]) -> float:
    total, before = 0.0, (START,)
    for token in ids:
        logits = table.logits(source, before).astype(np.float64)
        total += float(logits[token] - np.log(np.exp(logits).sum()))
        before = (*before, token)
    return total


def every_sequence(vocabulary: int, longest: int):
    """All that can be written: ended, or as long as may be."""
    for length in range(1, longest + 1):
        for ids in itertools.product(range(vocabulary), repeat=length):
            if END not in ids[:-1] and (ids[-1] == END or length == longest):
                yield ids


# ------------------------------------------------------------------------------------------------ beam search


@given(st.integers(2, 4), st.integers(1, 4), st.floats(0, 2), st.integers(0, 10_000))
def test_with_a_beam_for_everything_the_best_of_all_is_found(vocabulary, longest, penalty, seed):
    settings = settings_of(max_length=longest, beams=vocabulary**longest, length_penalty=penalty)
    table = Table(vocabulary, 2, seed)
    for source, found in enumerate(generate(table, 2, settings)):
        scores = {
            ids: log_probability(table, source, ids) / len(ids) ** penalty
            for ids in every_sequence(vocabulary, longest)
        }
        assert scores[found.ids] == pytest.approx(max(scores.values()), abs=1e-5)
        assert found.score(settings) == pytest.approx(scores[found.ids], abs=1e-5)


def plain_beam_search(table: Table, source: int, settings: Generation) -> tuple[int, ...]:
    """The algorithm as lists, for one source, every sequence scored anew."""
    running, ended = [()], []
    score = {(): 0.0}

    def worth(ids):
        return score[ids] / len(ids) ** settings.length_penalty

    for _ in range(settings.max_length):
        candidates = [(*ids, token) for ids in running for token in range(table.vocabulary)]
        score.update({ids: log_probability(table, source, ids) for ids in candidates})
        candidates = sorted(candidates, key=lambda ids: -score[ids])[: 2 * settings.beams]
        ended += [ids for ids in candidates[: settings.beams] if ids[-1] == END]
        ended = sorted(ended, key=worth, reverse=True)[: settings.beams]
        running = [ids for ids in candidates if ids[-1] != END][: settings.beams]
        if not running:
            break
        if len(ended) == settings.beams and (settings.early_stopping or worth(ended[-1]) >= worth(running[0])):
            running = []
            break
    return max(ended + running, key=worth)


@given(
    st.integers(2, 7),
    st.integers(2, 5),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.6, 1.0, 2.0, -1.0]),
    st.booleans(),
    st.integers(0, 10_000),
)
def test_it_is_the_plain_algorithm(vocabulary, beams, longest, penalty, early, seed):
    settings = settings_of(max_length=longest, beams=beams, length_penalty=penalty, early_stopping=early)
    table = Table(vocabulary, 3, seed)
    found = generate(table, 3, settings)
    assert [row.ids for row in found] == [plain_beam_search(table, source, settings) for source in range(3)]
    for source, row in enumerate(found):
        assert row.log_probability == pytest.approx(log_probability(table, source, row.ids), abs=1e-4)


@given(st.integers(1, 4), st.integers(0, 10_000))
def test_neighbours_change_nothing(beams, seed):
    settings = settings_of(max_length=8, beams=beams)
    together = generate(Table(6, 5, seed), 5, settings)

    class Only(Table):
        def __init__(self, source):
            super().__init__(6, 1, seed)
            self.rows = [(source, ())]

    assert together == [generate(Only(source), 1, settings)[0] for source in range(5)]


def test_what_has_ended_costs_no_more_steps():
    for beams in (1, 3):
        table = Table(6, 8, 3)
        found = generate(table, 8, settings_of(max_length=20, beams=beams))
        assert table.widths[0] == 8
        assert table.widths == sorted(table.widths, reverse=True) or beams > 1
        assert max(table.widths) <= 8 * beams
        assert table.widths[-1] < 8
        assert len(table.widths) == max(len(row.ids) for row in found) or beams > 1


def test_a_longer_sequence_is_worth_more_with_a_penalty():
    row = Generated((4, 5, END), -6.0)
    assert row.score(settings_of(length_penalty=1.0)) == -2.0
    assert row.score(settings_of(length_penalty=0.0)) == -6.0
    assert row.score(settings_of(length_penalty=2.0)) == pytest.approx(-6 / 9)


# -------------------------------------------------------------------------------------------- greedy search


@given(st.integers(2, 9), st.integers(1, 5), st.integers(1, 9), st.integers(0, 10_000))
def test_greedy_takes_the_likeliest_each_time(vocabulary, sources, longest, seed):
    table = Table(vocabulary, sources, seed)
    for source, row in enumerate(generate(table, sources, settings_of(max_length=longest))):
        ids: tuple[int, ...] = ()
        while len(ids) < longest and END not in ids:
            ids = (*ids, int(table.logits(source, (START, *ids)).argmax()))
        assert row.ids == ids
        assert row.log_probability == pytest.approx(log_probability(table, source, ids), abs=1e-4)


def test_among_equals_the_lowest_id_wins():
    class Flat(Table):
        def logits(self, source, tokens):
            return np.array([0, -9, 1, 1, 1], np.float32)

    assert generate(Flat(5, 1, 0), 1, settings_of(max_length=3))[0].ids == (2, 2, 2)
    assert generate(Flat(5, 1, 0), 1, settings_of(max_length=2, beams=2))[0].ids == (2, 2)


def test_greedy_gives_its_tokens_as_they_come():
    table = Table(6, 4, 2)
    steps = greedy(table, 4, settings_of(max_length=6))
    first = next(steps)
    assert len(table.widths) == 1
    assert first.sources.tolist() == [0, 1, 2, 3]
    assert all(written.sources.size == written.tokens.size for written in steps)


# ------------------------------------------------------------------------------------------------- numbers


def test_log_probabilities_stand_large_logits():
    logits = np.array([[1e4, 0, -1e4], [88, 89, 90]], np.float32)
    expected = [1e4, 90 + math.log(1 + math.exp(-1) + math.exp(-2))]
    assert log_sum_exp(logits) == pytest.approx(expected)
    scratch = np.empty_like(logits)
    assert log_sum_exp(logits, logits.max(axis=1), scratch) == pytest.approx(expected)
    low = np.array([[-200.0, -201.0, -300.0]], np.float32)
    assert log_sum_exp(low) == pytest.approx([-200 + math.log(1 + math.exp(-1))])
    values, choices = best_continuations(logits, 2)
    assert sorted(choices[1].tolist()) == [1, 2]
    assert values[0].max() == 0


@given(st.integers(1, 400), st.floats(-58, 58), st.floats(0, 40), st.integers(0, 10_000))
def test_log_sum_exp_is_that_of_exact_arithmetic(vocabulary, middle, spread, seed):
    logits = (middle + spread * np.random.default_rng(seed).normal(size=(2, vocabulary))).astype(np.float32)
    exact = logits.astype(np.float64)
    highest = exact.max(axis=1)
    expected = highest + np.log(np.exp(exact - highest[:, None]).sum(axis=1))
    assert log_sum_exp(logits) == pytest.approx(expected, abs=2e-5, rel=1e-6)


@given(st.integers(1, 300) | st.integers(300, 2000), st.integers(1, 8), st.integers(0, 10_000))
def test_the_best_continuations_are_the_best(vocabulary, count, seed):
    logits = np.random.default_rng(seed).normal(size=(3, vocabulary)).astype(np.float32)
    values, choices = best_continuations(logits, count)
    for row in range(3):
        order = np.argsort(-logits[row])[:count]
        assert sorted(choices[row].tolist()) == sorted(order.tolist())
        expected = logits[row, choices[row]] - np.log(np.exp(logits[row].astype(np.float64)).sum())
        assert values[row] == pytest.approx(expected, abs=1e-5)
