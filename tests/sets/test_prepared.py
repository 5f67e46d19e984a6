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
from edgevit.sets import Wanted, as_set, batches, open_set, take
from edgevit.sets.reservoir import Reservoir
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


# ---------------------------------------------------------------------------------------------- in bounds

STREAM = """
import numpy as np
alive, most = 0, 0

class Big(np.ndarray):
    def __del__(self):
        global alive
        alive -= self.base is None

def big(place):
    global alive, most
    image = np.full((500, 400, 3), place % 251, np.uint8).view(Big)
    owner = image.copy()
    alive += 1
    most = max(most, alive)
    return owner

def photos():
    for place in range(120):
        yield big(place), 'odd' if place % 3 else 'even'

once = photos()
def camera():
    return once

class Again:
    def __iter__(self):
        return photos()
def again():
    return Again()

turn = 0
def shuffled():
    global turn
    turn += 1
    for place in np.random.default_rng(turn).permutation(9):
        yield np.full((4, 4, 3), place, np.uint8)
"""


@pytest.mark.parametrize("function", ["photos", "again"])
def test_what_can_be_gone_through_again_is_not_kept(code: Path, function: str) -> None:
    code.write_text(STREAM)
    samples = open_set(f"my_samples:{function}", "image-classification")
    digest = samples.digest
    some = take(samples, 30, 7)
    for chosen in (samples, some, some):
        places = [int(sample.name.split()[1]) for sample in chosen.samples]
        read = list(batches(chosen, SPEC, 8, labels=("even", "odd")))
        assert [label for batch in read for label in batch.labels] == [int(place % 3 > 0) for place in places]
        shades = np.concatenate([batch.inputs["pixel_values"][:, 0, 0, 0] for batch in read])
        np.testing.assert_allclose(shades, (np.array(places) / 255 - 0.5) / 0.25, atol=1e-5)
    assert digest == open_set(f"my_samples:{function}").digest
    assert sys.modules["my_samples"].most < 16, "a batch's images and those that have just gone by, of 120"


def test_a_stream_that_comes_once_is_sampled_as_a_set_would_be(code: Path) -> None:
    code.write_text(STREAM)
    samples = open_set("my_samples:camera", "image-classification", Wanted(20, 5))
    assert (len(samples), samples.labels) == (20, ("even", "odd"))
    assert [sample.label for sample in samples.samples].count("even") in (6, 7), "a third of them, as of the stream"
    assert sys.modules["my_samples"].most <= 3 * (20 + 2) + 2
    names = [sample.name for sample in samples.samples]
    assert names == sorted(names) and take(samples, 20, 0).samples == samples.samples
    # The same seed takes the same ones, another seed others; and they can be read again and again.
    sys.modules.pop("my_samples")
    assert [sample.name for sample in open_set("my_samples:camera", None, Wanted(20, 5)).samples] == names
    sys.modules.pop("my_samples")
    assert [sample.name for sample in open_set("my_samples:camera", None, Wanted(20, 6)).samples] != names
    one, other = (next(batches(samples, SPEC, 20)).inputs["pixel_values"] for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_all_of_a_stream_that_comes_once_is_kept_where_no_number_is_asked_for() -> None:
    assert len(as_set("mine", iter(list(rows(4))))) == 4
    assert len(as_set("mine", iter(list(rows(4))), most=Wanted(9))) == 4
    tensors = as_set("mine", lambda: iter(list(rows(3))))
    np.testing.assert_array_equal(next(batches(tensors, SPEC, 4)).inputs["pixel_values"], rows(3))


def test_other_samples_in_another_pass_are_one_line(code: Path) -> None:
    code.write_text(STREAM)
    samples = open_set("my_samples:shuffled", "image-features")
    with pytest.raises(SetError, match=r"expected the same samples in every pass over it, found another at number \d"):
        list(batches(samples, SPEC, 4))
    shorter = [4, 2]
    short = as_set("mine", lambda: (np.zeros((4, 4, 3), np.uint8) for _ in range(shorter.pop(0))))
    with pytest.raises(SetError, match="found its end at number 2; give random choices a seed"):
        list(batches(short, SPEC, 4))


def test_a_reservoir_takes_every_row_as_likely_as_any_other() -> None:
    taken = np.zeros(60)
    for seed in range(400):
        reservoir: Reservoir[int] = Reservoir(Wanted(12, seed))
        for place in range(60):
            reservoir.add("first" if place < 40 else "last", place, place)
        chosen = reservoir.chosen()
        assert len(chosen) == 12 and chosen == sorted(chosen)
        assert sum(place < 40 for place in chosen) == 8
        taken[chosen] += 1
    # 400 draws of one in five: 80 each, with a standard deviation of 8.
    assert taken.min() > 45 and taken.max() < 115
