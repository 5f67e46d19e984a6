"""A float model lowered to an ExecuTorch program for XNNPACK, quantized on the way where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import BuildError
from edgevit.targets.delegation import Delegation
from edgevit.targets.xnnpack.attention import with_plain_attention
from edgevit.targets.xnnpack.counting import count_delegation, recorded_refusals
from edgevit.targets.xnnpack.partition import partitioner

if TYPE_CHECKING:
    import torch

    from edgevit.graph.capture import CaptureOptions
    from edgevit.quantize.write_torch import Written
    from edgevit.targets.base import BuildSource
    from edgevit.types import FloatModel, Precision


GROUP = 32
"""Weights in four bits that share a scale: the smallest group that XNNPACK has kernels for, and what it is best at."""


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    program: bytes
    """The `.pte`."""
    delegation: Delegation


def lower(model: FloatModel, source: BuildSource, precision: Precision, options: CaptureOptions) -> Lowered:
    """Traces, quantizes by the plan (int8) or by what comes (int8d, int4d), partitions for XNNPACK and plans memory.

    Raises CaptureError where the model does not trace, PlanError, and BuildError with ExecuTorch's reason.
    """
    from edgevit.graph.capture import capture
    from edgevit.graph.quiet import quiet_torch

    program = with_plain_attention(capture(model, options))
    written: Written | None = None
    if precision != "float32":
        with quiet_torch():
            module = program.module(check_guards=False)
            written = _written(module, source, precision)
        program = capture(msgspec.structs.replace(model, module=module), options)
    with quiet_torch(), recorded_refusals() as refusals:
        edge = _partitioned(program, model.name)
        delegation = count_delegation(edge.exported_program(), refusals, {} if written is None else written.left_out)
        return Lowered(program=bytes(edge.to_executorch().buffer), delegation=delegation)


def _written(module: torch.fx.GraphModule, source: BuildSource, precision: Precision) -> Written:
    from edgevit.quantize.write_torch import TorchOptions, write_adjustments, write_dynamic, write_plan

    if precision == "int8d":
        return write_dynamic(module)
    assert source.plan is not None
    if precision == "int4d":
        write_adjustments(module, source.onnx, source.plan)
        return write_dynamic(module, GROUP)
    return write_plan(module, source.onnx, source.plan, TorchOptions(tables=True))


def _partitioned(program: torch.export.ExportedProgram, name: str) -> Any:
    """The program in ExecuTorch's edge dialect, with what XNNPACK takes handed to it."""
    from executorch.exir import to_edge_transform_and_lower

    try:
        return to_edge_transform_and_lower(program, partitioner=[partitioner()])
    except Exception as error:  # its passes raise whatever their assertions are made of
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BuildError(f"ExecuTorch refused {name}: {lines[0]}") from error
