"""Builds with the preprocessing of images inside: asked for by the option `input`, made, and compared on raw images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.bundle import Bundle
from edgevit.errors import InputError, SetError
from edgevit.files import inside
from edgevit.graph.pixels import write_preprocessing, write_with_pixels
from edgevit.preprocess import image_tensor, raw_pixels
from edgevit.runtime.pixels import run_images
from edgevit.targets import get_target, parse_target, target_names
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.types import (
    PIXELS,
    PREPROCESSING,
    Build,
    ImagePreprocess,
    PixelDifference,
    QuantPlan,
    Signature,
    TensorSpec,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edgevit.parity.ladder import Runnable
    from edgevit.pipeline.evaluation import Evaluation
    from edgevit.recipe import Recipe
    from edgevit.sets import Batch, SampleSet
    from edgevit.targets.base import EngineSession, Target
    from edgevit.types import Arrays, FloatModel, Preprocess

OPTION = "input"
FORMS = ("array", "pixels")
COMPARED = 256
"""Images whose pixels are compared one by one, at most."""


def with_input(recipe: Recipe, form: str) -> Recipe:
    """The recipe with `--input` for all its builds. Raises InputError for a form that none has."""
    if form not in FORMS:
        raise InputError(
            f"expected --input as {' or '.join(FORMS)}, found {form!r}; a recipe has the targets' own forms"
        )
    texts = (*recipe.targets, *recipe.when_available)
    options = {**recipe.options, **{text: {**recipe.options.get(text, {}), OPTION: form} for text in texts}}
    return msgspec.structs.replace(recipe, options=options)


def wants_pixels(options: Mapping[str, str]) -> bool:
    return options.get(OPTION) == "pixels"


def own_options(target: Target, options: dict[str, str]) -> dict[str, str]:
    """The options that are the target's own business: `array` is what every target does unasked."""
    form = options.get(OPTION)
    if form is not None and getattr(target, "pixels", False) and form not in FORMS:
        raise InputError(f"expected options of {target.name} (input={'|'.join(FORMS)}), found input={form}")
    return {key: value for key, value in options.items() if key != OPTION or value not in FORMS}


def check_input(text: str, options: dict[str, str]) -> None:
    """Raises InputError for pixels where the target cannot take them."""
    name, precision = parse_target(text)
    target = get_target(name)
    own = own_options(target, options)
    check = getattr(target, "check_pixels", None)
    if wants_pixels(options) and check is not None:
        check(precision, own)
    if wants_pixels(options) and not getattr(target, "pixels", False):
        able = ", ".join(name for name in target_names() if getattr(get_target(name), "pixels", False))
        raise InputError(
            f"expected a target that holds the preprocessing ({able}) for input=pixels, found {text}; leave it out"
            + (", or give input=image: pixels of the model's own size" if target.name == "coreml" else "")
        )


def check_model(model: FloatModel, samples: SampleSet, targets: Sequence[str], recipe: Recipe) -> None:
    """Raises InputError or SetError where pixels are wanted of what has none."""
    wanted = [text for text in targets if wants_pixels(recipe.options.get(text, {}))]
    if not wanted:
        return
    if not isinstance(model.preprocess, ImagePreprocess):
        raise InputError(f"expected a model of images for {wanted[0]} with input=pixels, found {model.name}, of texts")
    if samples.kind != "image":
        raise SetError(
            f"set {samples.name!r}: expected images to compare {wanted[0]} with input=pixels on, found "
            f"{samples.kind}s; give another --evaluation"
        )


# ------------------------------------------------------------------------------------------------ building


def source_with_pixels(source: BuildSource, preprocess: Preprocess, folder: Path) -> BuildSource:
    """The source with the preprocessing in front of its graphs, which are written into `folder`."""
    assert isinstance(preprocess, ImagePreprocess)
    folder.mkdir()
    onnx = write_with_pixels(source.onnx, preprocess, folder / "float.onnx")
    quantized = source.quantized and write_with_pixels(source.quantized, preprocess, folder / "quantized.onnx")
    return msgspec.structs.replace(source, onnx=onnx, quantized=quantized)


