"""The values that pass between stages. All are frozen; those with a file form are msgspec structs.

Nothing of edgevit is imported here, and no heavy package: a value that carries an array or a torch module holds it
as an attribute without importing its library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgevit.types.builds import Build, BuildFile, BuildPart, Engine, ExecutedLayer, Execution, Machine
from edgevit.types.measures import (
    BeamRate,
    BenchEntry,
    BenchReport,
    ColdStart,
    Conditions,
    GenerationTimes,
    Latency,
    MemoryAt,
    Ratio,
    Reading,
)
from edgevit.types.models import FloatModel, FloatPart, OnnxModel
from edgevit.types.parity import (
    Closeness,
    CorpusScore,
    Flips,
    Interval,
    LayerParity,
    LengthBin,
    ParityReport,
    PixelDifference,
    Rung,
    TaskComparison,
    TokenAgreement,
    WorstSample,
)
from edgevit.types.plan import CalibrationStats, ChannelStats, LayerPlan, QuantPlan, SkippedLayer
from edgevit.types.preprocessing import PIXELS, PREPROCESSING, Generation, ImagePreprocess, Preprocess, TextPreprocess
from edgevit.types.signature import PRECISIONS, UNTAGGED, Precision, Signature, Task, TensorSpec, Value, Verdict
from edgevit.types.sweeps import Spread, SweepCell, SweepLine, SweepReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]
    FloatArray = NDArray[np.float32]

__all__ = [
    "PIXELS",
    "PRECISIONS",
    "PREPROCESSING",
    "UNTAGGED",
    "BeamRate",
    "BenchEntry",
    "BenchReport",
    "Build",
    "BuildFile",
    "BuildPart",
    "CalibrationStats",
    "ChannelStats",
    "Closeness",
    "ColdStart",
    "Conditions",
    "CorpusScore",
    "Engine",
    "ExecutedLayer",
    "Execution",
    "Flips",
    "FloatModel",
    "FloatPart",
    "Generation",
    "GenerationTimes",
    "ImagePreprocess",
    "Interval",
    "Latency",
    "LayerParity",
    "LayerPlan",
    "LengthBin",
    "Machine",
    "MemoryAt",
    "OnnxModel",
    "ParityReport",
    "PixelDifference",
    "Precision",
    "Preprocess",
    "QuantPlan",
    "Ratio",
    "Reading",
    "Rung",
    "Signature",
    "SkippedLayer",
    "Spread",
    "SweepCell",
    "SweepLine",
    "SweepReport",
    "Task",
    "TaskComparison",
    "TensorSpec",
    "TextPreprocess",
    "TokenAgreement",
    "Value",
    "Verdict",
    "WorstSample",
]
