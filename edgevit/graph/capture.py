"""torch.export of a float model or of one of its parts, with dynamic lengths and a dynamic or a fixed batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CaptureError, missing_package
from edgevit.graph.examples import Traceable, distinct_sizes, example_inputs
from edgevit.graph.quiet import quiet_torch
from edgevit.graph.recurrent import whole_recurrent_layers

if TYPE_CHECKING:
    import torch

    from edgevit.types import TensorSpec

MAX_BATCH = 8


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    batch: int | None = None
    """A fixed batch, or None for a dynamic one."""
    max_batch: int = MAX_BATCH
    longest: dict[str, int] = {}
    """The largest size of lengths by name, for who plans memory by it; a length that is not named here has none."""


def capture(model: Traceable, options: CaptureOptions | None = None) -> torch.export.ExportedProgram:
    """The model, or one part of it, as a torch.export program.

    First axes are dynamic unless a batch is fixed, and so is every other named dimension of the signature, down to 1
    and a `past_length` down to 0. Raises CaptureError, naming the module and the line, when the model does not trace.
    """
    options = options or CaptureOptions()
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_package("torch", "export", "tracing a model") from error
    # Traced at batch 2: an example of batch 1 can bake the 1 in.
    sizes = distinct_sizes(model.signature, options.batch or 2)
    examples = example_inputs(model, sizes)
    batch = None if options.batch is not None else torch.export.Dim("batch", min=1, max=options.max_batch)
    # What is traced has to lie within the range that is promised.
    longest = {name: max(size, sizes[name]) for name, size in options.longest.items() if name in sizes}
    dynamic = [_dynamic(spec, batch, longest) for spec in model.signature.inputs]
    try:
        with quiet_torch(), torch.no_grad(), whole_recurrent_layers():
            shapes = _shapes(model.module, dynamic) if any(dynamic) else None
            return torch.export.export(model.module, examples, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises a different class for every way a model fails to trace
        raise CaptureError(_explain(model.name, error)) from error


def _dynamic(spec: TensorSpec, batch: Any, longest: dict[str, int]) -> dict[int, Any]:
    """Axis to what torch.export calls a dynamic dimension.

    Lengths are `DYNAMIC`, not named: a table of positions bounds a sum of two of them, which no range of one alone can
    say.
    """
    from torch.export import Dim

    lengths: dict[int, Any] = {
        axis: Dim.DYNAMIC(max=longest.get(dim))
        for axis, dim in enumerate(spec.shape)
        if axis > 0 and isinstance(dim, str)
    }
    first = {0: batch} if batch is not None and spec.shape and isinstance(spec.shape[0], str) else {}
    return {**first, **lengths}


def _shapes(module: Any, dynamic: list[dict[int, Any]]) -> tuple[Any, ...]:
    """`dynamic` in the form of the module's parameters: what `*past` collects is one nested tuple."""
    import inspect

    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return tuple(dynamic)
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*dynamic[:named], tuple(dynamic[named:]))


def _explain(name: str, error: Exception) -> str:
    """One line from torch's many: the failure and the innermost line of the model's own code."""
    import traceback

    import torch

    foreign = (str(Path(torch.__file__).parent), __file__, "<")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(foreign)]
    where = f" at {own[-1].filename}:{own[-1].lineno} ({(own[-1].line or '').strip()})" if own else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # Of a violated constraint the first line only says that there is one; the reason follows as a list.
    first = next((line for line in lines if line.startswith("- ") and "Constraints" in lines[0]), lines[0])
    return (
        f"expected {name} to trace with torch.export, found {type(error).__name__}: {first.removeprefix('- ')}{where}; "
        "remove the branch on tensor values there, or export with a fixed batch (--batch-size N)"
    )
