"""Images to tensors: the numbers against references, every kind of image, every kind of bad file."""

from __future__ import annotations

import io
import math
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.errors import PreprocessError
from edgevit.preprocess import (
    FORMATS,
    MAX_PIXELS,
    check_preprocess,
    geometry,
    image_tensor,
    images_batch,
    load_image,
)
from edgevit.types import ImagePreprocess

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def spec_of(size: int | tuple[int, int] = 32, **fields: object) -> ImagePreprocess:
    height_width = (size, size) if isinstance(size, int) else size
    values: dict[str, object] = {"size": height_width, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, **fields}
    return ImagePreprocess(**values)  # type: ignore[arg-type]


def noise(height: int, width: int, *, seed: int = 0) -> Image.Image:
    """Structure and noise, so that a wrong filter, a wrong crop and a swapped axis all show."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    base = np.stack([rows * 255 / height, columns * 255 / width, (rows + columns) % 256], axis=2)
    return Image.fromarray(np.clip(base + rng.normal(0, 30, base.shape), 0, 255).astype(np.uint8))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


# ---------------------------------------------------------------------------------------------- the numbers


def reference_tensor(image: Image.Image, size: int, crop_fraction: float, resample: Image.Resampling) -> np.ndarray:
    """The evaluation transform of timm and torchvision for a square size, written out with Pillow."""
    goal = math.floor(size / crop_fraction)
    width, height = image.size
    if width <= height:
        width, height = goal, int(goal * height / width)
    else:
        width, height = int(goal * width / height), goal
    # In two steps, so that every version of Pillow begins with the rows, as those did that models were scored with.
    resized = image.resize((width, image.height), resample).resize((width, height), resample)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    pixels = np.array(resized.crop((left, top, left + size, top + size)))
    channels = [
        (pixels[:, :, channel].astype(np.float32) / np.float32(255) - np.float32(mean)) / np.float32(std)
        for channel, (mean, std) in enumerate(zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
    ]
    return np.stack(channels)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("height", "width"), [(60, 81), (120, 47), (33, 33), (20, 25), (64, 64)])
@pytest.mark.parametrize("crop_fraction", [1.0, 0.875, 0.9])
def test_tensor_equals_the_reference_transform(
    interpolation: str, height: int, width: int, crop_fraction: float
) -> None:
    image = noise(height, width)
    expected = reference_tensor(image, 32, crop_fraction, Image.Resampling[interpolation.upper()])
    tensor = image_tensor(image, spec_of(32, crop_fraction=crop_fraction, interpolation=interpolation))
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    np.testing.assert_array_equal(tensor, expected)


def triangle(x: np.ndarray) -> np.ndarray:
    return np.clip(1 - np.abs(x), 0, None)


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = -0.5."""
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def filter_matrix(source: int, goal: int, kernel: object) -> np.ndarray:
    """Rows of weights of an antialiased resize: the kernel widened by the scale when shrinking."""
    scale = source / goal
    centers = (np.arange(goal)[:, None] + 0.5) * scale
    weights = kernel((np.arange(source)[None] + 0.5 - centers) / max(scale, 1.0))  # type: ignore[operator]
    return weights / weights.sum(axis=1, keepdims=True)


def half_up(x: np.ndarray) -> np.ndarray:
    return np.floor(x + 0.5 + 1e-9)


