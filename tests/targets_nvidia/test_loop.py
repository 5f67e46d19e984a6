"""A decoder's loop on a card that only pretends: the same numbers as over arrays, and what stays where."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import InputError
from edgevit.runtime.loop import ArrayLoop
from edgevit.targets.base import ClosedSession
from edgevit.targets.nvidia.interface import CudaError, OutOfDeviceMemory
from edgevit.targets.nvidia.resident import SMALLEST, Pool
from edgevit.targets.nvidia.session import NvidiaSession, Opened
from edgevit.types import Engine, Execution, Signature, TensorSpec
from tests.targets_nvidia.conftest import FakeCuda, make_build

FED = {"present.0": "past_key_values.0"}
SIGNATURE = Signature(
    inputs=(
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", 1)),
        TensorSpec(name="mask", dtype="int64", shape=("batch", 3)),
        TensorSpec(name="past_key_values.0", dtype="float32", shape=("batch", "past", 2)),
    ),
    outputs=(
        TensorSpec(name="logits", dtype="float32", shape=("batch", 1, 2)),
        TensorSpec(name="present.0", dtype="float32", shape=("batch", "length", 2)),
    ),
)


@dataclass
class Decoder:
    """An engine: the newest cache is the last one and a row of the token; the logits are its sum and the mask's."""

    cuda: FakeCuda
    largest: int = 3
    refuses: bool = False
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)
    read: list[int] = field(default_factory=list)
    """Where each run found its cache."""

    def new_context(self) -> Decoder:
        return self

    def close(self) -> None:
        pass

    def capturable(self, stream: int) -> bool:
        return True

    def set_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return 1 <= shape[0] <= self.largest

    def shape(self, name: str) -> tuple[int, ...]:
        batch, past, width = self.shapes["past_key_values.0"]
        return {"logits": (batch, 1, width), "present.0": (batch, past + 1, width)}[name]

    def set_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    def enqueue(self, stream: int) -> bool:
        if self.refuses:
            return False
        shapes, places = dict(self.shapes), dict(self.addresses)
        self.read.append(places["past_key_values.0"])
        written = {name: self.shape(name) for name in ("logits", "present.0")}

        def bytes_of(name: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return self.cuda.at(places[name])[: prod(shape) * np.dtype(dtype).itemsize]

        def work() -> None:
            def tensor(name: str, dtype: type) -> np.ndarray:
                return bytes_of(name, shapes[name], dtype).view(dtype).reshape(shapes[name])

            past, token = tensor("past_key_values.0", np.float32), tensor("input_ids", np.int64)
            newest = np.concatenate([past, np.stack([token, 2 * token], -1).astype(np.float32)], axis=1)
            logits = newest.sum(1, keepdims=True) + tensor("mask", np.int64).sum(1)[:, None, None].astype(np.float32)
            bytes_of("present.0", written["present.0"], np.float32)[:] = newest.view(np.uint8).reshape(-1)
            bytes_of("logits", written["logits"], np.float32)[:] = logits.view(np.uint8).reshape(-1)

        self.cuda.work(stream, work)
        return True


def make_session(cuda: FakeCuda, engine: Decoder, max_batch: int | None = 3) -> NvidiaSession:
    build = make_build(signature=SIGNATURE)
    execution = Execution(precision="float32", provider="", instruction_set="")
    card = Engine(name="tensorrt-rtx", version="1", device="a card")
    return NvidiaSession(cuda, engine, Opened(build=build, engine=card, execution=execution, max_batch=max_batch))


def start(rows: int, past: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(rows)
    return {
        "mask": generator.integers(0, 9, (rows, 3)),
        "past_key_values.0": generator.integers(0, 9, (rows, past, 2)).astype(np.float32),
    }


def tokens(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    return {"input_ids": np.random.default_rng(seed).integers(0, 50, (rows, 1))}


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, int, list[tuple[list[int], bool]]]:
    """A number of sources, the cache's first length, and before each step the rows to go on with."""
    sources = rows = draw(st.integers(1, 5))
    chosen = []
    for _ in range(draw(st.integers(1, 5))):
        constant = draw(st.booleans())
        # Where the fixed inputs stay, rows of one source change places; which is shown by a test of its own below.
        some = st.lists(st.integers(0, rows - 1), min_size=1, max_size=8)
        rows_after = draw(some) if constant else list(range(rows))
        chosen.append((rows_after, constant))
        rows = len(rows_after)
    return sources, draw(st.integers(0, 2)), chosen


@settings(deadline=None, max_examples=40)
@given(steps())
def test_the_loop_on_the_card_gives_what_arrays_give(drawn) -> None:
    sources, past, chosen = drawn
    cuda = FakeCuda()
    session = make_session(cuda, Decoder(cuda))
    on_card, over_arrays = (
        session.loop(FED, start(sources, past)),
        ArrayLoop(make_session(cuda, Decoder(cuda)), FED, start(sources, past)),
    )
    for number, (rows, constant) in enumerate(chosen):
        for loop in (on_card, over_arrays):
            loop.select(np.array(rows), constant=constant)
        expected = over_arrays.step(tokens(len(rows), number))
        found = on_card.step(tokens(len(rows), number))
        assert found.keys() == expected.keys() == {"logits"}
        np.testing.assert_array_equal(found["logits"], expected["logits"])
    on_card.close()
    session.close()


def test_the_cache_may_be_chosen_while_the_fixed_inputs_stay() -> None:
    cuda = FakeCuda()
    session = make_session(cuda, Decoder(cuda), max_batch=2)
    given_ = {**start(3, 1), "mask": np.ones((3, 3), np.int64)}
    with_arrays, on_card = ArrayLoop(make_session(cuda, Decoder(cuda)), FED, given_), session.loop(FED, given_)
    for loop in (with_arrays, on_card):
        loop.step(tokens(3))
        loop.select(np.array([2, 0, 0]), constant=False)
    np.testing.assert_array_equal(on_card.step(tokens(3, 1))["logits"], with_arrays.step(tokens(3, 1))["logits"])
    on_card.close()
    session.close()


def test_only_tokens_go_in_and_logits_come_out(cuda) -> None:
    engine = Decoder(cuda)
    session = make_session(cuda, engine)
    copied: list[tuple[str, int]] = []
    loop = session.loop(FED, start(2))
    to_device, to_host = cuda.to_device, cuda.to_host
    cuda.to_device = lambda pointer, memory, size, stream: (
        copied.append(("in", size)),
        to_device(pointer, memory, size, stream),
    )
    cuda.to_host = lambda memory, pointer, size, stream: (
        copied.append(("out", size)),
        to_host(memory, pointer, size, stream),
    )
    for number in range(40):
        loop.step(tokens(2, number))
    assert copied == [("in", 2 * 8), ("out", 2 * 2 * 4)] * 40, "the cache and the mask are on the card already"
    assert "capture" not in cuda.calls, "addresses change from step to step"
    assert len(set(engine.read)) == 6, "two of each size that the cache grows through, used in turn"
    loop.close()
    session.close()
    assert cuda.memory == {} and cuda.pinned == []


def test_a_closed_loop_gives_its_lane_back(cuda) -> None:
    session = make_session(cuda, Decoder(cuda))
    loop = session.loop(FED, start(1))
    loop.close()
    loop.close()
    with pytest.raises(ClosedSession, match="found a loop already closed"):
        loop.step(tokens(1))
    assert session.run({**start(1), **tokens(1)})["logits"].shape == (1, 1, 2)
    session.close()
    with pytest.raises(ClosedSession, match="already closed"):
        session.loop(FED, start(1))
    assert cuda.memory == {}


def test_a_step_that_fails_loses_no_memory_and_the_session_lives(cuda) -> None:
    engine = Decoder(cuda)
    session = make_session(cuda, engine)
    loop = session.loop(FED, start(2))
    loop.step(tokens(2))
    engine.refuses = True
    with pytest.raises(CudaError, match="refused"):
        loop.step(tokens(2))
    engine.refuses = False
    loop.close()
    assert session.run({**start(2), **tokens(2)})["logits"].shape == (2, 1, 2)
    session.close()
    assert cuda.memory == {}


def test_a_card_that_is_full_is_an_error_in_whatever_needs_room(cuda) -> None:
    session = make_session(cuda, Decoder(cuda))
    cuda.limit = SMALLEST
    with pytest.raises(OutOfDeviceMemory):  # the second of two inputs
        session.loop(FED, start(2))
    cuda.limit = 1 << 30
    loop = session.loop(FED, start(2, 4))
    cuda.limit = sum(memory.nbytes for memory in cuda.memory.values())
    with pytest.raises(OutOfDeviceMemory):
        loop.select(np.zeros(9, np.int64), constant=True)
    cuda.limit = 1 << 30
    assert loop.step(tokens(2))["logits"].shape == (2, 1, 2), "what it had is as it was"
    loop.close()
    session.close()
    assert cuda.memory == {}


def test_a_cache_beyond_the_profile_names_the_option(cuda) -> None:
    session = make_session(cuda, Decoder(cuda, largest=2), max_batch=None)
    loop = session.loop(FED, start(3))
    with pytest.raises(InputError, match=r"within the build's profile, found \(3, "):
        loop.step(tokens(3))
    loop.close()
    session.close()
    assert cuda.memory == {}


def test_the_pool_uses_memory_again_and_an_empty_tensor_has_an_address(cuda) -> None:
    pool = Pool(cuda)
    empty = pool.take((2, 0, 4), "float32")
    assert empty.pointer and empty.size == 0
    first = pool.take((5, 30), "float32")
    assert (first.size, first.row) == (600, 120)
    pool.give(first)
    assert pool.take((256,), "float32").pointer == first.pointer, "1024 bytes hold both"
    assert pool.take((256,), "float32").pointer != first.pointer
    pool.close()
    assert cuda.memory == {}
