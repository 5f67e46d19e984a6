"""Threads: in order, bounded, and an error where it belongs."""

from __future__ import annotations

import os
import threading

import pytest

from edgevit.threads import one_blas_thread, ordered_map, worker_threads


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(ordered_map(lambda item: item * item, range(50), workers, 5)) == [item * item for item in range(50)]


def test_no_more_than_asked_for_is_computed_ahead():
    begun = []
    results = ordered_map(begun.append, range(100), 2, 4)
    next(results)
    assert len(begun) <= 4
    results.close()
    assert len(begun) <= 4, "closing cancels what has not begun"


def test_items_are_worked_on_at_the_same_time():
    meeting = threading.Barrier(2, timeout=10)
    assert sorted(ordered_map(lambda item: meeting.wait(), range(2), 2, 2)) == [0, 1]


def test_an_error_appears_at_its_place():
    results = ordered_map(lambda item: 1 / item, [2, 1, 0, 1], 2, 4)
    assert [next(results), next(results)] == [0.5, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_there_are_no_more_threads_than_cores_to_run_them(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert [worker_threads(most) for most in (1, 2, 8)] == [1, 2, 2]


def test_matrix_products_stay_on_one_thread_and_get_their_threads_back():
    from threadpoolctl import threadpool_info

    def blas_threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    before = blas_threads()
    assert before, "NumPy brings a BLAS whose threads can be limited"
    with pytest.raises(ValueError, match="inside"), one_blas_thread():
        assert set(blas_threads()) == {1}
        raise ValueError("inside")
    assert blas_threads() == before
