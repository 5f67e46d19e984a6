"""A recipe: everything one export needs, as TOML that people read and edit.

    model = "zoo:digits-vit"
    targets = ["openvino:float32", "openvino:int8"]

    [calibration]
    samples = 256

Unknown keys are errors that name the key; relative paths are relative to the recipe.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgevit.errors import RecipeError
from edgevit.files.python import names_function
from edgevit.types import ImagePreprocess, Task, Value

LARGEST_IMAGE = 4096
"""Pixels of a side; a mistyped digit would otherwise ask for terabytes of attention."""


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
    """MODEL as on the command line: `zoo:NAME`, a Hugging Face directory, `timm:ARCH`, a .pt2 or .onnx file,
    `package.module:factory`."""
    weights: str | None = None
    task: Task | None = None
    """Absent: what the model itself says; a .pt2 and most .onnx files say nothing."""
    preprocess: ImagePreprocess | None = None
    """In place of the model's own; a factory needs it, because nothing else tells its input."""
    labels: tuple[str, ...] = ()
    """One per class, in the order of the outputs; empty for the model's own."""
    label_map: str | None = None
    """A file from what the sets call their classes to what the model calls them (JSON, TOML, or CSV: set,model)."""
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
        raise RecipeError(
            f"expected a recipe at {path}, which cannot be read: {error.strerror}; check the path"
        ) from error
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {explained(error)}; see export/README.md for the keys of a recipe") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected TOML, found an error: {' '.join(str(error).split())}") from error
    return _anchored(recipe, path.parent)


def check_recipe(recipe: Recipe) -> None:
    """Numbers that make no sense, found before any work begins."""
    least = {
        "calibration.samples": (recipe.calibration.samples, 1),
        "calibration.batch": (recipe.calibration.batch, 1),
        "calibration.seed": (recipe.calibration.seed, 0),
        "evaluation.samples": (recipe.evaluation.samples, 1),
        "evaluation.batch": (recipe.evaluation.batch, 1),
        "parity.golden": (recipe.parity.golden, 1),
        "parity.layers": (recipe.parity.layers, 0),
        "trace.batch": (recipe.trace.batch, 1),
        "trace.max_batch": (recipe.trace.max_batch, 1),
    }
    for key, (value, bound) in least.items():
        if value is not None and value < bound:
            raise RecipeError(f"expected {key} of at least {bound}, found {value}; correct the recipe or the option")
    for side in recipe.trace.image_size or ():
        if not 1 <= side <= LARGEST_IMAGE:
            raise RecipeError(f"expected an image size of 1 to {LARGEST_IMAGE} pixels a side, found {side}; correct it")
    if not recipe.targets:
        raise RecipeError("expected at least one target, found none; add for example targets = ['openvino:int8']")
    if not 0 < recipe.parity.budget < 100:
        # No number of samples shows a loss of exactly nothing, and any model keeps a budget of everything.
        raise RecipeError(
            f"expected parity.budget above 0 and below 100 points, found {recipe.parity.budget}; correct the recipe or "
            "--budget"
        )
    unknown = set(recipe.options) - set(recipe.targets) - set(recipe.when_available)
    if unknown:
        raise RecipeError(
            f"expected options of targets that are built, found options for {', '.join(sorted(unknown))}; "
            "name the target as it stands in targets"
        )


def _anchored(recipe: Recipe, folder: Path) -> Recipe:
    def anchor(text: str | None) -> str | None:
        if text is None or text.startswith("zoo:") or names_function(text) or Path(text).is_absolute():
            return text
        return str(folder / text)

    replace = msgspec.structs.replace
    return replace(
        recipe,
        model=recipe.model if ":" in recipe.model else str(anchor(recipe.model)),
        weights=anchor(recipe.weights),
        label_map=anchor(recipe.label_map),
        calibration=replace(recipe.calibration, set=anchor(recipe.calibration.set)),
        evaluation=replace(recipe.evaluation, set=anchor(recipe.evaluation.set)),
        plan=replace(recipe.plan, file=anchor(recipe.plan.file)),
    )


# ------------------------------------------------------------------------------------------------- errors


def explained(error: msgspec.ValidationError) -> str:
    """What is wrong with a recipe's value, with its key and the choices there are."""
    message, _, place = str(error).partition(" - at `")
    keys = re.findall(r"[\w-]+|\[[^]]*\]", place.removeprefix("$").removesuffix("`"))
    key = "".join(part if part.startswith("[") else f".{part}" for part in keys).lstrip(".")
    kind = _type_at(keys)
    found = re.fullmatch(r"(?:Invalid enum value|Object contains unknown field) [`'](.*)[`']", message)
    if isinstance(kind, msgspec.inspect.StructType) and found:
        choices = ", ".join(field.encode_name for field in kind.fields)
        return f"expected a key of {f'[{key}]' if key else 'a recipe'} ({choices}), found {found[1]!r}"
    if isinstance(kind, msgspec.inspect.LiteralType) and found:
        return f"expected {key} as one of {', '.join(map(str, kind.values))}, found {found[1]!r}"
    return f"{message[:1].lower()}{message[1:].replace('`', '')}" + (f" in {key}" if key else "")


def _type_at(keys: list[str]) -> Any:
    """The type of the value that the keys lead to from a recipe; None where they lead nowhere."""
    kind: Any = msgspec.inspect.type_info(Recipe)
    for key in keys:
        if isinstance(kind, msgspec.inspect.StructType):
            kind = next((field.type for field in kind.fields if field.encode_name == key), None)
        elif isinstance(kind, msgspec.inspect.DictType):
            kind = kind.value_type
        else:
            kind = getattr(kind, "item_type", None)
        if isinstance(kind, msgspec.inspect.UnionType):
            kind = next(member for member in kind.types if not isinstance(member, msgspec.inspect.NoneType))
    return kind
