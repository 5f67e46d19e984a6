"""`.npz` of prepared tensors, and samples that Python code yields."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgevit.errors import SetError
from edgevit.preprocess import image_tensor
from edgevit.sets import as_set, batches, open_set, take
from edgevit.types import ImagePreprocess

SPEC = ImagePreprocess(size=(6, 5), mean=(0.5,) * 3, std=(0.25,) * 3)


def rows(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3, 6, 5)).astype(np.float32)


def test_prepared_tensors_reach_the_model_as_they_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", pixel_values=rows(), labels=np.array([3, 1, 3, 1, 3]))
    samples = open_set(tmp_path / "set.npz", "image-classification")
    assert (samples.kind, samples.labels, len(samples)) == ("tensor", ("1", "3"), 5)
    found = list(batches(samples, SPEC, 2, labels=("0", "1", "2", "3")))
    np.testing.assert_array_equal(np.concatenate([batch.inputs["pixel_values"] for batch in found]), rows())
    assert [label for batch in found for label in batch.labels] == [3, 1, 3, 1, 3]
    assert {sample.label for sample in take(samples, 2, 0).samples} == {"1", "3"}
    other = rows()
    other[4, 0, 0, 0] += 1
    np.savez(tmp_path / "other.npz", pixel_values=other, labels=np.array([3, 1, 3, 1, 3]))
    assert open_set(tmp_path / "other.npz").digest != samples.digest


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": rows(), "b": rows()}, "expected one array of prepared tensors .* found a, b"),
        ({"labels": np.zeros(3)}, "found none"),
        ({"a": rows().astype(np.uint8)}, r"found uint8 \(5, 3, 6, 5\)"),
        ({"a": rows()[0]}, r"found float32 \(3, 6, 5\)"),
        ({"a": rows(), "labels": np.zeros(4)}, r"expected 5 labels, one per row of a, found shape \(4,\)"),
        ({"a": rows() * np.nan}, "NaN or infinity in row 0"),
        ({"a": np.array([object()])}, "expected arrays in a .npz file"),
    ],
)
def test_what_is_no_set_of_tensors(tmp_path: Path, arrays: dict[str, Any], words: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(SetError, match=words):
        open_set(tmp_path / "set.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "set.npz").read_bytes()[:90])
    with pytest.raises(SetError, match="expected arrays in a .npz file"):
        open_set(tmp_path / "cut.npz")


def test_tensors_of_another_shape_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", pixel_values=rows().transpose(0, 1, 3, 2))
    samples = open_set(tmp_path / "set.npz", "image-classification")
    with pytest.raises(SetError, match=r"first 'row 0': expected prepared tensors of 3 x 6 x 5 .* found 3 x 5 x 6"):
        list(batches(samples, SPEC, 2))


# ------------------------------------------------------------------------------------------- Python's own


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file `my_samples.py` in the current directory."""
    monkeypatch.chdir(tmp_path)
    sys.modules.pop("my_samples", None)
    yield tmp_path / "my_samples.py"
    sys.modules.pop("my_samples", None)


def test_a_function_that_yields_images(code: Path) -> None:
    code.write_text(
        "import numpy as np\nfrom PIL import Image\nfrom pathlib import Path\n"
        "def photos():\n"
        "    for shade in range(3):\n"
        "        yield Image.new('RGB', (9, 8), (shade, 0, 0)), f'class {shade % 2}'\n"
        "    yield np.full((7, 7, 3), 200, np.uint8), 'class 0'\n"
        "    yield Path('one.png'), 'class 1'\n"
    )
    Image.new("RGB", (12, 12), (9, 9, 9)).save("one.png")
    samples = open_set("my_samples:photos", "image-classification")
    assert (samples.kind, samples.labels, len(samples)) == ("image", ("class 0", "class 1"), 5)
    (batch,) = batches(samples, SPEC, 5, labels=("class 0", "class 1"))
    assert list(batch.labels) == [0, 1, 0, 0, 1]
    expected = image_tensor(np.full((7, 7, 3), 200, np.uint8), SPEC)
    np.testing.assert_array_equal(batch.inputs["pixel_values"][3], expected)
    assert samples.digest == open_set("my_samples:photos").digest


def test_texts_and_tensors_from_an_iterable() -> None:
    texts = as_set("mine", (f"text {index}" for index in range(3)))
    assert (texts.kind, [sample.text() for sample in texts.samples][2]) == ("text", "text 2")
    tensors = as_set("mine", list(rows(2)))
    (batch,) = batches(tensors, SPEC, 4)
    np.testing.assert_array_equal(batch.inputs["pixel_values"], rows(2))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("def samples(): raise RuntimeError('no\\nfile')", "it raised RuntimeError: no file; correct it"),
        ("def samples(): return 3", "it raised TypeError"),
        ("def samples(): return []", "expected samples, found none"),
        ("def samples(): return ['a', ('b', 'label')]", "for all samples or for none, found none for number 0"),
        ("def samples(): return ['a', b'x']", "all of one kind, found image and text"),
        ("def samples(): return [3]", "found a int"),
        ("def others(): return ['a']", "found nothing of that name"),
    ],
)
def test_what_is_wrong_with_the_code_is_one_line(code: Path, body: str, words: str) -> None:
    code.write_text(body + "\n")
    with pytest.raises(SetError, match=words) as caught:
        open_set("my_samples:samples")
    assert "\n" not in str(caught.value)
    with pytest.raises(SetError, match="expected a Python module 'not_there'"):
        open_set("not_there:samples")
