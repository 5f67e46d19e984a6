"""The real `Cuda`: the package `cuda-bindings` over CUDA's runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import missing_package
from edgevit.targets.nvidia.interface import CudaError, OutOfDeviceMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUT_OF_MEMORY = 2
"""cudaErrorMemoryAllocation."""


class CudaRuntime:
    """Every call's status is read; a failed one raises CudaError, a full card OutOfDeviceMemory."""

    def __init__(self, extra: str, api: Any = None) -> None:
        self._api = api if api is not None else _runtime(extra)
        self._pinned: dict[int, int] = {}

    def new_stream(self) -> int:
        return int(self._call("cudaStreamCreateWithFlags", 1))  # 1: not blocked by the default stream

    def end_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def allocate(self, size: int) -> int:
        return int(self._call("cudaMalloc", max(1, size)))

    def free(self, pointer: int) -> None:
        self._call("cudaFree", pointer)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        import ctypes

        pointer = int(self._call("cudaMallocHost", max(1, size)))
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * max(1, size)).from_address(pointer))
        self._pinned[id(memory)] = pointer
        return memory

    def free_pinned(self, memory: NDArray[np.uint8]) -> None:
        self._call("cudaFreeHost", self._pinned.pop(id(memory)))

    def to_device(self, pointer: int, memory: NDArray[Any], size: int, stream: int) -> None:
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", pointer, memory.ctypes.data, size, kind, stream)

    def to_host(self, memory: NDArray[Any], pointer: int, size: int, stream: int) -> None:
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", memory.ctypes.data, pointer, size, kind, stream)

    def on_device(self, target: int, source: int, size: int, stream: int) -> None:
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToDevice
        self._call("cudaMemcpyAsync", target, source, size, kind, stream)

    def synchronize(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._api, name)(*arguments)
        if int(status) == OUT_OF_MEMORY:
            size = f" of {arguments[0]} bytes" if name.startswith("cudaMalloc") else ""
            raise OutOfDeviceMemory(
                f"expected room on the GPU for {name}{size}, found none; close other programs (nvidia-smi lists them), "
                "use fewer streams or a smaller batch in the profile"
            )
        if int(status) != 0:
            _, text = self._api.cudaGetErrorString(status)
            words = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
            raise CudaError(f"expected {name} to succeed, CUDA answers: {words} ({int(status)})")
        return results[0] if results else None


def _runtime(extra: str) -> Any:
    try:
        from cuda.bindings import runtime
    except ModuleNotFoundError as error:
        raise missing_package("cuda-bindings", extra, "running on an NVIDIA GPU") from error
    return runtime