@pytest.mark.parametrize(("interpolation", "kernel"), [("bilinear", triangle), ("bicubic", cubic)])
@pytest.mark.parametrize(("height", "width"), [(90, 70), (15, 11), (40, 40)])
def test_resize_is_the_antialiased_filter_of_its_name(
    interpolation: str, kernel: object, height: int, width: int
) -> None:
    image = noise(height, width)
    spec = spec_of(28, resize="exact", interpolation=interpolation, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    vertical, horizontal = filter_matrix(height, 28, kernel), filter_matrix(width, 28, kernel)
    # Pillow filters the rows first and rounds to 8 bits after each pass. Its weights are fixed point, so a value half
    # way between two levels may fall to the other one.
    rows = np.clip(half_up(np.einsum("hwc,bw->hbc", np.asarray(image, dtype=np.float64), horizontal)), 0, 255)
    expected = np.clip(half_up(np.einsum("ah,hbc->cab", vertical, rows)), 0, 255)
    difference = np.abs(np.rint(image_tensor(image, spec) * 255) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


def test_known_sizes_of_published_checkpoints() -> None:
    assert geometry(375, 500, spec_of(224, crop_fraction=0.875)) == (256, 341, 16, 58)
    assert geometry(375, 500, spec_of(224, crop_fraction=0.9)) == (248, 330, 12, 53)
    assert geometry(500, 375, spec_of(384, crop_fraction=1.0)) == (512, 384, 64, 0)
    assert geometry(100, 300, spec_of(48, resize="exact", crop_fraction=0.75)) == (64, 64, 8, 8)
    assert geometry(100, 300, spec_of((32, 64))) == (32, 96, 0, 16)
    assert geometry(300, 100, spec_of((32, 64))) == (192, 64, 80, 0)


sides = st.integers(1, 3000)


@given(sides, sides, st.integers(1, 512), st.floats(0.25, 1.0))
def test_shortest_keeps_aspect_and_centres_the_crop(height: int, width: int, size: int, fraction: float) -> None:
    spec = spec_of(size, crop_fraction=fraction)
    place = geometry(height, width, spec)
    goal = math.floor(size / fraction)
    assert min(place.height, place.width) == goal
    longer, ratio = max(place.height, place.width), max(height, width) / min(height, width)
    assert goal * ratio - 1 - 1e-6 * longer <= longer <= goal * ratio + 1e-6 * longer
    assert (place.height <= place.width) == (height <= width) or longer == goal
    for side, corner in ((place.height, place.top), (place.width, place.left)):
        assert 0 <= corner <= side - size
        assert abs(corner - (side - size) / 2) <= 0.5


@given(sides, sides, st.tuples(st.integers(1, 300), st.integers(1, 300)), st.floats(0.25, 1.0))
def test_other_shapes_cover_the_crop_and_touch_it_on_one_side(
    height: int, width: int, size: tuple[int, int], fraction: float
) -> None:
    goals = [math.floor(side / fraction) for side in size]
    place = geometry(height, width, spec_of(size, crop_fraction=fraction))
    assert place.height >= goals[0] and place.width >= goals[1]
    assert place.height == goals[0] or place.width == goals[1]
    exact = geometry(height, width, spec_of(size, crop_fraction=fraction, resize="exact"))
    assert [exact.height, exact.width] == goals
    assert 0 <= exact.top <= exact.height - size[0] and 0 <= exact.left <= exact.width - size[1]


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 24), st.sampled_from(["shortest", "exact"]))
def test_every_image_gives_the_shape_that_was_asked_for(height: int, width: int, size: int, resize: str) -> None:
    tensor = image_tensor(noise(height, width), spec_of((size, size + 3), resize=resize))
    assert tensor.shape == (3, size, size + 3)
    assert np.isfinite(tensor).all()


def test_grey_model_takes_the_luma_of_a_colour_image() -> None:
    spec = spec_of(2, mode="L", mean=(0.0,), std=(1.0,))
    tensor = image_tensor(Image.new("RGB", (2, 2), (200, 100, 50)), spec)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    np.testing.assert_array_equal(tensor, np.full((1, 2, 2), np.float32(luma) / np.float32(255)))


def test_colour_model_repeats_a_grey_image() -> None:
    grey = noise(8, 8).convert("L")
    tensor = image_tensor(grey, spec_of(8, mean=(0.0,) * 3, std=(1.0,) * 3))
    for channel in tensor:
        np.testing.assert_array_equal(channel, np.asarray(grey, dtype=np.float32) / np.float32(255))


def test_batch_is_the_stack_of_its_images() -> None:
    images = [noise(20 + n, 30, seed=n) for n in range(3)]
    batch = images_batch([images[0], saved(images[1], "PNG"), np.asarray(images[2])], spec_of(16))
    assert batch.shape == (3, 3, 16, 16)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, np.stack([image_tensor(image, spec_of(16)) for image in images]))
    with pytest.raises(PreprocessError, match="at least one image"):
        images_batch([], spec_of(16))


# ------------------------------------------------------------------------------------------- kinds of image

