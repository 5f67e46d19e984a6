"""Images to tensors: the one implementation of `ImagePreprocess`, used by calibration, parity and the runtime.

The numbers are those of the evaluation transforms that published checkpoints were scored with, on Pillow images:

- timm `transforms_imagenet_eval`: the side to resize to is floor(size / crop_fraction). A square size goes through
  torchvision's `Resize`, another size through timm's `ResizeKeepRatio`; `exact` is timm's `squash`.
- torchvision `Resize(int)`: the shorter side becomes that int, the longer one int(int * long / short).
- torchvision `CenterCrop`: top = int(round((height - crop) / 2.0)), where Python's round takes halves to even.
- torchvision `ToTensor` and `Normalize`: float32(byte) / 255, then (x - mean) / std, all in float32.

Beyond them, what those transforms leave to the caller is fixed here: EXIF orientation is applied, transparent pixels
are composited over white, 16-bit grey is scaled to 8 bit, and colour profiles are ignored. Pillow itself reads
16-bit colour (three channels) by its high byte.
"""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

import numpy as np

from edgevit.errors import PreprocessError, UnavailableError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image as PillowImage

    from edgevit.types import FloatArray, ImagePreprocess

Source: TypeAlias = Union[str, Path, bytes, "PillowImage.Image", "NDArray[Any]"]
"""What an image may be handed in as; an array is uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or uint16 (H, W)."""

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels: 256 MiB as RGB, the size from which Pillow itself warns of a bomb."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")
"""The formats that are read. The list is closed because Pillow's others include ones that start a program (EPS)."""

# What Pillow's decoders raise on damaged files, found by mutating files of every format (RuntimeError: AVIF).
_PARSE_ERRORS = (OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, struct.error)
_DECODE_ERRORS = (*_PARSE_ERRORS, EOFError, RuntimeError, MemoryError)

_EXIF_ORIENTATION = 0x0112
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
"""For the EXIF orientations 2 to 8."""


class Geometry(NamedTuple):
    """Where the tensor lies in the resized image; all in pixels, heights and tops first."""

    height: int
    """Of the resized image, before the crop."""
    width: int
    top: int
    left: int


def check_preprocess(spec: ImagePreprocess) -> None:
    """Raises PreprocessError, naming the field, when a specification cannot describe a tensor."""
    channels = len(spec.mode)
    for field, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) != channels:
            raise PreprocessError(
                f"preprocess.{field}: expected {channels} values for mode {spec.mode}, found {len(values)}"
            )
        if not all(math.isfinite(value) for value in values):
            raise PreprocessError(f"preprocess.{field}: expected finite values, found {list(values)}")
    if min(spec.std) <= 0:
        raise PreprocessError(f"preprocess.std: expected values above 0, found {list(spec.std)}")
    if min(spec.size) < 1:
        raise PreprocessError(f"preprocess.size: expected height and width of at least 1, found {list(spec.size)}")
    if not 0 < spec.crop_fraction <= 1:
        raise PreprocessError(f"preprocess.crop_fraction: expected above 0 and at most 1, found {spec.crop_fraction}")


