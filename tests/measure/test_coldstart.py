from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.errors import MeasureError
from edgevit.measure import protocol
from edgevit.measure.coldstart import ColdStartOptions, measure_cold_start

MakeOpening = Callable[..., protocol.Opening]


def test_a_cache_is_used_on_the_second_start_only(make_opening: MakeOpening, tmp_path: Path) -> None:
    # Compiling takes 1 s without the cache and nothing with it: far more than a start differs from another.
    cold = measure_cold_start(make_opening(caches=1.0), ColdStartOptions(repeats=1, batch_size=2))
    assert len(cold.samples_ms) == len(cold.cached_samples_ms) == 1
    assert cold.cached_ms is not None
    assert 0 < cold.cached_ms < cold.first_ms
    assert cold.first_ms > 1000
    log = (tmp_path / "calls.log").read_text().splitlines()
    assert log == ["fake-float32 2 0.000000", "fake-float32 closed"] * 3  # one uncounted, one empty, one warm


def test_an_engine_without_a_cache_has_no_cached_figure(make_opening: MakeOpening) -> None:
    cold = measure_cold_start(make_opening(), ColdStartOptions(repeats=2))
    assert cold.cached_ms is None
    assert cold.cached_samples_ms == ()
    assert cold.first_ms == statistics.median(cold.samples_ms)


def test_a_start_that_fails_says_why(make_opening: MakeOpening) -> None:
    with pytest.raises(MeasureError, match="expected a GPU"):
        measure_cold_start(make_opening(unavailable=True), ColdStartOptions(repeats=1))
