"""The numerics of an engine executed without a GPU: the graph it was compiled from, every rounding written out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_simulation(source: Path, path: Path) -> int:
    """Writes a float32 ONNX that rounds as the prepared graph `source` does; returns the number of roundings.

    Q/DQ pairs run as written. A recurrent layer rounds what it gives, not its state at each step. Execute the file
    with `Executor(path, exact=True)`.
    """
    from edgevit.graph import storage
    from edgevit.graph.passes.half_simulated import half_simulated

    graph = storage.load(source)
    roundings = half_simulated(graph)
    storage.save(graph, path)
    return roundings
