"""The real Cuda over an API that answers as cuda-bindings does: a status first, results after."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from edgevit.targets.nvidia.cuda_runtime import CudaRuntime
from edgevit.targets.nvidia.interface import CudaError, OutOfDeviceMemory


class Api:
    class cudaMemcpyKind:  # noqa: N801 - CUDA's own names
        cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice = 1, 2, 3  # noqa: N815

    class cudaStreamCaptureMode:  # noqa: N801
        cudaStreamCaptureModeThreadLocal = 1  # noqa: N815

    def __init__(self, **answers: tuple[Any, ...]) -> None:
        self.answers = answers
        self.calls: list[tuple[Any, ...]] = []
        self.host = ctypes.create_string_buffer(64)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append((name, *arguments))
            if name == "cudaMallocHost":
                return 0, ctypes.addressof(self.host)
            if name == "cudaGetErrorString":
                return 0, b"driver shutting down"
            return self.answers.get(name, (0, 7))

        return call


def test_results_come_without_the_status() -> None:
    cuda = CudaRuntime("tensorrt-rtx", Api(cudaMalloc=(0, 4096)))
    assert cuda.allocate(100) == 4096
    assert cuda.new_stream() == 7


def test_pinned_memory_is_an_array_over_what_cuda_gave() -> None:
    api = Api()
    cuda = CudaRuntime("tensorrt-rtx", api)
    memory = cuda.allocate_pinned(64)
    memory[:3] = (1, 2, 3)
    assert api.host.raw[:3] == b"\x01\x02\x03"
    cuda.to_device(5, memory, 3, 7)
    cuda.to_host(memory, 5, 3, 7)
    assert api.calls[-2:] == [
        ("cudaMemcpyAsync", 5, memory.ctypes.data, 3, 1, 7),
        ("cudaMemcpyAsync", memory.ctypes.data, 5, 3, 2, 7),
    ]
    cuda.on_device(6, 5, 3, 7)
    assert api.calls[-1] == ("cudaMemcpyAsync", 6, 5, 3, 3, 7)
    cuda.free_pinned(memory)
    assert api.calls[-1] == ("cudaFreeHost", ctypes.addressof(api.host))
    assert isinstance(memory, np.ndarray)


def test_a_capture_becomes_an_executable_graph_and_the_description_goes() -> None:
    api = Api(cudaStreamEndCapture=(0, 11), cudaGraphInstantiate=(0, 12))
    cuda = CudaRuntime("tensorrt-rtx", api)
    cuda.begin_capture(7)
    assert cuda.end_capture(7) == 12
    assert api.calls[-1] == ("cudaGraphDestroy", 11)


def test_a_full_card_exits_with_3() -> None:
    with pytest.raises(OutOfDeviceMemory, match="cudaMalloc of 4096 bytes.*nvidia-smi") as error:
        CudaRuntime("tensorrt-rtx", Api(cudaMalloc=(2, None))).allocate(4096)
    assert error.value.exit_status == 3


def test_any_other_failure_has_cudas_own_words() -> None:
    with pytest.raises(CudaError, match=r"cudaStreamSynchronize to succeed, CUDA answers: driver shutting down \(4\)"):
        CudaRuntime("tensorrt-rtx", Api(cudaStreamSynchronize=(4,))).synchronize(7)
