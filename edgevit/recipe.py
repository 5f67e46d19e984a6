"""A recipe: everything one export needs, as TOML that people read and edit.

    model = "zoo:digits-vit"
    targets = ["openvino:float32", "openvino:int8"]

    [calibration]
    samples = 256

Unknown keys are errors that name the key; relative paths are relative to the recipe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgevit.errors import RecipeError
from edgevit.types import Value


class TraceSettings(Value, frozen=True, kw_only=True):
    batch: int | None = None
    """A fixed batch; absent for a dynamic one."""
    max_batch: int = 8
    """The largest batch that the lowered graph is compared with torch at, besides 1, 2 and 3."""
    image_size: tuple[int, int] | None = None
    """(height, width); position embeddings are interpolated once for it. Absent: the model's own."""


class CalibrationSettings(Value, frozen=True, kw_only=True):
    set: str | None = None
    """SET; absent for the one the model was published with."""
    samples: int = 256
    """At most this many, stratified by label and seeded; a smaller set is taken whole."""
    seed: int = 0
    batch: int = 4
    """Samples per run; changes memory, never the result."""


class EvaluationSettings(Value, frozen=True, kw_only=True):
    set: str | None = None
    samples: int | None = None
    """Absent for all of them."""
    batch: int = 16


class PlanSettings(Value, frozen=True, kw_only=True):
    file: str | None = None
    """A plan to use as it is; nothing is calibrated then."""
    ranges: str = "search"
    weights: Literal["search", "min-max"] = "search"
    equalize: tuple[Literal["norm", "values", "multiply"], ...] = ("norm", "values", "multiply")
    bias_correction: bool = True
    skip: tuple[str, ...] = ()
    """Patterns of parameter names that stay in float."""
    cpu: Literal["auto", "any", "vnni"] = "auto"
    """`any`: int8 weights that cannot overflow on x86-64 without VNNI. `vnni`: full range, for processors with it.
    `auto`: what the exporting processor needs."""


class ParitySettings(Value, frozen=True, kw_only=True):
    budget: float = 0.5
    """Points of the task's metric a build may lose."""
    layers: int = 8
    """Samples for the per-layer table; 0 for none."""
    golden: int = 4
    """Evaluation samples stored for the self-test on the device."""


class BenchSettings(Value, frozen=True, kw_only=True):
    enabled: bool = True
    batch_sizes: tuple[int, ...] = (1,)
    threads: tuple[int, ...] = ()
    seconds: float = 2.0
    rounds: int = 8
    cold_starts: int = 2


class Recipe(Value, frozen=True, kw_only=True):
    model: str
    weights: str | None = None
    targets: tuple[str, ...] = ("openvino:float32", "openvino:int8")
    when_available: tuple[str, ...] = ()
    """Targets that are built where this machine can and reported as not executed where it cannot."""
    options: dict[str, dict[str, str]] = {}
    """Target (`openvino:int8`) to its own options."""
    trace: TraceSettings = TraceSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    plan: PlanSettings = PlanSettings()
    parity: ParitySettings = ParitySettings()
    bench: BenchSettings = BenchSettings()


def read_recipe(path: Path) -> Recipe:
    """The recipe in a TOML file; sets, weights and plans it names by relative path are found from its folder.

    Raises RecipeError naming the key for anything unknown or of the wrong type.
    """
    try:
        recipe = msgspec.toml.decode(path.read_bytes(), type=Recipe)
    except OSError as error:
        raise RecipeError(f"expected a recipe at {path}, which cannot be read: {error.strerror}; check the path") from error
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {_sentence(error)}; see export/README.md for the keys of a recipe") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected TOML, found {error}") from error
    return _anchored(recipe, path.parent)


def check_recipe(recipe: Recipe) -> None:
    """Numbers that make no sense, found before any work begins."""
    counts = {
        "calibration.samples": recipe.calibration.samples,
        "calibration.batch": recipe.calibration.batch,
        "evaluation.batch": recipe.evaluation.batch,
        "parity.golden": recipe.parity.golden,
        "trace.max_batch": recipe.trace.max_batch,
        "trace.batch": 1 if recipe.trace.batch is None else recipe.trace.batch,
        "evaluation.samples": 1 if recipe.evaluation.samples is None else recipe.evaluation.samples,
    }
    for key, value in counts.items():
        if value < 1:
            raise RecipeError(f"expected {key} of at least 1, found {value}")
    if not recipe.targets:
        raise RecipeError("expected at least one target, found none; add for example targets = ['openvino:int8']")
    if recipe.parity.budget < 0:
        raise RecipeError(f"expected parity.budget of at least 0 points, found {recipe.parity.budget}")
    unknown = set(recipe.options) - set(recipe.targets) - set(recipe.when_available)
    if unknown:
        raise RecipeError(f"expected options of targets that are built, found options for {', '.join(sorted(unknown))}")


def _anchored(recipe: Recipe, folder: Path) -> Recipe:
    def anchor(text: str | None) -> str | None:
        if text is None or ":" in text or Path(text).is_absolute():
            return text
        return str(folder / text)

    replace = msgspec.structs.replace
    return replace(
        recipe,
        weights=anchor(recipe.weights),
        calibration=replace(recipe.calibration, set=anchor(recipe.calibration.set)),
        evaluation=replace(recipe.evaluation, set=anchor(recipe.evaluation.set)),
        plan=replace(recipe.plan, file=anchor(recipe.plan.file)),
    )


def _sentence(error: msgspec.ValidationError) -> str:
    text = str(error)
    return text[:1].lower() + text[1:]
