"""What a plan does to the model's outputs, simulated: the Q/DQ graph executed as written, in float32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.graph.execute import Executor
from edgevit.quantize.write_onnx import write_quantized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgevit.types import Arrays, OnnxModel, QuantPlan


class Judges(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Samples with the float graph's outputs, which any number of plans are compared with."""

    model: OnnxModel
    batches: tuple[Arrays, ...]
    expected: tuple[Arrays, ...]


def judges_of(model: OnnxModel, batches: Iterable[Arrays]) -> Judges:
    """Runs the float graph, once."""
    batches = tuple(batches)
    with Executor(model.path) as executor:
        return Judges(model=model, batches=batches, expected=tuple(executor.run(batch) for batch in batches))


def sqnr_before(judges: Judges, plan: QuantPlan) -> float:
    """SQNR in dB of all outputs of the simulated quantized model against the float graph, over all batches."""
    signal = noise = 0.0
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        quantized = write_quantized(judges.model, plan, Path(folder) / judges.model.path.name)
        with Executor(quantized.path, exact=True) as executor:
            for batch, expected in zip(judges.batches, judges.expected, strict=True):
                found = executor.run(batch)
                for name, reference in expected.items():
                    wide = reference.astype(np.float64)
                    signal += float(np.square(wide).sum())
                    noise += float(np.square(wide - found[name]).sum())
    return float(10 * np.log10(max(signal, 1e-300) / max(noise, 1e-300)))


def simulated_sqnr(model: OnnxModel, plan: QuantPlan, batches: Iterable[Arrays]) -> float:
    """`sqnr_before` judges that are needed for this plan alone."""
    return sqnr_before(judges_of(model, batches), plan)
