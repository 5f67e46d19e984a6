"""An engine executed on a card: as many lanes as streams, batches beyond the profile cut into parts."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.targets.base import ClosedSession
from edgevit.targets.nvidia.dlpack import on_device
from edgevit.targets.nvidia.lane import Lane
from edgevit.targets.nvidia.loop import NvidiaLoop
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.targets.nvidia.interface import Cuda, LoadedEngine
    from edgevit.types import Arrays, Build, Signature


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What a session runs and what it says about itself."""

    build: Build
    engine: Engine
    execution: Execution
    """The table of layers from the builder's log."""
    max_batch: int | None = None
    """The largest batch of the profile; None for a static model."""
    streams: int = 1


class NvidiaSession:
    """`run` is thread-safe; at most `streams` calls execute at the same time, others wait."""

    def __init__(self, cuda: Cuda, engine: LoadedEngine, opened: Opened) -> None:
        self.signature: Signature = opened.build.signature
        self.engine = opened.engine
        self._opened = opened
        self._loaded = engine
        self._lanes: queue.LifoQueue[Lane | None] = queue.LifoQueue()
        self._count = 0
        self._closing = threading.Lock()
        self._closed = False
        try:
            for _ in range(max(1, opened.streams)):
                self._lanes.put(Lane(cuda, engine.new_context(), self.signature))
                self._count += 1
        except Exception:
            self.close()
            raise

    def run(self, inputs: Arrays) -> Arrays:
        """Named arrays in, NumPy arrays out. An input on the device (DLPack) is read where it is."""
        lane = self._lane()
        try:
            parts = [lane.run(part) for part in _parts(inputs, self._opened.max_batch)]
        finally:
            self._lanes.put(lane)
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def loop(self, fed: dict[str, str], inputs: Arrays) -> NvidiaLoop:
        """Runs again and again, what is fed back never leaving the card; see `targets.base.Loop`.

        It has one of the `streams` to itself until it is closed.
        """
        lane = self._lane()
        try:
            return NvidiaLoop(lane, fed, inputs, self._opened.max_batch, self._lanes.put)
        except BaseException:
            self._lanes.put(lane)
            raise

    def _lane(self) -> Lane:
        """Waits for one that is free."""
        lane = self._lanes.get()
        if lane is None:
            self._lanes.put(None)  # for whoever else is waiting
            raise ClosedSession(self._opened.build.name)
        return lane

    def execution(self) -> Execution:
        """The compiled layers, on the card that has executed them."""
        execution = self._opened.execution
        return msgspec.structs.replace(
            execution,
            precision=execution.precision.partition(" ")[0],
            provider=f"{self.engine.name} {self.engine.version}",
            instruction_set=self.engine.device,
        )

    def close(self) -> None:
        """Waits for the calls that are running; those still waiting for a lane raise."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            for _ in range(self._count):
                lane = self._lanes.get()
                if lane is not None:
                    lane.close()
            self._lanes.put(None)
            self._loaded.close()


def _parts(inputs: Arrays, largest: int | None) -> Iterator[Arrays]:
    """Batches of at most `largest` rows; arrays on the device are not cut."""
    count = len(next(iter(inputs.values())))
    if largest is None or count <= largest or any(on_device(array) for array in inputs.values()):
        yield inputs
        return
    for start in range(0, count, largest):
        yield {name: array[start : start + largest] for name, array in inputs.items()}
