"""One caller's way through an engine: a context, a stream, its buffers, and a CUDA graph per set of shapes."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import InputError
from edgevit.targets.nvidia.dlpack import device_array, on_device
from edgevit.targets.nvidia.interface import CudaError
from edgevit.targets.nvidia.resident import Pool, Resident

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from edgevit.targets.nvidia.interface import Context, Cuda
    from edgevit.types import Arrays, Signature, TensorSpec

REFUSED = "expected the engine to take the work, it refused; check the card with nvidia-smi and open the build again"
GRAPHS = 32
"""Captured graphs that are kept; a decoder's cache has another shape in every step."""
WARM = 1
"""Runs of a set of shapes before it is captured: the first one allocates and compiles."""


class _Buffer(msgspec.Struct):
    """Device memory of one tensor and the pinned memory it is copied through; grows, never shrinks."""

    pointer: int = 0
    pinned: NDArray[np.uint8] | None = None
    size: int = 0


class Lane:
    """Not thread-safe: a session gives it to one caller at a time."""

    def __init__(self, cuda: Cuda, context: Context, signature: Signature) -> None:
        self._cuda = cuda
        self._context = context
        self._signature = signature
        self._stream = cuda.new_stream()
        self._buffers: dict[str, _Buffer] = {}
        self._pool = Pool(cuda)
        self._runs: dict[tuple[Any, ...], int] = {}
        self._graphs: dict[tuple[Any, ...], int] = {}

    def run(self, inputs: Arrays) -> Arrays:
        """Copies in, executes, copies out; inputs on the device are read where they are."""
        return self.run_resident(inputs)[0]

    def run_resident(self, inputs: Mapping[str, Any], keep: Collection[str] = ()) -> tuple[Arrays, dict[str, Resident]]:
        """As `run`, and inputs may be resident; the outputs of `keep` stay on the card, until `give`."""
        kept: dict[str, Resident] = {}
        try:
            return self._run(inputs, keep, kept), kept
        except BaseException as error:
            if isinstance(error, CudaError):
                # What is still pending may write into the buffers: wait for it before anybody uses them again.
                self._cuda.synchronize(self._stream)
            for tensor in kept.values():
                self.give(tensor)
            raise

    def upload(self, array: NDArray[Any]) -> Resident:
        """A copy of the array on the card."""
        contiguous = np.ascontiguousarray(array)
        tensor = self._pool.take(contiguous.shape, str(contiguous.dtype))
        # The array is the caller's, to change when this returns.
        self._cuda.to_device(tensor.pointer, contiguous.reshape(-1).view(np.uint8), tensor.size, self._stream)
        self._cuda.synchronize(self._stream)
        return tensor

    def gather(self, rows: Sequence[tuple[Resident, int]]) -> Resident:
        """A new tensor of these rows, each of some tensor of one kind, without a way over the host."""
        first = rows[0][0]
        tensor = self._pool.take((len(rows), *first.shape[1:]), first.dtype)
        if first.row:
            for index, (source, row) in enumerate(rows):
                place = tensor.pointer + index * first.row
                self._cuda.on_device(place, source.pointer + row * first.row, first.row, self._stream)
        return tensor

    def give(self, tensor: Resident) -> None:
        """The tensor is not needed any more; all work of a lane is in one stream, so what is pending comes first."""
        self._pool.give(tensor)

    def _run(self, inputs: Mapping[str, Any], keep: Collection[str], resident: dict[str, Resident]) -> Arrays:
        held = [self._place(spec, inputs[spec.name]) for spec in self._signature.inputs]
        outputs = [spec for spec in self._signature.outputs if spec.name not in keep]
        for spec in self._signature.outputs:
            if spec.name in keep:
                resident[spec.name] = self._pool.take(self._context.shape(spec.name), spec.dtype)
                self._context.set_address(spec.name, resident[spec.name].pointer)
        shapes = {spec.name: self._prepare_output(spec) for spec in outputs}
        if resident or any(found is not None for _, found in held):
            self._enqueue()  # other addresses each time: a captured graph has the old ones in it
        else:
            self._execute(tuple(shape for shape, _ in held))
        for spec in outputs:
            buffer = self._buffers[spec.name]
            assert buffer.pinned is not None
            self._cuda.to_host(buffer.pinned, buffer.pointer, _size(spec, shapes[spec.name]), self._stream)
        self._cuda.synchronize(self._stream)
        return {spec.name: self._written(spec, shapes[spec.name]) for spec in outputs}

    def _written(self, spec: TensorSpec, shape: tuple[int, ...]) -> NDArray[Any]:
        """A copy of an output that has come to the host."""
        pinned = self._buffers[spec.name].pinned
        assert pinned is not None
        return pinned[: _size(spec, shape)].view(spec.dtype).reshape(shape).copy()

    def _place(self, spec: TensorSpec, array: Any) -> tuple[tuple[int, ...], Any]:
        """Makes an input known to the context; its shape, and what keeps it alive where it is on the device."""
        if isinstance(array, Resident):
            self._shape(spec, array.shape)
            self._context.set_address(spec.name, array.pointer)
            return array.shape, array
        if on_device(array):
            found = device_array(spec.name, array, self._stream)
            if found.dtype != spec.dtype:
                raise InputError(f"expected {spec.dtype} for input {spec.name!r}, found {found.dtype} on the device")
            self._shape(spec, found.shape)
            self._context.set_address(spec.name, found.pointer)
            return found.shape, found.capsule
        contiguous = np.ascontiguousarray(array, dtype=spec.dtype)
        self._shape(spec, contiguous.shape)
        buffer = self._buffer(spec.name, contiguous.nbytes)
        assert buffer.pinned is not None
        buffer.pinned[: contiguous.nbytes] = contiguous.reshape(-1).view(np.uint8)
        self._cuda.to_device(buffer.pointer, buffer.pinned, contiguous.nbytes, self._stream)
        self._context.set_address(spec.name, buffer.pointer)
        return contiguous.shape, None

    def _shape(self, spec: TensorSpec, shape: tuple[int, ...]) -> None:
        if not self._context.set_shape(spec.name, shape):
            raise InputError(
                f"expected a shape of input {spec.name!r} within the build's profile, found {shape}; export it with "
                "a wider one, for example profile=batch:1:8:32"
            )

    def _prepare_output(self, spec: TensorSpec) -> tuple[int, ...]:
        shape = self._context.shape(spec.name)
        buffer = self._buffer(spec.name, _size(spec, shape))
        self._context.set_address(spec.name, buffer.pointer)
        return shape

    def _execute(self, shapes: tuple[Any, ...]) -> None:
        """By the captured graph of these shapes; captured at the run after the first."""
        if shapes in self._graphs:
            self._cuda.launch(self._graphs[shapes], self._stream)
            return
        runs = self._runs.get(shapes, 0)
        self._runs[shapes] = runs + 1
        if runs != WARM or not self._context.capturable(self._stream):
            self._enqueue()
            return
        if len(self._graphs) >= GRAPHS:
            oldest = next(iter(self._graphs))
            self._cuda.end_graph(self._graphs.pop(oldest))
            self._runs.pop(oldest)
        self._cuda.begin_capture(self._stream)
        taken = self._context.enqueue(self._stream)
        self._graphs[shapes] = self._cuda.end_capture(self._stream)
        if not taken:
            self._forget_graphs()
            raise CudaError(REFUSED)
        self._cuda.launch(self._graphs[shapes], self._stream)

    def _enqueue(self) -> None:
        if not self._context.enqueue(self._stream):
            raise CudaError(REFUSED)

    def _buffer(self, name: str, size: int) -> _Buffer:
        """A buffer of at least `size` bytes; a larger one makes every captured graph stale."""
        buffer = self._buffers.setdefault(name, _Buffer())
        if buffer.size >= size and buffer.pinned is not None:
            return buffer
        self._forget_graphs()
        self._release(buffer)
        buffer.pointer = self._cuda.allocate(size)
        buffer.pinned = self._cuda.allocate_pinned(size)
        buffer.size = size
        return buffer

    def _forget_graphs(self) -> None:
        for graph in self._graphs.values():
            self._cuda.end_graph(graph)
        self._graphs.clear()
        self._runs.clear()

    def _release(self, buffer: _Buffer) -> None:
        if buffer.pointer:
            self._cuda.free(buffer.pointer)
        if buffer.pinned is not None:
            self._cuda.free_pinned(buffer.pinned)
        buffer.pointer, buffer.pinned, buffer.size = 0, None, 0

    def close(self) -> None:
        self._cuda.synchronize(self._stream)
        self._forget_graphs()
        for buffer in self._buffers.values():
            self._release(buffer)
        self._buffers.clear()
        self._pool.close()
        self._cuda.end_stream(self._stream)


def _size(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor."""
    return prod(shape) * np.dtype(spec.dtype).itemsize