# What is shown, from what is stored: row 0 and column 0 of the stored pixels lie where EXIF 2.32, 4.6.4 A says.
SHOWN = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_exif_orientation_is_applied_once(form: str, orientation: int) -> None:
    stored = np.asarray(noise(5, 9))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(stored), form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    expected = SHOWN[orientation](stored)
    image = load_image(data)
    np.testing.assert_array_equal(np.asarray(image), expected)
    np.testing.assert_array_equal(np.asarray(load_image(image)), expected)
    handed_in = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(load_image(handed_in)), expected)
    tensor = image_tensor(data, spec_of(expected.shape[:2], mean=(0.0,) * 3, std=(1.0,) * 3))
    np.testing.assert_array_equal(np.rint(tensor * 255).transpose(1, 2, 0), expected)


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    stored = np.zeros((16, 32), dtype=np.uint8)
    stored[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "phone.jpg"
    path.write_bytes(saved(Image.fromarray(stored), "JPEG", exif=exif, quality=95))
    shown = np.asarray(load_image(path))
    assert shown.shape == (32, 16)
    assert shown[:7].min() > 200 and shown[9:].max() < 50


@pytest.mark.parametrize("value", [0, 9, 60000])
def test_an_orientation_that_does_not_exist_changes_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert load_image(saved(noise(4, 7), "PNG", exif=exif)).size == (7, 4)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_a_good_image_readable() -> None:
    data = saved(noise(4, 7), "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    np.testing.assert_array_equal(np.asarray(load_image(data)), np.asarray(noise(4, 7)))


SIXTEEN = np.array([[0, 1, 128, 129, 257], [385, 386, 32768, 65406, 65535]], dtype=np.uint16)
EIGHT = np.rint(SIXTEEN / 257).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_scaled_and_rounded(form: str) -> None:
    image = load_image(saved(Image.fromarray(SIXTEEN), form))
    assert image.mode == "L"
    np.testing.assert_array_equal(np.asarray(image), EIGHT)


def test_sixteen_bit_in_other_forms() -> None:
    big_endian = Image.frombytes("I;16B", (5, 2), SIXTEEN.astype(">u2").tobytes())
    for source in (SIXTEEN, Image.fromarray(SIXTEEN.astype(np.int32)), big_endian, saved(big_endian, "TIFF")):
        np.testing.assert_array_equal(np.asarray(load_image(source)), EIGHT)


def test_sixteen_bit_transparent_grey_becomes_white() -> None:
    shown = np.asarray(load_image(saved(Image.fromarray(SIXTEEN), "PNG", transparency=32768)))
    np.testing.assert_array_equal(shown, np.where(SIXTEEN == 32768, 255, EIGHT))


@pytest.mark.parametrize("value", [-1, 65536])
def test_wider_integers_are_refused_with_their_range(value: int) -> None:
    image = Image.fromarray(np.array([[0, value]], dtype=np.int32))
    with pytest.raises(PreprocessError, match=rf"0 to 65535, found .*{value}"):
        load_image(image)


def test_float_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(path)
    with pytest.raises(PreprocessError, match=r"depth\.tiff.*float pixels have no defined range"):
        load_image(path)


def test_rgba_is_composited_over_white() -> None:
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128], [0, 100, 200, 51]]], dtype=np.uint8)
    alpha = pixels[..., 3:] / 255
    expected = np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha))
    for source in (pixels, saved(Image.fromarray(pixels), "PNG")):
        image = load_image(source)
        assert image.mode == "RGB"
        assert np.abs(np.asarray(image) - expected).max() <= 1
    assert np.asarray(load_image(pixels))[0, 1].tolist() == [255, 255, 255]


def test_grey_with_alpha_stays_grey() -> None:
    pixels = np.array([[[10, 255], [10, 0]]], dtype=np.uint8)
    for source in (Image.fromarray(pixels, mode="LA"), saved(Image.fromarray(pixels, mode="LA"), "PNG")):
        image = load_image(source)
        assert image.mode == "L"
        assert np.asarray(image).tolist() == [[10, 255]]


def test_palette_with_and_without_a_transparent_colour() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    opaque, transparent = saved(image, "PNG"), saved(image, "PNG", transparency=1)
    assert np.asarray(load_image(opaque)).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    assert np.asarray(load_image(transparent)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]
    assert np.asarray(load_image(saved(image, "GIF"))).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


