"""OpenVINO called once a token: what one request gave is read by the other where it lies, with nothing copied.

Two requests take turns, because a request writes its outputs where it wrote them before: fed back into itself they
would be overwritten while they are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.targets.base import ClosedSession

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from edgevit.types import Arrays

    Requests = tuple[Any, Any]
    Bound = list[tuple[Any, Any]]
    """Inputs' ports and their tensors."""


class OpenvinoLoop:
    """A `Loop` over two infer requests of one compiled model; `close` hands them to `release`."""

    def __init__(
        self, requests: Requests, ports: Ports, fed: dict[str, str], inputs: Arrays, release: Callable[[Requests], None]
    ) -> None:
        self._requests: Requests | None = requests
        self._ports = ports
        self._fed = [(ports.outputs[output], ports.inputs[name]) for output, name in fed.items()]
        self._rest = [name for name in ports.outputs if name not in fed]
        self._read: Arrays = {}
        """What steps are given, in memory of this loop that both requests read."""
        self._written: list[dict[str, Any]] = [{}, {}]
        """The tensors of each request that a step returns, once it has had them in this shape."""
        self._release = release
        self._turn = 0
        self._given: Bound | None = ports.tensors({name: inputs[name] for name in fed.values()})
        """What the next step reads instead of the last one's outputs."""
        self._bound = [False, False]
        """Whether a request reads the other's outputs. Their tensors stay the same, whatever shape they grow to."""
        self._constant = ports.tensors({name: array for name, array in inputs.items() if name not in fed.values()})
        self._bind(self._constant)

    def step(self, inputs: Arrays) -> Arrays:
        if self._requests is None:
            raise ClosedSession("a loop")
        turn, request = self._turn, self._requests[self._turn]
        self._take(inputs)
        carried = self._given
        if carried is None and not self._bound[turn]:
            carried = self._last()
        self._bound[turn] = self._given is None
        for port, tensor in carried or ():
            request.set_tensor(port, tensor)
        # `infer` would copy every output into a new array: for the caches more than all else the loop does.
        request.start_async()
        request.wait()
        self._turn, self._given = 1 - turn, None
        written = self._written[turn]
        if not written:
            written.update({name: request.get_tensor(self._ports.outputs[name]) for name in self._rest})
        return {name: tensor.data for name, tensor in written.items()}

    def select(self, rows: NDArray[np.int64], *, constant: bool) -> None:
        self._given = self._ports.selected(self._last() if self._given is None else self._given, rows)
        if constant:
            self._constant = self._ports.selected(self._constant, rows)
            self._bind(self._constant)

    def close(self) -> None:
        """The requests go back; safe to call twice."""
        requests, self._requests = self._requests, None
        self._given, self._constant, self._read = None, [], {}
        if requests is not None:
            self._release(requests)

    def _take(self, inputs: Arrays) -> None:
        """Copies a step's inputs to where both requests read them; binding a new tensor costs 20 µs at each step."""
        for name, array in inputs.items():
            own = self._read.get(name)
            if own is not None and own.shape == array.shape:
                own[...] = array
                continue
            self._read[name] = array.copy(order="C")
            self._bind(self._ports.tensors({name: self._read[name]}))
            self._written = [{}, {}]

    def _last(self) -> Bound:
        """What the last step gave, as inputs."""
        assert self._requests is not None
        other = self._requests[1 - self._turn]
        return [(port, other.get_tensor(output)) for output, port in self._fed]

    def _bind(self, tensors: Bound) -> None:
        for port, tensor in tensors:
            for request in self._requests or ():
                request.set_tensor(port, tensor)


class Ports:
    """A compiled model's inputs and outputs by name, found once: by name they are looked up at every call."""

    def __init__(self, openvino: Any, compiled: Any, outputs: list[str]) -> None:
        self._openvino = openvino
        self.inputs = {name: port for port in compiled.inputs for name in port.get_names()}
        self.outputs = {name: compiled.outputs[index] for index, name in enumerate(outputs)}

    def tensors(self, arrays: Arrays) -> Bound:
        """Arrays as tensors for their inputs, sharing their memory where it is contiguous."""
        import numpy as np

        make = self._openvino.Tensor
        return [
            (self.inputs[name], make(np.ascontiguousarray(array), shared_memory=True)) for name, array in arrays.items()
        ]

    def selected(self, bound: Bound, rows: NDArray[np.int64]) -> Bound:
        """The same inputs with these rows of their tensors, copied."""
        make = self._openvino.Tensor
        return [(port, make(tensor.data[rows], shared_memory=True)) for port, tensor in bound]
