"""Which operators of an opened file its delegate took, what each costs, and what is known of the others.

The interpreter says it: beside a graph's own operators it lists a DELEGATE for every part that was handed over, with
the tensors that go in and come out. What lies between them was taken. It says so of the file's first graph only; the
others differ from it in their batch.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.targets.delegation import Delegation, Fallback
from edgevit.types import ExecutedLayer

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "XNNPACK"
DELEGATE = "DELEGATE"
LAYERS = ("FULLY_CONNECTED", "CONV_2D")
QUANTIZATION = ("QUANTIZE", "DEQUANTIZE")


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """An operator of the opened graph; tensors as the interpreter describes them, those left out not among them."""

    kind: str
    inputs: tuple[dict[str, Any], ...]
    outputs: tuple[dict[str, Any], ...]
    delegated: bool

    @property
    def types(self) -> str:
        """`float32, int32 → float32`."""
        given, made = (", ".join(np.dtype(one["dtype"]).name for one in some) for some in (self.inputs, self.outputs))
        return f"{given} → {made}"

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole batch, in what multiplies matrices or convolves."""
        if self.kind == "BATCH_MATMUL":  # a product of attention: its second factor is (…, keys, width) as its result
            return math.prod(self._size(self.outputs[0])) * self._size(self.inputs[0])[-1]
        if self.kind in LAYERS:  # a weight is (outputs, …)
            return math.prod(self._size(self.outputs[0])) * math.prod(self._size(self.inputs[1])[1:])
        return 0

    @staticmethod
    def _size(tensor: dict[str, Any]) -> list[int]:
        return [int(size) for size in tensor["shape"]]


def operators_of(interpreter: Any) -> tuple[list[Operator], int]:
    """The first graph's operators in order, and how many partitions of it the delegate took."""
    every = interpreter._get_ops_details()
    tensors = {one["index"]: one for one in interpreter.get_tensor_details()}
    own = [one for one in every if one["op_name"] != DELEGATE]
    handed = [one for one in every if one["op_name"] == DELEGATE]
    maker = {int(tensor): at for at, one in enumerate(own) for tensor in one["outputs"]}
    taken: set[int] = set()
    for one in handed:
        outside, waiting = {int(tensor) for tensor in one["inputs"]}, [int(tensor) for tensor in one["outputs"]]
        while waiting:
            at = maker.get(waiting.pop())
            if at is None or at in taken:
                continue
            taken.add(at)
            waiting += [int(tensor) for tensor in own[at]["inputs"] if int(tensor) not in outside]

    def described(indices: Iterable[int]) -> tuple[dict[str, Any], ...]:
        return tuple(tensors[int(index)] for index in indices if int(index) in tensors)

    operators = [
        Operator(
            kind=one["op_name"],
            inputs=described(one["inputs"]),
            outputs=described(one["outputs"]),
            delegated=at in taken,
        )
        for at, one in enumerate(own)
    ]
    return operators, len(handed)


def count_delegation(interpreter: Any, precision: str, left_float: dict[str, str]) -> Delegation:
    """The report of an opened file. `left_float`: layers that were asked for in int8 and not written so, with why."""
    operators, partitions = operators_of(interpreter)
    batch = int(interpreter.get_input_details()[0]["shape"][0])
    taken = Counter(one.kind for one in operators if one.delegated)
    left: Counter[tuple[str, str]] = Counter()
    costs: Counter[tuple[str, str]] = Counter()
    for one in operators:
        if not one.delegated:
            key = (one.kind, _reason(one, taken, partitions))
            left[key] += 1
            costs[key] += one.macs // batch
    counted = [one for one in operators if one.kind not in QUANTIZATION]
    order = sorted(left, key=lambda key: (-costs[key], -left[key], key))
    macs_delegated = sum(one.macs // batch for one in operators if one.delegated)
    return Delegation(
        delegate=NAME,
        partitions=partitions,
        operators=len(counted),
        operators_delegated=sum(one.delegated for one in counted),
        macs=macs_delegated + sum(costs.values()),
        macs_delegated=macs_delegated,
        fallbacks=tuple(Fallback(operator=key[0], count=left[key], macs=costs[key], reason=key[1]) for key in order),
        layers=tuple(_layer(one, precision, left_float) for one in operators if one.kind in LAYERS),
        left_float=left_float,
    )


def _reason(operator: Operator, taken: Counter[str], partitions: int) -> str:
    """What can be seen of why it was left: the delegate gives no reasons when it looks for what it takes."""
    if not partitions:
        return "the delegate took nothing of this graph"
    if taken[operator.kind]:
        return f"the delegate takes others of its kind, none that is {operator.types}"
    return f"the delegate takes none of its kind, here {operator.types}"


def _layer(operator: Operator, precision: str, left_float: dict[str, str]) -> ExecutedLayer:
    """The layer whose weight this operator reads; what is in `left_float` was asked for in int8."""
    source, weight = operator.inputs[:2]
    narrow = weight["dtype"] == np.int8
    executed = "int8" if narrow and (precision == "int8d" or source["dtype"] == np.int8) else "float32"
    return ExecutedLayer(
        name=weight["name"].removesuffix(".weight"),
        requested="int8" if narrow or weight["name"] in left_float else "float32",
        executed=executed,
        kernel=f"{NAME if operator.delegated else 'builtin'} {operator.kind}",
    )