def test_transparent_colour_of_an_rgb_png_becomes_white_once() -> None:
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    loaded = load_image(saved(image, "PNG", transparency=(4, 5, 6)))
    assert np.asarray(loaded).tolist() == [[[1, 2, 3], [255, 255, 255]]]
    assert np.asarray(load_image(loaded)).tolist() == np.asarray(loaded).tolist()


def test_bilevel_is_black_and_white() -> None:
    image = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    loaded = load_image(saved(image, "PNG"))
    assert loaded.mode == "L"
    assert np.asarray(loaded).tolist() == [[0, 255]]


def test_cmyk_is_converted_to_rgb() -> None:
    ink = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 128, 0, 0]]], dtype=np.uint8)
    image = Image.fromarray(ink, mode="CMYK")
    expected = [[[255, 255, 255], [0, 255, 255], [0, 0, 0], [255, 127, 255]]]
    assert np.asarray(load_image(saved(image, "TIFF"))).tolist() == expected
    flat = load_image(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    assert flat.mode == "RGB"
    assert np.abs(np.asarray(flat, dtype=int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"])
def test_one_pixel_of_every_mode(mode: str) -> None:
    image = Image.new(mode, (1, 1))
    loaded = load_image(image)
    assert loaded.size == (1, 1)
    assert loaded.mode in ("L", "RGB")
    tensor = image_tensor(image, spec_of(16))
    assert tensor.shape == (3, 16, 16)
    assert all(len(np.unique(channel)) == 1 for channel in tensor)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_the_list_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(saved(Image.new("RGB", (24, 16), (200, 30, 60)), form))
    for source in (path, str(path), path.read_bytes()):
        image = load_image(source)
        assert image.size == (24, 16)
        assert np.abs(np.asarray(image.convert("RGB"), dtype=int) - [200, 30, 60]).max() <= 12


def test_arrays() -> None:
    pixels = np.asarray(noise(4, 6))
    np.testing.assert_array_equal(np.asarray(load_image(pixels)), pixels)
    np.testing.assert_array_equal(np.asarray(load_image(pixels[::-1, ::2])), pixels[::-1, ::2])
    np.testing.assert_array_equal(np.asarray(load_image(pixels[:, :, 0])), pixels[:, :, 0])
    np.testing.assert_array_equal(np.asarray(load_image(pixels[:, :, :1])), pixels[:, :, 0])


def test_loading_leaves_the_callers_image_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(saved(noise(4, 7), "PNG", exif=exif, transparency=(1, 2, 3))))
    load_image(image)
    assert image.size == (7, 4)
    assert image.getexif()[0x0112] == 6
    assert image.info["transparency"] == (1, 2, 3)


# ------------------------------------------------------------------------------------------------ bad input


def png_claiming(width: int, height: int) -> bytes:
    """A small file whose header promises a large image."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# Pillow itself only warns from MAX_PIXELS to twice that, and fails above.
@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (30_000, 30_000), (MAX_PIXELS + 1, 1)])
def test_a_huge_image_is_an_error_with_its_limit_and_no_warning(width: int, height: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(width, height))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PreprocessError, match=rf"bomb\.png: {width}x{height} .*limit is {MAX_PIXELS}"):
            load_image(path)


def test_the_limit_holds_for_every_kind_of_source() -> None:
    image = noise(10, 10)
    assert load_image(image, max_pixels=100).size == (10, 10)
    for source in (image, saved(image, "PNG"), np.asarray(image)):
        with pytest.raises(PreprocessError, match="10x10 is 100 pixels, the limit is 99"):
            load_image(source, max_pixels=99)


@pytest.mark.parametrize(("height", "width"), [(1, 400_000), (400_000, 1)])
def test_an_extreme_aspect_ratio_does_not_explode(height: int, width: int) -> None:
    strip = Image.new("L", (width, height))
    with pytest.raises(PreprocessError, match=f"the limit is {MAX_PIXELS}; crop the image"):
        image_tensor(strip, spec_of(256))


def test_exact_resize_of_a_tall_strip_does_not_explode_either() -> None:
    """The result is small, but Pillow's intermediate image would have 300 x 400,000 pixels."""
    strip = Image.new("L", (1, 400_000))
    with pytest.raises(PreprocessError, match="the limit is"):
        image_tensor(strip, spec_of(300, resize="exact"))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF"])
def test_a_truncated_file_is_named(form: str, tmp_path: Path) -> None:
    data = saved(noise(64, 64), form)
    path = tmp_path / f"cut.{form.lower()}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(PreprocessError, match=r"cut\.\w+: "):
        load_image(path)


def test_a_damaged_png_is_named(tmp_path: Path) -> None:
    data = bytearray(saved(noise(64, 64), "PNG"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "flipped.png"
    path.write_bytes(data)
    with pytest.raises(PreprocessError, match=r"flipped\.png: the image cannot be decoded"):
        load_image(path)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"", "an empty file"), (b"hello, world", "hello"), (b"%!PS-Adobe-3.0 EPSF-3.0\n", "%!PS-Ado")],
)
def test_what_is_no_image_is_named_with_the_formats_that_are(content: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_bytes(content)
    with pytest.raises(PreprocessError, match=rf"notes\.png: expected an image \(JPEG, PNG.*found .*{found}"):
        load_image(path)


def test_a_missing_file_a_folder_and_a_wrong_type(tmp_path: Path) -> None:
    with pytest.raises(PreprocessError, match=r"gone\.png: expected an image file, found nothing there"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(PreprocessError, match="directory"):
        load_image(tmp_path)
    with pytest.raises(PreprocessError, match="expected a path, bytes, a Pillow image or a NumPy array"):
        load_image(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8, 8), np.float32),
        np.zeros((8, 8, 2), np.uint8),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros(8, np.uint8),
    ],
)
def test_a_wrong_array_is_refused_with_what_is_expected(array: np.ndarray) -> None:
    with pytest.raises(PreprocessError, match=r"uint8 and shape \(H, W\).*found") as error:
        load_image(array)
    assert str(array.dtype) in str(error.value)
    assert str(array.shape) in str(error.value)