def preprocessing_alone(source: BuildSource, preprocess: Preprocess, folder: Path) -> BuildSource:
    """What a target builds the preprocessing by itself from, as it builds the model; the graph lies in `folder`."""
    assert isinstance(preprocess, ImagePreprocess)
    graph = write_preprocessing(source.onnx, preprocess, folder / "alone.onnx")
    nothing = QuantPlan(model="", model_digest="", layers=())
    return BuildSource(float_model=None, onnx=graph, quantized=graph, plan=nothing)


def pixel_signature(signature: Signature) -> Signature:
    """That of a build with the preprocessing inside."""
    batch = signature.inputs[0].shape[0]
    pixels = TensorSpec(name=PIXELS, dtype="uint8", shape=(batch, "height", "width", 3))
    return Signature(inputs=(pixels,), outputs=signature.outputs)


# ----------------------------------------------------------------------------------------------- comparing


class OnRawImages:
    """A session with the preprocessing inside, as a stage of the ladder: batches hold images of any sizes."""

    def __init__(self, session: EngineSession, build: Build, spec: ImagePreprocess) -> None:
        self._session, self._spec = session, spec
        self._batch = fixed_batch(build)

    def run(self, inputs: Arrays) -> Arrays:
        return run_images(self._session.run, list(inputs[PIXELS]), self._spec, self._batch)


def fed(evaluation: Evaluation, build: Build, session: EngineSession) -> tuple[Runnable, Iterator[Batch]]:
    """An opened build as a stage of the ladder, and the batches it reads: prepared, or of raw images."""
    if build.takes_pixels and isinstance(evaluation.preprocess, ImagePreprocess):
        return OnRawImages(session, build, evaluation.preprocess), evaluation.raw_batches()
    return session, evaluation.batches()


def fixed_batch(build: Build) -> int | None:
    first = build.signature.inputs[0].shape[0]
    return first if isinstance(first, int) else None


def pixel_difference(bundle: Bundle, build: Build, samples: SampleSet) -> PixelDifference | None:
    """How far the build's own preprocessing is from `edgevit.preprocess`; None where the build has no copy of it."""
    spec = bundle.manifest.preprocess
    assert isinstance(spec, ImagePreprocess)
    directory = inside(bundle.directory(build), PREPROCESSING)
    if not directory.is_dir():
        return None
    alone = msgspec.structs.replace(build, signature=_signature_alone(build, spec))
    session = get_target(build.target).open(directory, alone, OpenOptions())
    largest = total = 0.0
    values, images = 0, samples.samples[:COMPARED]
    try:
        for sample in images:
            image = sample.image()
            found = run_images(session.run, [raw_pixels(image)], spec, fixed_batch(build))
            levels = _levels(found[alone.signature.outputs[0].name][0] - image_tensor(image, spec), spec)
            largest = max(largest, float(levels.max()))
            total, values = total + float(levels.sum()), values + levels.size
    finally:
        session.close()
    return PixelDifference(images=len(images), largest=largest, mean=total / values)


def _signature_alone(build: Build, spec: ImagePreprocess) -> Signature:
    batch = build.signature.inputs[0].shape[0]
    prepared = TensorSpec(name="prepared", dtype="float32", shape=(batch, len(spec.mode), *spec.size))
    return Signature(inputs=build.signature.inputs, outputs=(prepared,))


def _levels(difference: NDArray[Any], spec: ImagePreprocess) -> NDArray[np.float64]:
    """Normalized numbers as levels of eight bits, without sign."""
    scale = 255 * np.asarray(spec.std, np.float64)[:, None, None]
    levels: NDArray[np.float64] = np.abs(difference * scale)
    return levels
