"""A Core ML package read back: its interface, its operators, and every number that the plan put into it.

Nothing executes it here, so this is the proof that there is. Layers are found by their codes, not by their names, which
the converter makes up.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import BuildError
from edgevit.targets.apple.interface import expected_interface, found_interface
from edgevit.types import ExecutedLayer, Execution

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from edgevit.targets.apple.convert import Converted, PlannedLayer
    from edgevit.types import Precision, Signature

WEIGHTS = "Data/com.apple.CoreML/weights"
LAYERS = ("linear", "conv", "matmul")
STORED = {"const": "float16", "constexpr_affine_dequantize": "int8", "constexpr_lut_to_dense": "int4 palette"}
"""How a weight is kept, by the operator that makes it."""
CHANGING = frozenset({"expand_dims", "reshape", "squeeze", "transpose", "cast"})
"""Operators that move a constant weight about without changing its numbers."""
MINIMUM = {8: "iOS17", 9: "iOS18"}
"""Specification version to the oldest system that reads it."""


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    execution: Execution
    """What the package holds; `executed` is what a weight is stored as."""
    operators: dict[str, int]
    """By kind, the most frequent first, without constants."""
    minimum: str


class StoredLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A linear layer or convolution of the package."""

    operator: str
    weight: Any
    """The operator that makes its weight."""
    input: Any
    """The operator that makes its input, None for the program's own input."""

    @property
    def stored(self) -> str:
        kind = str(self.weight.op_type)
        return STORED.get(kind, kind)


def check_package(path: Path, signature: Signature, precision: Precision, converted: Converted) -> Checked:
    """Raises BuildError where the package's interface, operators or numbers are not those that were asked for."""
    from edgevit.graph.quiet import quiet_torch
    from edgevit.targets.apple.convert import import_coremltools

    ct = import_coremltools()
    with quiet_torch():
        spec = ct.utils.load_spec(str(path))
        program = read_program(path, spec)
    _check_interface(spec, signature, converted)
    operations = [one for one in program.functions["main"].operations if one.op_type != "const"]
    layers = tuple(stored_layers(operations))
    executed = _planned(layers, converted) if converted.layers else _all_layers(layers, precision, converted)
    planned = [one for one in executed if one.requested == "int8"]
    operators = Counter(one.op_type for one in operations)
    return Checked(
        execution=Execution(
            precision=precision if precision in ("int8", "float16") else "float16",
            provider="Core ML, an ML program, not executed",
            instruction_set="",
            quantized_requested=len(planned) + len(converted.left_out),
            quantized_executed=len(planned),
            layers=executed,
            warnings=tuple(f"{name} stays in float16: {why}" for name, why in converted.left_out.items()),
        ),
        operators=dict(operators.most_common()),
        minimum=MINIMUM.get(spec.specificationVersion, f"specification {spec.specificationVersion}"),
    )


def read_program(path: Path, spec: Any) -> Any:
    """The package's program with the numbers of its weights, as coremltools' own reader gives it."""
    from coremltools.converters.mil.frontend.milproto.load import load

    return load(spec, spec.specificationVersion, str(path / WEIGHTS))


def stored_layers(operations: list[Any]) -> Iterator[StoredLayer]:
    """Every operator that multiplies with a constant weight, in the program's order."""
    for operation in operations:
        if operation.op_type not in LAYERS:
            continue
        value = operation.y if operation.op_type == "matmul" else operation.weight
        maker = value.op
        while maker is not None and maker.op_type in CHANGING:
            maker = maker.x.op
        if maker is not None and maker.op_type in STORED:
            yield StoredLayer(operator=operation.op_type, weight=maker, input=operation.x.op)


def _check_interface(spec: Any, signature: Signature, converted: Converted) -> None:
    expected, found = expected_interface(signature, converted.interface), found_interface(spec)
    if found != expected:
        raise BuildError(f"expected a Core ML package with the interface {expected}, found {found}; report this")


def _planned(layers: tuple[StoredLayer, ...], converted: Converted) -> tuple[ExecutedLayer, ...]:
    """The plan's layers, each found by its codes, with the plan's own scales."""
    by_codes = {one.weight.quantized_data.val.tobytes(): one for one in layers if one.stored == "int8"}
    found = []
    for planned in converted.layers:
        stored = by_codes.get(planned.codes.tobytes())
        if stored is None:
            raise BuildError(f"expected the plan's codes of {planned.name} in the Core ML package, found others")
        _check_scales(stored, planned)
        kernel = f"{stored.operator}, {'8-bit input and weight' if planned.inputs else '8-bit weight'}"
        name = planned.name.removesuffix(".weight")
        found.append(ExecutedLayer(name=name, requested="int8", executed=stored.stored, kernel=kernel))
    return tuple(found)


def _check_scales(stored: StoredLayer, planned: PlannedLayer) -> None:
    wanted = np.asarray(planned.entry.weight_scale, np.float16)
    found = np.asarray(stored.weight.scale.val)
    if found.dtype != np.float16 or not np.array_equal(found.reshape(-1), wanted):
        raise BuildError(f"expected the plan's weight scales of {planned.name} in the Core ML package, found others")
    if not planned.inputs:
        return
    scale = None
    if stored.input is not None and stored.input.op_type == "dequantize":
        scale = np.float16(stored.input.scale.val)
    if scale != np.float16(planned.entry.input_scale):
        raise BuildError(
            f"expected the input of {planned.name} quantized with {planned.entry.input_scale:.4g} in the Core ML "
            f"package, found {scale}"
        )


def _all_layers(
    layers: tuple[StoredLayer, ...], precision: Precision, converted: Converted
) -> tuple[ExecutedLayer, ...]:
    wanted = "int4w" if precision == "int4w" else "float16"
    found = []
    for one in layers:
        given = str(one.weight.outputs[0].name)
        own = max((name for name in converted.parameters if given.startswith(name)), key=len, default=given)
        name = converted.parameters.get(own, own).removesuffix(".weight")
        found.append(ExecutedLayer(name=name, requested=wanted, executed=one.stored, kernel=one.operator))
    return tuple(found)
