"""The thin line between a session and NVIDIA's packages: what a session needs of CUDA and of a loaded engine.

`cuda_runtime.py` and `engine.py` are the real side; the tests bring another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from edgevit.errors import EdgevitError, UnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CudaError(EdgevitError):
    """A CUDA call failed; the message has its name and CUDA's own words."""

    exit_status = 1


class OutOfDeviceMemory(UnavailableError):  # noqa: N818 - it names a state of the card
    """The card has less free memory than a build needs."""


class Cuda(Protocol):
    """One card: pointers and streams are plain integers."""

    def new_stream(self) -> int: ...

    def end_stream(self, stream: int) -> None: ...

    def allocate(self, size: int) -> int:
        """Device memory; raises OutOfDeviceMemory."""

    def free(self, pointer: int) -> None: ...

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory: copies from it run at full speed and beside the computation."""

    def free_pinned(self, memory: NDArray[np.uint8]) -> None: ...

    def to_device(self, pointer: int, memory: NDArray[Any], size: int, stream: int) -> None: ...

    def to_host(self, memory: NDArray[Any], pointer: int, size: int, stream: int) -> None: ...

    def on_device(self, target: int, source: int, size: int, stream: int) -> None:
        """Copies device memory to device memory; the two do not overlap."""

    def synchronize(self, stream: int) -> None: ...

    def begin_capture(self, stream: int) -> None: ...

    def end_capture(self, stream: int) -> int:
        """An executable graph of what the stream was given since `begin_capture`; raises CudaError."""

    def launch(self, graph: int, stream: int) -> None: ...

    def end_graph(self, graph: int) -> None: ...


class Context(Protocol):
    """An engine's state for one caller at a time."""

    def set_shape(self, name: str, shape: tuple[int, ...]) -> bool: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def set_address(self, name: str, pointer: int) -> bool: ...

    def enqueue(self, stream: int) -> bool: ...

    def capturable(self, stream: int) -> bool: ...


class LoadedEngine(Protocol):
    def new_context(self) -> Context:
        """Raises OutOfDeviceMemory where the card has no room for it."""

    def close(self) -> None:
        """Frees the engine; kernels compiled at run time go into the cache first."""
