"""The real LoadedEngine over a module that answers as NVIDIA's do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgevit.errors import BundleError
from edgevit.targets.nvidia.engine import DeserializedEngine
from edgevit.targets.nvidia.interface import OutOfDeviceMemory


class Cache:
    def __init__(self) -> None:
        self.content = b""

    def deserialize(self, blob: bytes) -> bool:
        self.content = blob
        return True

    def serialize(self) -> bytes:
        return self.content + b"+kernels"


class Context:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return shape[0] < 9

    def get_tensor_shape(self, name: str) -> list[int]:
        return [2, 10]

    def set_tensor_address(self, name: str, pointer: int) -> bool:
        self.said.append((name, pointer))
        return True

    def execute_async_v3(self, stream: int) -> bool:
        return stream == 7


def nvidia(*, loads: bool = True, room: bool = True, rtx: bool = True) -> Any:
    class ILogger:
        pass

    class Config:
        cache: Any = None

        def create_runtime_cache(self) -> Cache:
            return Cache()

        def set_runtime_cache(self, cache: Cache) -> bool:
            self.cache = cache
            return True

    class Loaded:
        def create_execution_context(self, *config: Any) -> Context | None:
            return Context() if room else None

    if rtx:
        Loaded.create_runtime_config = lambda self: Config()  # type: ignore[attr-defined]

    class Runtime:
        def __init__(self, log: Any) -> None:
            self.log = log

        def deserialize_cuda_engine(self, engine: bytes) -> Loaded | None:
            if loads:
                return Loaded()
            self.log.log(SimpleNamespace(name="ERROR"), "the plan file\nis of another version")
            return None

    return SimpleNamespace(ILogger=ILogger, Runtime=Runtime)


def test_an_engine_that_does_not_load_gives_nvidias_reason_in_one_line() -> None:
    with pytest.raises(BundleError, match="the plan file is of another version") as error:
        DeserializedEngine(nvidia(loads=False), b"", "tensorrt-fp16")
    assert "\n" not in str(error.value)


def test_no_room_for_a_context_exits_with_3() -> None:
    with pytest.raises(OutOfDeviceMemory) as error:
        DeserializedEngine(nvidia(room=False), b"", "x").new_context()
    assert error.value.exit_status == 3


def test_kernels_compiled_at_run_time_are_kept(tmp_path: Path) -> None:
    cache = tmp_path / "made" / "x.runtime-cache"
    for expected in (b"+kernels", b"+kernels+kernels"):
        engine = DeserializedEngine(nvidia(), b"", "x", cache)
        engine.new_context()
        engine.close()
        assert cache.read_bytes() == expected


@pytest.mark.parametrize("rtx", [True, False])
def test_without_a_cache_nothing_is_written(tmp_path: Path, rtx: bool) -> None:
    engine = DeserializedEngine(nvidia(rtx=rtx), b"", "x", None if rtx else tmp_path / "cache")
    engine.new_context()
    engine.close()
    assert list(tmp_path.iterdir()) == []


def test_a_context_speaks_version_3_of_the_api() -> None:
    context = DeserializedEngine(nvidia(), b"", "x").new_context()
    assert context.set_shape("x", (8, 3)) and not context.set_shape("x", (9, 3))
    assert context.shape("y") == (2, 10)
    assert context.set_address("y", 4096)
    assert context.enqueue(7) and not context.enqueue(8)
    assert context.capturable(7), "an older TensorRT cannot be asked"
