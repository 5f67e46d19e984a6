"""A float model converted to a Core ML package, quantized on the way where it is asked for."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import BuildError, missing_package
from edgevit.targets.apple.interface import Interface, input_types, output_types
from edgevit.targets.apple.steps import without_empty

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from edgevit.quantize.write_torch import Written
    from edgevit.targets.base import BuildSource
    from edgevit.types import FloatModel, ImagePreprocess, LayerPlan, Precision

PALETTE_CHANNELS = 16
"""Output channels that share a palette: a table of 16 numbers for a whole matrix loses its small rows."""
SMALL_WEIGHT = 512
"""Weights of fewer numbers are not worth a palette."""
LEFT_BEHIND = "executorch_debug_handle_mapping.json"
"""coremltools 9 writes it beside the package's own files, for ExecuTorch's debugger."""


class PlannedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What one layer of the plan must be in the package."""

    name: str
    codes: Any
    """int8, in PyTorch's layout."""
    entry: LayerPlan
    inputs: bool
    """Its input is quantized, too."""


class Converted(msgspec.Struct, frozen=True, kw_only=True):
    interface: Interface
    layers: tuple[PlannedLayer, ...] = ()
    left_out: dict[str, str] = {}
    """Layers of the plan that stayed float, with why."""
    parameters: dict[str, str] = {}
    """What the converter calls each parameter, to its name."""


def convert(model: FloatModel, source: BuildSource, precision: Precision, interface: Interface, out: Path) -> Converted:
    """Traces, quantizes by the plan (int8, int8w) or into palettes (int4w), and writes the package `out`.

    Raises CaptureError where the model does not trace, PlanError, and BuildError with coremltools' reason.
    """
    from edgevit.graph.capture import CaptureOptions, capture
    from edgevit.graph.quiet import quiet_torch

    ct = import_coremltools()
    options = CaptureOptions(batch=interface.batch)
    program = capture(model, options)
    with quiet_torch():
        module: Any = program.module(check_guards=False)
        without_empty(module)
        written = _written(module, source, precision)
        if interface.pixels is not None:
            _normalize_inside(module, interface.pixels)
        if interface.labels:
            _probabilities(module)
    layers = _planned_layers(module, source, written, inputs=precision == "int8")
    program = capture(msgspec.structs.replace(model, module=module), options)
    with quiet_torch():
        try:
            package = _converted(ct, program.run_decompositions({}), model, precision, interface)
            package.save(str(out))
        except Exception as error:  # its passes raise whatever their assertions are made of
            lines = str(error).strip().splitlines() or [type(error).__name__]
            shutil.rmtree(out, ignore_errors=True)
            raise BuildError(f"coremltools refused {model.name}: {lines[0]}") from error
    (out / LEFT_BEHIND).unlink(missing_ok=True)
    return Converted(
        interface=interface,
        layers=layers,
        left_out={} if written is None else written.left_out,
        parameters={f"p_{name.replace('.', '_')}": name for name, _ in model.module.named_parameters()},
    )


def _written(module: torch.fx.GraphModule, source: BuildSource, precision: Precision) -> Written | None:
    if precision not in ("int8", "int8w"):
        return None
    from edgevit.quantize.write_torch import WEIGHTS_ALONE, TorchOptions, write_plan

    assert source.plan is not None
    # Its int8 kernels read int8 and write float16: no output scale.
    how = TorchOptions(outputs=False) if precision == "int8" else WEIGHTS_ALONE
    return write_plan(module, source.onnx, source.plan, how)


def _planned_layers(
    module: torch.fx.GraphModule, source: BuildSource, written: Written | None, *, inputs: bool
) -> tuple[PlannedLayer, ...]:
    """What was written into `module`. Raises BuildError for a scale that float16 cannot hold."""
    if written is None or source.plan is None:
        return ()
    entries = {entry.name: entry for entry in source.plan.layers}
    found = []
    for name in written.layers:
        entry = entries[name]
        for scale in (*entry.weight_scale, *((entry.input_scale,) if inputs else ())):
            _check_representable(scale, name)
        codes: NDArray[np.int8] = module.get_buffer(f"{name}_int8").numpy()
        found.append(PlannedLayer(name=name, codes=codes, entry=entry, inputs=inputs))
    return tuple(found)


