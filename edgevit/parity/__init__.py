"""Is a build as good as the float reference? Metrics, their statistics and the ladder of comparisons.

`ladder.climb` compares every stage in one pass over the evaluation samples, `compare.compare` one pair of outputs,
`parts` what was compared in several places;
`verdict` holds what a verdict rests on, `statistics` the tests behind it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.cluster import Workers
    from edgevit.progress import Progress
    from edgevit.types import ParityReport


class _Parity(ModuleType):
    """This package, which is also the public function of its name.

    Importing a package makes it an attribute of its parent, so that `edgevit.parity` is this module as soon as
    anything has imported it, and `edgevit.pipeline.parity` until then. Both can be called.
    """

    def __call__(
        self,
        bundle: str | Path,
        evaluation: str | None = None,
        target: str | None = None,
        progress: Progress | None = None,
        workers: Workers | None = None,
    ) -> ParityReport:
        function = importlib.import_module("edgevit.pipeline").parity
        compare: ParityReport = function(bundle, evaluation, target, progress, workers)
        return compare


sys.modules[__name__].__class__ = _Parity