def test_an_empty_array_is_refused() -> None:
    with pytest.raises(PreprocessError, match="at least one pixel"):
        load_image(np.zeros((0, 4, 3), np.uint8))


SEEDS = [saved(noise(12, 17), form) for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "PPM")]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SEEDS) - 1), st.integers(0, 2**32))
def test_any_damage_gives_an_image_or_one_line(which: int, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(SEEDS[which])
    for _ in range(chance.randint(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data)) :]
    try:
        assert load_image(bytes(data)).mode in ("L", "RGB")
    except PreprocessError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (0.5,)}, r"preprocess\.mean: expected 3 values for mode RGB, found 1"),
        ({"std": (0.5,) * 4}, r"preprocess\.std: expected 3 values"),
        ({"mode": "L"}, r"preprocess\.mean: expected 1 values for mode L, found 3"),
        ({"std": (0.5, 0.0, 0.5)}, r"preprocess\.std: expected values above 0"),
        ({"std": (0.5, -1.0, 0.5)}, r"preprocess\.std: expected values above 0"),
        ({"mean": (0.5, math.nan, 0.5)}, r"preprocess\.mean: expected finite"),
        ({"std": (0.5, math.inf, 0.5)}, r"preprocess\.std: expected finite"),
        ({"size": (0, 4)}, r"preprocess\.size: .*at least 1"),
        ({"crop_fraction": 0.0}, r"preprocess\.crop_fraction"),
        ({"crop_fraction": 1.01}, r"preprocess\.crop_fraction"),
        ({"crop_fraction": math.nan}, r"preprocess\.crop_fraction"),
    ],
)
def test_a_wrong_specification_names_its_field(fields: dict[str, object], message: str) -> None:
    with pytest.raises(PreprocessError, match=message):
        check_preprocess(spec_of(**fields))  # type: ignore[arg-type]
    with pytest.raises(PreprocessError, match=message):
        image_tensor(noise(4, 4), spec_of(**fields))  # type: ignore[arg-type]


def test_without_pillow_the_module_imports_and_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['PIL'] = None\n"
        "import edgevit.preprocess as p\n"
        "from edgevit.errors import UnavailableError\n"
        "from edgevit.types import ImagePreprocess\n"
        "spec = ImagePreprocess(size=(4, 4), mode='L', mean=(0.0,), std=(1.0,))\n"
        "for call in (lambda: p.load_image('x.png'), lambda: p.images_batch(['x.png'], spec)):\n"
        "    try: call()\n"
        "    except UnavailableError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("Pillow") == 2
    assert done.stdout.count("pip install pillow") == 2