def _check_representable(scale: float, name: str) -> None:
    """Below 6e-5 float16 has fewer and fewer digits, and codes would no longer mean what they were made for."""
    held = float(np.float16(scale))
    if not np.isfinite(held) or abs(held - scale) > scale / 256:
        raise BuildError(
            f"expected scales that float16 holds within half a percent for Core ML, found {scale:.3g} at {name} "
            f"({held:.3g} there); leave the layer in float (--skip {name.removesuffix('.weight')})"
        )


def _normalize_inside(module: torch.fx.GraphModule, pixels: ImagePreprocess) -> None:
    """(x / 255 - mean) / std in front of everything, as one multiplication and one addition per channel."""
    import torch

    placeholder = next(node for node in module.graph.nodes if node.op == "placeholder")
    mean = torch.tensor(pixels.mean, dtype=torch.float32).reshape(-1, 1, 1)
    std = torch.tensor(pixels.std, dtype=torch.float32).reshape(-1, 1, 1)
    module.register_buffer("pixel_factor", 1 / (255 * std))
    module.register_buffer("pixel_offset", -mean / std)
    readers = list(placeholder.users)
    with module.graph.inserting_after(placeholder):
        offset = module.graph.get_attr("pixel_offset")
        factor = module.graph.get_attr("pixel_factor")
    last = max((factor, offset), key=list(module.graph.nodes).index)
    with module.graph.inserting_after(last):
        scaled = module.graph.call_function(torch.ops.aten.mul.Tensor, (placeholder, factor))
    with module.graph.inserting_after(scaled):
        moved = module.graph.call_function(torch.ops.aten.add.Tensor, (scaled, offset))
    for reader in readers:
        reader.replace_input_with(placeholder, moved)
    module.graph.lint()
    module.recompile()


def _probabilities(module: torch.fx.GraphModule) -> None:
    """The softmax of the scores as the only output, in place."""
    import torch

    (end,) = (node for node in module.graph.nodes if node.op == "output")
    (scores,) = end.all_input_nodes
    with module.graph.inserting_before(end):
        shares = module.graph.call_function(torch.ops.aten.softmax.int, (scores, -1))
    end.replace_input_with(scores, shares)
    module.recompile()


def _converted(
    ct: Any, program: torch.export.ExportedProgram, model: FloatModel, precision: Precision, interface: Interface
) -> Any:
    palettes = precision == "int4w"
    package = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=input_types(ct, model.signature, interface),
        **output_types(ct, model.signature, interface),
        minimum_deployment_target=ct.target.iOS18 if palettes else ct.target.iOS17,
        compute_precision=ct.precision.FLOAT16,
        skip_model_load=True,
    )
    package.short_description = model.name
    if not palettes:
        return package
    from coremltools.optimize.coreml import OpPalettizerConfig, OptimizationConfig, palettize_weights

    palette = OpPalettizerConfig(
        mode="kmeans",
        nbits=4,
        granularity="per_grouped_channel",
        group_size=PALETTE_CHANNELS,
        weight_threshold=SMALL_WEIGHT,
    )
    # The patch embedding, which is sensitive, and the table of positions, which is no layer, keep float16. By name:
    # a bias of zeros may be one constant of layers of both kinds, and a choice by kind is then a conflict. Not from
    # get_weights_metadata, which fails on a class token of this size: a concat's inputs are a list.
    matrices = {name: palette for name in _matrices(package)}
    return palettize_weights(package, OptimizationConfig(op_name_configs=matrices))


def _matrices(package: Any) -> list[str]:
    """The weights of linear layers, by the name of their constant, that are worth a palette."""
    layers = [one for one in package._mil_program.functions["main"].operations if one.op_type == "linear"]
    weights = [one.weight.op for one in layers if one.weight.op is not None and one.weight.op.op_type == "const"]
    return [str(weight.name) for weight in weights if weight.val.val.size >= SMALL_WEIGHT]


@functools.cache
def import_coremltools() -> Any:
    """The converter, without its remarks on other packages' versions. Raises UnavailableError where it is missing."""
    from edgevit.graph.quiet import quiet_torch

    try:
        with quiet_torch():
            import coremltools
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "coremltools", "coreml", "the target coreml") from error
    return coremltools
