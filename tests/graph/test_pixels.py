"""The preprocessing inside a graph against `edgevit.preprocess`, in the engines that execute it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import openvino
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from edgevit.errors import BuildError
from edgevit.graph import storage
from edgevit.graph.pixels import with_pixels, write_preprocessing, write_with_pixels
from edgevit.preprocess import geometry, image_tensor
from edgevit.types import PIXELS, ImagePreprocess, OnnxModel, Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
SHAPES = {
    "square": {"mode": "RGB", "size": (12, 12), "crop_fraction": 0.875},
    "wide": {"mode": "L", "size": (8, 14), "crop_fraction": 0.9},
    "exact": {"mode": "BGR", "size": (13, 6), "resize": "exact"},
}


def spec_of(interpolation: str, shape: str) -> ImagePreprocess:
    channels = len(SHAPES[shape]["mode"])  # type: ignore[arg-type]
    values: Any = {**SHAPES[shape], "mean": (0.4, 0.5, 0.3)[:channels], "std": (0.2, 0.25, 0.3)[:channels]}
    return ImagePreprocess(interpolation=interpolation, **values)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, ImagePreprocess], Any]:
    """(engine, specification) -> pixels to what the graph makes of them; each is compiled once."""
    folder = tmp_path_factory.mktemp("pixels")
    made: dict[Any, Any] = {}

    def compiled(engine: str, spec: ImagePreprocess) -> Any:
        model = write_preprocessing(tensor_model(spec), spec, folder / f"{len(made)}.onnx")
        if engine == "openvino":
            settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
            request = openvino.Core().compile_model(str(model.path), "CPU", settings).create_infer_request()
            return lambda pixels: request.infer({PIXELS: pixels})[0].copy()
        session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
        return lambda pixels: session.run(None, {PIXELS: pixels})[0]

    def get(engine: str, spec: ImagePreprocess) -> Any:
        if (engine, spec) not in made:
            made[engine, spec] = compiled(engine, spec)
        return made[engine, spec]

    return get


def tensor_model(spec: ImagePreprocess) -> OnnxModel:
    """All that is read of the model: what it takes."""
    given = TensorSpec(name=spec.input, dtype="float32", shape=("batch", len(spec.mode), *spec.size))
    return OnnxModel(path=Path(), signature=Signature(inputs=(given,), outputs=()), opset=21, digest="")


def levels(found: NDArray[Any], expected: NDArray[Any], spec: ImagePreprocess) -> NDArray[Any]:
    return np.abs(found - expected) * np.asarray(spec.std)[:, None, None] * 255


def apart(height: int, width: int, spec: ImagePreprocess) -> NDArray[Any]:
    """Where the centre of a pixel of the result lies in a pixel of the source, and not on the border of two."""
    place = geometry(height, width, spec)
    sides = (
        ((2 * (first + np.arange(count)) + 1) * source % (2 * out)) != 0
        for source, out, first, count in zip(
            (height, width), (place.height, place.width), (place.top, place.left), spec.size, strict=True
        )
    )
    rows, columns = sides
    return np.logical_and(rows[:, None], columns[None, :])


def half_way(height: int, width: int, spec: ImagePreprocess) -> bool:
    """Whether a side of the resized image is exactly half way between two sizes: float64 decides that by chance."""
    high, wide = (math.floor(side / spec.crop_fraction) for side in spec.size)
    top, bottom = (width * high, height) if height * wide <= width * high else (height * wide, width)
    return spec.resize == "shortest" and high != wide and 2 * top % bottom == 0 and 2 * top // bottom % 2 == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@settings(max_examples=20)
@given(height=st.integers(1, 70), width=st.integers(1, 70), shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0))
@example(height=1, width=64, shape="square", seed=0)
@example(height=64, width=1, shape="wide", seed=1)
@example(height=12, width=12, shape="square", seed=2)
@example(height=301, width=500, shape="wide", seed=3)
@example(height=224, width=257, shape="square", seed=4)
def test_pixels_become_what_pillow_makes_of_them(
    run_in: Any, engine: str, interpolation: str, height: int, width: int, shape: str, seed: int
) -> None:
    """To the level, where it is not half way between two: a float sum may fall to the other side, in each pass."""
    spec = spec_of(interpolation, shape)
    assume(not half_way(height, width, spec))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    off = levels(run_in(engine, spec)(image[None])[0], image_tensor(image, spec), spec)
    if interpolation == "nearest":  # on a border Pillow takes the side that its sum of steps falls to
        off = np.where(apart(height, width, spec), off, 0)
        assert off.max() < 0.01
    assert off.max() < 2.01


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS[1:])
@pytest.mark.parametrize("shape", SHAPES)
def test_of_a_photograph_next_to_no_value_differs(run_in: Any, engine: str, interpolation: str, shape: str) -> None:
    spec = spec_of(interpolation, shape)
    image = np.random.default_rng(5).integers(0, 256, (301, 417, 3), dtype=np.uint8)
    off = levels(run_in(engine, spec)(image[None])[0], image_tensor(image, spec), spec)
    assert off.mean() < 0.01


def test_a_batch_is_every_image_by_itself(run_in: Any) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 40, 31, 3), dtype=np.uint8)
    for engine in ("openvino", "onnxruntime"):
        for interpolation in INTERPOLATIONS:
            run = run_in(engine, spec_of(interpolation, "square"))
            together = run(images)
            for image, row in zip(images, together, strict=True):
                np.testing.assert_array_equal(run(image[None])[0], row)


def test_the_whole_model_reads_pixels(tiny: Any, tmp_path: Path) -> None:
    spec = tiny.model.preprocess
    written = write_with_pixels(tiny.onnx, spec, tmp_path / "model.onnx")
    assert written.signature.inputs == (TensorSpec(name=PIXELS, dtype="uint8", shape=("batch", "height", "width", 3)),)
    assert written.signature.outputs == tiny.onnx.signature.outputs
    images = np.random.default_rng(1).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    open_session = functools.partial(onnxruntime.InferenceSession, providers=["CPUExecutionProvider"])
    expected = open_session(str(tiny.onnx.path)).run(
        None, {spec.input: np.stack([image_tensor(image, spec) for image in images])}
    )[0]
    found = open_session(str(written.path)).run(None, {PIXELS: images})[0]
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert np.abs(expected).max() > 0.5


def test_a_graph_of_another_input_is_refused(tiny: Any) -> None:
    other = ImagePreprocess(size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(BuildError, match=r"input pixel_values \(batch, 3, 16, 16\) to read pixels, found pixel_values"):
        with_pixels(storage.load(tiny.onnx.path), other)
