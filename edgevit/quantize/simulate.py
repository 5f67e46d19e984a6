"""What a plan does to the model's outputs, simulated: the Q/DQ graph executed as written, in float32."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgevit.graph.execute import Executor
from edgevit.quantize.write_onnx import write_quantized

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgevit.types import Arrays, OnnxModel, QuantPlan


def simulated_sqnr(model: OnnxModel, plan: QuantPlan, batches: Iterable[Arrays]) -> float:
    """SQNR in dB of all outputs of the simulated quantized model against the float graph."""
    signal = noise = 0.0
    with tempfile.TemporaryDirectory(prefix="edgevit-") as folder:
        quantized = write_quantized(model, plan, Path(folder) / model.path.name)
        with Executor(model.path) as floating, Executor(quantized.path, exact=True) as simulated:
            for batch in batches:
                expected, found = floating.run(batch), simulated.run(batch)
                for name, reference in expected.items():
                    wide = reference.astype(np.float64)
                    signal += float(np.square(wide).sum())
                    noise += float(np.square(wide - found[name]).sum())
    return float(10 * np.log10(max(signal, 1e-300) / max(noise, 1e-300)))
