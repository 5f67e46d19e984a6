"""edgevit: small, fast, proven builds of trained Transformers for the devices they will run on.

Everything below is loaded when it is first used, so that `import edgevit` costs nothing and a device needs only what
it runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load": "edgevit.runtime",
    "Model": "edgevit.runtime",
    "export": "edgevit.pipeline",
    "bench": "edgevit.pipeline",
    "parity": "edgevit.pipeline",
    "verify": "edgevit.pipeline",
    "inspect": "edgevit.pipeline",
    "doctor": "edgevit.pipeline",
    "run": "edgevit.pipeline",
    "sweep": "edgevit.pipeline",
    "ExportOptions": "edgevit.pipeline",
    "SweepOptions": "edgevit.pipeline",
    "Workers": "edgevit.cluster",
    "BenchOptions": "edgevit.measure",
    "Recipe": "edgevit.recipe",
    "read_recipe": "edgevit.recipe",
    "read_bench": "edgevit.pipeline",
    "EdgevitError": "edgevit.errors",
}

if TYPE_CHECKING:
    from edgevit.cluster import Workers as Workers
    from edgevit.errors import EdgevitError as EdgevitError
    from edgevit.measure import BenchOptions as BenchOptions
    from edgevit.pipeline import ExportOptions as ExportOptions
    from edgevit.pipeline import SweepOptions as SweepOptions
    from edgevit.pipeline import bench as bench
    from edgevit.pipeline import doctor as doctor
    from edgevit.pipeline import export as export
    from edgevit.pipeline import inspect as inspect
    from edgevit.pipeline import parity as parity
    from edgevit.pipeline import read_bench as read_bench
    from edgevit.pipeline import run as run
    from edgevit.pipeline import sweep as sweep
    from edgevit.pipeline import verify as verify
    from edgevit.recipe import Recipe as Recipe
    from edgevit.recipe import read_recipe as read_recipe
    from edgevit.runtime import Model as Model
    from edgevit.runtime import load as load

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgevit' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
