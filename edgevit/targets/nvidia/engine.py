"""The real `LoadedEngine`: an engine deserialized by `tensorrt_rtx_bindings` or `tensorrt`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.errors import BundleError
from edgevit.files import write_atomic
from edgevit.targets.nvidia.interface import OutOfDeviceMemory
from edgevit.targets.nvidia.network import collecting_logger, first_error

if TYPE_CHECKING:
    from pathlib import Path


class DeserializedEngine:
    """An engine on the card. With `cache` (TensorRT-RTX) kernels compiled at run time are kept between processes."""

    def __init__(self, nvidia: Any, engine: bytes, name: str, cache: Path | None = None) -> None:
        self._log = collecting_logger(nvidia)
        self._runtime = nvidia.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BundleError(
                f"expected the engine of {name} to load, found: {first_error(self._log.lines)}; export it "
                "again, or open it with rebuild=True"
            )
        self._cache_file = cache
        self._config: Any = None
        self._cache: Any = None
        if cache is not None and hasattr(self._engine, "create_runtime_config"):
            self._config = self._engine.create_runtime_config()
        if self._config is not None and hasattr(self._config, "create_runtime_cache"):
            self._cache = self._config.create_runtime_cache()
            if cache is not None and cache.exists():
                # A cache of another card or version is refused and starts empty: it only saves time.
                self._cache.deserialize(cache.read_bytes())
            self._config.set_runtime_cache(self._cache)

    def new_context(self) -> EngineContext:
        config = () if self._config is None else (self._config,)
        context = self._engine.create_execution_context(*config)
        if context is None:
            raise OutOfDeviceMemory(
                f"expected room on the GPU for an execution context, found: {first_error(self._log.lines)}; close "
                "other programs (nvidia-smi lists them) or use fewer streams"
            )
        return EngineContext(context)

    def close(self) -> None:
        if self._cache is not None and self._cache_file is not None:
            self._cache_file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._cache_file, bytes(self._cache.serialize()))
        self._cache = self._config = self._engine = self._runtime = None


class EngineContext:
    def __init__(self, context: Any) -> None:
        self._context = context

    def set_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return bool(self._context.set_input_shape(name, shape))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(name))

    def set_address(self, name: str, pointer: int) -> bool:
        return bool(self._context.set_tensor_address(name, pointer))

    def enqueue(self, stream: int) -> bool:
        return bool(self._context.execute_async_v3(stream))

    def capturable(self, stream: int) -> bool:
        asked = getattr(self._context, "is_stream_capturable", None)
        return True if asked is None else bool(asked(stream))
