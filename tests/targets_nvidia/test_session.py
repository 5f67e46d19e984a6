"""Every branch of a session, over a card that only pretends."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgevit.errors import InputError
from edgevit.targets.base import ClosedSession
from edgevit.targets.nvidia.interface import CudaError, OutOfDeviceMemory


def rows(count: int, first: float = 0.0) -> dict[str, np.ndarray]:
    return {"x": (np.arange(3 * count, dtype=np.float32) + np.float32(first)).reshape(count, 3)}


def test_arrays_go_in_and_come_out(open_session) -> None:
    session = open_session()
    for count in (1, 3, 4, 2):
        inputs = rows(count, count)
        found = session.run(inputs)["y"]
        np.testing.assert_array_equal(found, 2 * inputs["x"])
        assert found.flags.owndata and found.dtype == np.float32


def test_an_array_that_is_not_contiguous_is_copied_first(open_session) -> None:
    x = np.asfortranarray(rows(4)["x"])
    np.testing.assert_array_equal(open_session().run({"x": x})["y"], 2 * x)


def test_results_survive_the_next_call(open_session) -> None:
    session = open_session()
    first = session.run(rows(2))["y"]
    copy = first.copy()
    session.run(rows(2, 50))
    np.testing.assert_array_equal(first, copy)


def test_a_batch_beyond_the_profile_is_cut(open_session, cuda) -> None:
    inputs = rows(11)
    np.testing.assert_array_equal(open_session(max_batch=4).run(inputs)["y"], 2 * inputs["x"])
    assert cuda.calls.count("enqueue") + cuda.calls.count("launch") >= 3


def test_a_shape_outside_the_profile_names_the_option(open_session) -> None:
    session = open_session(max_batch=None)
    with pytest.raises(InputError, match=r"within the build's profile, found \(9, 3\).*profile=batch"):
        session.run(rows(9))
    np.testing.assert_array_equal(session.run(rows(2))["y"], 2 * rows(2)["x"])


def test_the_third_run_of_a_shape_is_a_graph(open_session, cuda) -> None:
    session = open_session()
    cuda.calls.clear()
    for start in range(5):
        inputs = rows(2, 10 * start)
        np.testing.assert_array_equal(session.run(inputs)["y"], 2 * inputs["x"])
    assert [call for call in cuda.calls if call != "allocate"] == [
        "enqueue",  # warms up
        "capture",
        "enqueue",
        "launch",
        "launch",
        "launch",
        "launch",
    ]


def test_a_larger_batch_makes_captured_graphs_stale(open_session, cuda) -> None:
    session = open_session()
    for _ in range(3):
        session.run(rows(1))
    assert len(cuda.graphs) == 1
    session.run(rows(4))
    assert cuda.graphs == {}
    np.testing.assert_array_equal(session.run(rows(1, 7))["y"], 2 * rows(1, 7)["x"])


def test_without_capture_every_run_is_enqueued(open_session, cuda, engine) -> None:
    engine.can_capture = False
    session = open_session()
    for _ in range(4):
        session.run(rows(2))
    assert cuda.calls.count("enqueue") == 4
    assert "capture" not in cuda.calls


def test_work_that_is_refused_is_an_error_and_the_session_lives(open_session, engine, cuda) -> None:
    session = open_session()
    session.run(rows(2))
    engine.refuses = True
    with pytest.raises(CudaError, match="refused"):  # while capturing
        session.run(rows(2))
    with pytest.raises(CudaError, match="refused"):
        session.run(rows(3))
    engine.refuses = False
    assert cuda.graphs == {}
    np.testing.assert_array_equal(session.run(rows(2))["y"], 2 * rows(2)["x"])


def test_a_failed_copy_is_an_error_and_the_session_lives(open_session, cuda) -> None:
    session = open_session()
    cuda.fail_at_synchronize = True
    with pytest.raises(CudaError, match="illegal memory access"):
        session.run(rows(2))
    np.testing.assert_array_equal(session.run(rows(2))["y"], 2 * rows(2)["x"])


class OnDevice:
    """An array of somebody else's on the card: DLPack with the address of real memory, called CUDA."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape

    def __len__(self) -> int:
        return len(self.array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        assert stream is not None
        return self.array.__dlpack__()


def test_an_array_on_the_device_is_read_where_it_is(open_session, engine, cuda) -> None:
    array = rows(3)["x"]
    engine.outside[array.ctypes.data] = array.view(np.uint8).reshape(-1)
    session = open_session()
    before = cuda.calls.count("allocate")
    for _ in range(3):
        np.testing.assert_array_equal(session.run({"x": OnDevice(array)})["y"], 2 * array)
    assert cuda.calls.count("allocate") == before + 1, "only the output needs memory of ours"
    assert "capture" not in cuda.calls


def test_a_wrong_dtype_on_the_device_is_named(open_session) -> None:
    array = np.zeros((2, 3), np.float64)
    with pytest.raises(InputError, match="expected float32 for input 'x', found float64"):
        open_session().run({"x": OnDevice(array)})


def test_streams_have_lanes_of_their_own(open_session, engine) -> None:
    session = open_session(streams=3)
    assert engine.contexts == 3
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(20):
                inputs = rows(1 + (seed + step) % 4, 100 * seed + step)
                np.testing.assert_array_equal(session.run(inputs)["y"], 2 * inputs["x"])
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_full_card_is_said_and_frees_what_it_had(cuda, engine, open_session, build) -> None:
    engine.room_for_contexts = 1
    with pytest.raises(OutOfDeviceMemory) as error:
        open_session(streams=2)
    assert error.value.exit_status == 3
    assert (cuda.memory, cuda.streams, engine.closed) == ({}, {}, 1)


def test_a_buffer_that_does_not_fit_is_said_and_smaller_ones_still_run(open_session, cuda) -> None:
    cuda.limit = 60
    session = open_session()
    with pytest.raises(OutOfDeviceMemory):
        session.run(rows(4))
    np.testing.assert_array_equal(session.run(rows(1))["y"], 2 * rows(1)["x"])


def test_after_close_it_raises_and_close_may_be_called_again(open_session, engine) -> None:
    session = open_session()
    session.run(rows(1))
    session.close()
    session.close()
    for _ in range(2):
        with pytest.raises(ClosedSession):
            session.run(rows(1))
    assert engine.closed == 1


def test_execution_names_the_card_and_drops_the_reservation(open_session) -> None:
    execution = open_session().execution()
    assert execution.precision == "int8"
    assert execution.instruction_set == "NVIDIA GeForce RTX 3090"
    assert execution.quantized_executed == 1


def test_captured_graphs_are_bounded(open_session, cuda, engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder's cache has another shape in every step; the oldest graph goes."""
    from edgevit.targets.nvidia import lane

    monkeypatch.setattr(lane, "GRAPHS", 2)
    session = open_session()
    session.run(rows(4))  # the largest first: no buffer grows any more
    for _ in range(3):
        for count in (3, 2, 1):
            np.testing.assert_array_equal(session.run(rows(count))["y"], 2 * rows(count)["x"])
            assert len(cuda.graphs) <= 2
    assert cuda.calls.count("capture") > 2


def test_an_empty_cache_has_a_place_too(cuda) -> None:
    """The past of a decoder before its first token: an array of no numbers."""
    from edgevit.targets.nvidia.lane import Lane
    from edgevit.types import Signature, TensorSpec

    class Sum:
        """y = the number of rows of both inputs."""

        def __init__(self) -> None:
            self.shapes: dict[str, tuple[int, ...]] = {}

        def set_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shapes[name] = shape
            return True

        def shape(self, name: str) -> tuple[int, ...]:
            return (1, self.shapes["past"][1] + self.shapes["new"][1])

        def set_address(self, name: str, pointer: int) -> bool:
            return pointer in cuda.memory

        def enqueue(self, stream: int) -> bool:
            return True

        def capturable(self, stream: int) -> bool:
            return False

    signature = Signature(
        inputs=tuple(TensorSpec(name=name, dtype="float32", shape=(1, name)) for name in ("past", "new")),
        outputs=(TensorSpec(name="y", dtype="float32", shape=(1, "all")),),
    )
    lane = Lane(cuda, Sum(), signature)
    for past in (0, 1, 2):
        found = lane.run({"past": np.zeros((1, past), np.float32), "new": np.ones((1, 1), np.float32)})
        assert found["y"].shape == (1, past + 1)
    lane.close()
    assert (cuda.memory, cuda.pinned, cuda.streams) == ({}, [], {})