def load_image(source: Source, *, max_pixels: int = MAX_PIXELS) -> PillowImage.Image:
    """Decodes an image to an upright Pillow image of mode `L` (grey sources) or `RGB` (all others), 8 bits.

    Steps: EXIF orientation, alpha or a transparent colour over white, 16-bit grey x to round(x / 257), everything
    that is not grey to RGB. The first frame counts. Loading the result again returns the same pixels. An EXIF block
    that cannot be parsed is read as no orientation, because the pixels are still good.

    Raises PreprocessError, naming the file, where there is no image, the data are damaged or cut off, a pixel format
    has no defined range (float, wide integers), or the image has more than `max_pixels`.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UnavailableError("reading an image needs Pillow, which is not here; run: pip install pillow") from error

    name = _name_of(source)
    if isinstance(source, (str, Path, bytes)):
        with _decoding(name), io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
            image: Image.Image = _identified(file, name)
            _check_pixels(image.size, max_pixels, name)
            image.load()
    elif isinstance(source, Image.Image):
        image = source
        _check_pixels(image.size, max_pixels, name)
        with _decoding(name):
            image.load()
    elif isinstance(source, np.ndarray):
        image = _from_array(source)
        _check_pixels(image.size, max_pixels, name)
    else:
        raise PreprocessError(f"expected a path, bytes, a Pillow image or a NumPy array, found {name}")
    with _decoding(name):
        result = _eight_bit(_upright(image), name)
    if result is not source:
        result.info = {}  # a leftover orientation or transparent colour would be applied again by the next load
    return result


def image_tensor(image: Source, spec: ImagePreprocess) -> FloatArray:
    """One image as float32 (channels, height, width), contiguous, in the units of `spec` (see `ImagePreprocess`).

    Raises PreprocessError where `load_image` does, where the specification is wrong, and where an extreme aspect
    ratio would make the resized image larger than MAX_PIXELS.
    """
    check_preprocess(spec)
    loaded = load_image(image)
    from PIL import Image  # after load_image, which says what to install where Pillow is missing

    mode = "L" if spec.mode == "L" else "RGB"
    converted = loaded if loaded.mode == mode else loaded.convert(mode)
    place = geometry(loaded.height, loaded.width, spec)
    # The intermediate image is as high as the source and as wide as the result.
    largest = place.width * max(place.height, loaded.height)
    if largest > MAX_PIXELS:
        raise PreprocessError(
            f"{_name_of(image)}: resizing {loaded.width}x{loaded.height} to {place.width}x{place.height} needs "
            f"{largest} pixels, the limit is {MAX_PIXELS}; crop the image to a less extreme shape first"
        )
    # Rows first, then columns, each rounded to eight bits. Pillow 13 begins with the columns of an image that loses
    # more than twice as much height as width, and is up to 20 levels from every version before it there.
    filtered = Image.Resampling[spec.interpolation.upper()]
    resized = converted.resize((place.width, converted.height), filtered)
    resized = resized.resize((place.width, place.height), filtered)
    height, width = spec.size
    cropped = resized.crop((place.left, place.top, place.left + width, place.top + height))
    pixels = np.asarray(cropped, dtype=np.float32).reshape(height, width, len(spec.mode))
    if spec.mode == "BGR":
        pixels = pixels[:, :, ::-1]
    tensor = np.ascontiguousarray(pixels.transpose(2, 0, 1)) / np.float32(255)
    mean = np.asarray(spec.mean, dtype=np.float32)[:, None, None]
    std = np.asarray(spec.std, dtype=np.float32)[:, None, None]
    result: FloatArray = (tensor - mean) / std
    return result


def raw_pixels(image: Source) -> NDArray[np.uint8]:
    """One image as uint8 (height, width, 3), RGB, upright, not resized. Raises PreprocessError as `load_image`."""
    loaded = load_image(image)
    return np.asarray(loaded if loaded.mode == "RGB" else loaded.convert("RGB"))


def images_batch(images: Sequence[Source], spec: ImagePreprocess) -> FloatArray:
    """Images as float32 (N, channels, height, width). Raises PreprocessError as `image_tensor` does, or for none."""
    if not images:
        raise PreprocessError("expected at least one image, found none")
    batch = np.empty((len(images), len(spec.mode), *spec.size), dtype=np.float32)
    for row, image in enumerate(images):
        batch[row] = image_tensor(image, spec)
    return batch


def geometry(height: int, width: int, spec: ImagePreprocess) -> Geometry:
    """The resized size and the crop's corner for an upright image of `height` x `width` pixels.

    Sources: timm `transforms_imagenet_eval` and `ResizeKeepRatio.get_params`, torchvision
    `_compute_resized_output_size` and `center_crop`; the formulas are in this module's docstring.
    """
    goal_height, goal_width = (math.floor(side / spec.crop_fraction) for side in spec.size)
    if spec.resize == "exact":
        resized = goal_height, goal_width
    elif goal_height == goal_width:
        longer = int(goal_height * max(height, width) / min(height, width))
        resized = (goal_height, longer) if height <= width else (longer, goal_height)
    else:
        ratio = min(height / goal_height, width / goal_width)
        resized = round(height / ratio), round(width / ratio)
    top, left = (round((side - crop) / 2.0) for side, crop in zip(resized, spec.size, strict=True))
    return Geometry(*resized, top, left)


def _name_of(source: Any) -> str:
    """What an error calls the image."""
    if isinstance(source, (str, Path)):
        return str(source)
    if isinstance(source, bytes):
        return f"image of {len(source)} bytes"
    if isinstance(source, np.ndarray):
        return f"{source.dtype} array of shape {source.shape}"
    return f"a {type(source).__name__}"


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turns what Pillow raises on bad data into one line that names the image."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except FileNotFoundError as error:
        raise PreprocessError(f"{name}: expected an image file, found nothing there; check the path") from error
    except (*_DECODE_ERRORS, DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PreprocessError(f"{name}: the image cannot be decoded: {reason}") from error


def _identified(file: IO[bytes], name: str) -> PillowImage.Image:
    """The image with its header read and no pixel decoded.

    `Image.open` is not used: it warns about large images instead of refusing them, to silence it is not
    thread-safe, and it would try every format Pillow knows.
    """
    from PIL import Image

    prefix = file.read(16)
    Image.preinit()
    for candidate in FORMATS:
        if candidate not in Image.OPEN:
            Image.init()
        factory, accept = Image.OPEN.get(candidate, (None, None))
        # `accept` answers with a sentence, not a bool, when a format's library is missing.
        if factory is not None and accept is not None and accept(prefix) is True:
            file.seek(0)
            return factory(file, "")
    found = "an empty file" if not prefix else f"data that begin with {prefix[:8]!r}"
    raise PreprocessError(f"{name}: expected an image ({', '.join(FORMATS)}), found {found}")


def _check_pixels(size: tuple[int, int], max_pixels: int, name: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise PreprocessError(
            f"{name}: {width}x{height} is {width * height} pixels, the limit is {max_pixels}; scale it down first"
        )
    if width * height == 0:
        raise PreprocessError(f"{name}: expected at least one pixel, found {width}x{height}")


def _from_array(array: NDArray[Any]) -> PillowImage.Image:
    from PIL import Image

    colour = array.ndim == 3 and array.shape[2] in (1, 3, 4)
    if array.dtype not in ((np.uint8,) if colour else (np.uint8, np.uint16)) or not (colour or array.ndim == 2):
        raise PreprocessError(
            f"expected an image array of dtype uint8 and shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"found {array.dtype} of shape {array.shape}"
        )
    if 0 in array.shape:
        raise PreprocessError(f"expected at least one pixel, found an array of shape {array.shape}")
    flat = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(flat))


def _upright(image: PillowImage.Image) -> PillowImage.Image:
    """Applies the EXIF orientation. Asked only after loading, because Pillow turns TIFF files itself while it loads."""
    from PIL import Image

    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except _PARSE_ERRORS:
        return image
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return image
    return image.transpose(Image.Transpose[_TURNS[orientation - 2]])


def _eight_bit(image: PillowImage.Image, name: str) -> PillowImage.Image:
    """Any Pillow mode as `L` or `RGB`."""
    if image.mode == "F":
        raise PreprocessError(
            f"{name}: float pixels have no defined range; expected 8 or 16 bits, so convert the image first"
        )
    if image.mode.startswith("I"):
        image = _from_sixteen_bit(image, name)
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data or image.mode == "La":
        from PIL import Image

        straight = image.convert("LA") if image.mode == "La" else image
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, straight.convert("RGBA"))
    goal = "L" if grey else "RGB"
    return image if image.mode == goal else image.convert(goal)


def _from_sixteen_bit(image: PillowImage.Image, name: str) -> PillowImage.Image:
    """`I;16` and its byte orders, or the 32-bit `I` that Pillow widens 16-bit grey to, over the full 16-bit range."""
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PreprocessError(
            f"{name}: expected integer pixels from 0 to 65535, found {values.min()} to {values.max()}; "
            "convert the image to 8 or 16 bits first"
        )
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = 65535
    # 65535 = 255 * 257, so this is round(255 * value / 65535), and no value lies half way.
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
