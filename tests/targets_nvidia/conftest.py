"""A card and an engine that only remember what was asked of them: y = 2 x, on numbers that stand for pointers."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import pytest

from edgevit.targets.nvidia.interface import CudaError, OutOfDeviceMemory
from edgevit.targets.nvidia.session import NvidiaSession, Opened
from edgevit.types import Build, Engine, ExecutedLayer, Execution, Machine, Signature, TensorSpec

MACHINE = Machine(
    cpu="x", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="Linux", python="3.11"
)


@dataclass
class FakeCuda:
    """Device memory is a dictionary of byte arrays; work happens when a stream is synchronized, as on a card."""

    limit: int = 1 << 30
    memory: dict[int, np.ndarray] = field(default_factory=dict)
    pinned: list[np.ndarray] = field(default_factory=list)
    streams: dict[int, list[Any]] = field(default_factory=dict)
    graphs: dict[int, list[Any]] = field(default_factory=dict)
    capturing: dict[int, list[Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fail_at_synchronize: bool = False
    _next: int = 1000

    def _new(self) -> int:
        self._next += 1 << 20  # room for addresses inside of what is allocated
        return self._next

    def new_stream(self) -> int:
        stream = self._new()
        self.streams[stream] = []
        return stream

    def end_stream(self, stream: int) -> None:
        del self.streams[stream]

    def allocate(self, size: int) -> int:
        if size + sum(part.nbytes for part in self.memory.values()) > self.limit:
            raise OutOfDeviceMemory(f"expected room on the GPU for {size} bytes, found none")
        pointer = self._new()
        self.memory[pointer] = np.zeros(max(1, size), np.uint8)  # as cudaMalloc is asked to
        self.calls.append("allocate")
        return pointer

    def free(self, pointer: int) -> None:
        del self.memory[pointer]

    def allocate_pinned(self, size: int) -> np.ndarray:
        memory = np.zeros(size, np.uint8)
        self.pinned.append(memory)
        return memory

    def free_pinned(self, memory: np.ndarray) -> None:
        self.pinned = [other for other in self.pinned if other is not memory]

    def work(self, stream: int, task: Any) -> None:
        (self.capturing[stream] if stream in self.capturing else self.streams[stream]).append(task)

    def to_device(self, pointer: int, memory: np.ndarray, size: int, stream: int) -> None:
        def copy() -> None:
            self.memory[pointer][:size] = memory[:size]

        self.work(stream, copy)

    def to_host(self, memory: np.ndarray, pointer: int, size: int, stream: int) -> None:
        def copy() -> None:
            memory[:size] = self.memory[pointer][:size]

        self.work(stream, copy)

    def on_device(self, target: int, source: int, size: int, stream: int) -> None:
        def copy() -> None:
            self.at(target)[:size] = self.at(source)[:size]

        self.calls.append("on device")
        self.work(stream, copy)

    def at(self, address: int) -> np.ndarray:
        """The memory from this address on."""
        start = max(pointer for pointer in self.memory if pointer <= address)
        assert address - start < len(self.memory[start]), "an address outside of what is allocated"
        return self.memory[start][address - start :]

    def synchronize(self, stream: int) -> None:
        if self.fail_at_synchronize:
            self.fail_at_synchronize = False
            raise CudaError("expected cudaStreamSynchronize to succeed, CUDA answers: an illegal memory access (700)")
        tasks, self.streams[stream] = self.streams[stream], []
        for task in tasks:
            task()

    def begin_capture(self, stream: int) -> None:
        self.calls.append("capture")
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        graph = self._new()
        self.graphs[graph] = self.capturing.pop(stream)
        return graph

    def launch(self, graph: int, stream: int) -> None:
        self.calls.append("launch")
        self.streams[stream].extend(self.graphs[graph])

    def end_graph(self, graph: int) -> None:
        del self.graphs[graph]


@dataclass
class FakeContext:
    engine: FakeEngine
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    addresses: dict[str, int] = field(default_factory=dict)

    def set_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if not 1 <= shape[0] <= self.engine.largest:
            return False
        self.shapes[name] = shape
        return True

    def shape(self, name: str) -> tuple[int, ...]:
        return self.shapes["x"]

    def set_address(self, name: str, pointer: int) -> bool:
        self.addresses[name] = pointer
        return True

    def enqueue(self, stream: int) -> bool:
        self.engine.cuda.calls.append("enqueue")
        if self.engine.refuses:
            return False
        size, places = 4 * prod(self.shapes["x"]), dict(self.addresses)

        def double() -> None:
            memory = self.engine.cuda.memory
            source = memory[places["x"]] if places["x"] in memory else self.engine.outside[places["x"]]
            memory[places["y"]][:size] = (2 * source[:size].view(np.float32)).view(np.uint8)

        self.engine.cuda.work(stream, double)
        return True

    def capturable(self, stream: int) -> bool:
        return self.engine.can_capture


@dataclass
class FakeEngine:
    cuda: FakeCuda
    largest: int = 4
    refuses: bool = False
    can_capture: bool = True
    contexts: int = 0
    room_for_contexts: int = 8
    closed: int = 0
    outside: dict[int, np.ndarray] = field(default_factory=dict)
    """Device memory that somebody else has allocated, by address."""

    def new_context(self) -> FakeContext:
        if self.contexts >= self.room_for_contexts:
            raise OutOfDeviceMemory("expected room on the GPU for an execution context, found: none")
        self.contexts += 1
        return FakeContext(self)

    def close(self) -> None:
        self.closed += 1


def make_build(**changes: Any) -> Build:
    spec = {"dtype": "float32", "shape": ("batch", 3)}
    signature = Signature(inputs=(TensorSpec(name="x", **spec),), outputs=(TensorSpec(name="y", **spec),))
    values: dict[str, Any] = {
        "target": "tensorrt-rtx",
        "precision": "int8",
        "files": (),
        "signature": signature,
        "engine": Engine(name="tensorrt-rtx", version="1.7.1.116"),
        "machine": MACHINE,
        "options": {"profile": "batch:1:1:4", "gpu": "sm86"},
    }
    return Build(**{**values, **changes})


@pytest.fixture
def build() -> Build:
    return make_build()


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def engine(cuda: FakeCuda) -> FakeEngine:
    return FakeEngine(cuda)


@pytest.fixture
def open_session(cuda: FakeCuda, engine: FakeEngine, build: Build):
    """(streams=1, max_batch=4) -> a session over the fakes; what it leaves behind is checked at the end."""
    sessions: list[NvidiaSession] = []

    def make(streams: int = 1, max_batch: int | None = 4) -> NvidiaSession:
        execution = Execution(
            precision="int8 (compiled)",
            provider="compiled, not executed",
            instruction_set="",
            quantized_requested=1,
            quantized_executed=1,
            layers=(ExecutedLayer(name="fc", requested="int8", executed="int8"),),
        )
        card = Engine(name="tensorrt-rtx", version="1.7.1.116", device="NVIDIA GeForce RTX 3090")
        opened = Opened(build=build, engine=card, execution=execution, max_batch=max_batch, streams=streams)
        sessions.append(NvidiaSession(cuda, engine, opened))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()
    if sessions:
        assert (cuda.memory, cuda.pinned, cuda.streams, cuda.graphs) == ({}, [], {}, {}), "something was not freed"
        assert engine.closed == len(sessions)
