"""Openers for measuring processes: a session that sleeps, and misbehaves as `<build>.json` in the bundle says.

A measuring process imports this file, so it must not import pytest or the package's heavy parts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from edgevit.errors import UnavailableError
from edgevit.targets.base import OpenOptions
from edgevit.types import Engine, Execution, Signature, TensorSpec


def signature(batch: int | str) -> Signature:
    return Signature(
        inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=(batch, 3, 4, 4)),),
        outputs=(TensorSpec(name="logits", dtype="float32", shape=(batch, 2)),),
    )


class SleepingSession:
    """Sleeps `sleep_ms` per call; appends the build's name and the batch size to `calls.log` of the bundle."""

    def __init__(self, bundle: Path, name: str, options: OpenOptions) -> None:
        self.engine = Engine(name="sleeping", version="1.0")
        self._name, self._log = name, bundle / "calls.log"
        self._behaviour = json.loads((bundle / f"{name}.json").read_text())
        self.signature = signature(self._behaviour.get("fixed_batch", "batch"))
        self._calls = 0
        if options.cache_dir is not None and self._behaviour.get("caches"):
            compiled = options.cache_dir / "compiled"
            time.sleep(0 if compiled.exists() else self._behaviour["caches"])
            compiled.write_text("compiled")

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self._calls += 1
        (values,) = inputs.values()
        with self._log.open("a") as log:
            log.write(f"{self._name} {len(values)} {values.sum():.6f}\n")
        if self._calls == self._behaviour.get("kill_at"):
            print("the fake engine is about to die", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self._calls == self._behaviour.get("raise_at"):
            raise RuntimeError("the fake engine\nrefused the call")
        time.sleep(self._behaviour.get("sleep_ms", 0) / 1000)
        print("an engine that writes on standard output")
        return {"logits": np.zeros((len(values), 2), dtype=np.float32)}

    def execution(self) -> Execution:
        return Execution(precision=self._behaviour.get("executes", "f32"), provider="fake", instruction_set="none")

    def close(self) -> None:
        with self._log.open("a") as log:
            log.write(f"{self._name} closed\n")


def open_build(bundle: Path, name: str, options: OpenOptions) -> SleepingSession:
    behaviour = json.loads((bundle / f"{name}.json").read_text())
    if behaviour.get("unavailable"):
        raise UnavailableError("expected a GPU, found none; run this build on a machine that has one")
    if behaviour.get("hangs"):
        time.sleep(600)
    if behaviour.get("exits") is not None:
        print("the fake engine's last words", file=sys.stderr, flush=True)
        os._exit(behaviour["exits"])
    if behaviour.get("fails_cold") and options.cache_dir is not None:
        raise RuntimeError("no room in the cache directory")
    return SleepingSession(bundle, name, options)
