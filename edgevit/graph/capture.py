"""torch.export of a float model, with a dynamic or a fixed batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import CaptureError, missing_package
from edgevit.graph.quiet import quiet_torch

if TYPE_CHECKING:
    import torch

    from edgevit.types import FloatModel, TensorSpec

MAX_BATCH = 8


class CaptureOptions(msgspec.Struct, frozen=True, kw_only=True):
    batch: int | None = None
    """A fixed batch, or None for a dynamic one."""
    max_batch: int = MAX_BATCH


def capture(model: FloatModel, options: CaptureOptions | None = None) -> torch.export.ExportedProgram:
    """The model as a torch.export program; its first dimension is dynamic unless a batch is fixed.

    Raises CaptureError, naming the module and the line, when the model does not trace.
    """
    options = options or CaptureOptions()
    try:
        import torch
    except ModuleNotFoundError as error:
        raise missing_package("torch", "export", "tracing a model") from error
    examples = tuple(example_input(spec, options.batch or 2) for spec in model.signature.inputs)
    shapes = None
    if options.batch is None:
        # Traced at batch 2: an example of batch 1 can bake the 1 in.
        batch = torch.export.Dim("batch", min=1, max=options.max_batch)
        shapes = tuple(
            {0: batch} if spec.shape and isinstance(spec.shape[0], str) else {} for spec in model.signature.inputs
        )
    try:
        with quiet_torch(), torch.no_grad():
            return torch.export.export(model.module, examples, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # torch.export raises a different class for every way a model fails to trace
        raise CaptureError(_explain(model.name, error)) from error


def example_input(spec: TensorSpec, batch: int) -> Any:
    """A seeded tensor of a signature's type; every named dimension gets `batch`."""
    import torch

    shape = [dim if isinstance(dim, int) else batch for dim in spec.shape]
    generator = torch.Generator().manual_seed(0)
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator, dtype=dtype)
    return torch.zeros(shape, dtype=dtype)


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
