"""The stream of batches: order, content, bounded work ahead, and what happens when an image cannot be read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from edgevit.errors import PreprocessError, SetError
from edgevit.preprocess import images_batch
from edgevit.sets import Sample, SampleSet, batches, open_set
from edgevit.types import ImagePreprocess

GREY = ImagePreprocess(input="x", mode="L", size=(4, 4), mean=(0.0,), std=(1.0,))

MakeImages = Callable[..., Path]


class Counted(msgspec.Struct, frozen=True):
    """A grey image that records when it was read, and by which thread."""

    value: int
    read_log: list[tuple[int, int]]

    def read(self) -> Image.Image:
        self.read_log.append((self.value, threading.get_ident()))
        if self.value < 0:
            raise PreprocessError(f"image {self.value}: cut off")
        return Image.new("L", (4, 4), self.value)


def counted(values: list[int]) -> tuple[SampleSet, list[tuple[int, int]]]:
    log: list[tuple[int, int]] = []
    return SampleSet("made", tuple(Sample(f"s{value}", Counted(value, log)) for value in values)), log


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 4, 10, 11, 100])
def test_batches_are_the_set_in_its_order(workers: int, batch_size: int) -> None:
    samples, _ = counted(list(range(1, 11)))
    stream = list(batches(samples, GREY, batch_size, workers=workers))
    assert [len(batch) for batch in stream] == [min(batch_size, 10 - start) for start in range(0, 10, batch_size)]
    assert [name for batch in stream for name in batch.names] == [f"s{value}" for value in range(1, 11)]
    for batch in stream:
        assert list(batch.inputs) == ["x"]
        assert batch.inputs["x"].dtype == np.float32
        assert batch.inputs["x"].shape == (len(batch), 1, 4, 4)
    rows = np.concatenate([batch.inputs["x"] for batch in stream])
    np.testing.assert_array_equal(rows[:, 0, 0, 0], np.arange(1, 11, dtype=np.float32) / np.float32(255))


def test_inputs_are_what_preprocess_makes_and_labels_are_the_models(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["cat/1.png", "cat/2.png", "dog/3.png"])
    spec = ImagePreprocess(size=(5, 5), crop_fraction=0.9, mean=(0.5,) * 3, std=(0.25,) * 3)
    (batch,) = batches(open_set(tmp_path), spec, 8, labels=("dog", "owl", "cat"))
    assert batch.labels == (2, 2, 0)
    expected = images_batch([tmp_path / name for name in batch.names], spec)
    np.testing.assert_array_equal(batch.inputs["pixel_values"], expected)
    (own,) = batches(open_set(tmp_path), spec, 8)
    assert own.labels == (0, 0, 1)


def test_labels_stay_with_their_samples_across_batches() -> None:
    samples = SampleSet(
        "made",
        tuple(Sample(f"{label}-{index}", Counted(index, []), label) for index, label in enumerate("abcab")),
        ("a", "b", "c"),
    )
    stream = batches(samples, GREY, 2, labels=("c", "b", "a"))
    assert [batch.labels for batch in stream] == [(2, 1), (0, 2), (1,)]


def test_an_unlabelled_set_has_no_labels() -> None:
    samples, _ = counted([1, 2, 3])
    assert [batch.labels for batch in batches(samples, GREY, 2, labels=("a", "b"))] == [(None, None), (None,)]


@pytest.mark.parametrize("workers", [0, 2])
def test_decoding_stays_one_batch_ahead(workers: int) -> None:
    """Memory must not grow with the set: after k batches at most k + 1, and one image per worker, were decoded."""
    samples, log = counted(list(range(200)))
    stream = batches(samples, GREY, 5, workers=workers)
    assert log == []
    for taken in range(1, 6):
        next(stream)
        assert len(log) <= 5 * (taken + 1) + workers
    stream.close()  # type: ignore[attr-defined]
    assert len(log) <= 5 * 6 + workers


def test_workers_decode_off_the_callers_thread() -> None:
    samples, log = counted(list(range(20)))
    list(batches(samples, GREY, 5, workers=2))
    assert threading.get_ident() not in {thread for _, thread in log}
    samples, log = counted(list(range(20)))
    list(batches(samples, GREY, 5, workers=0))
    assert {thread for _, thread in log} == {threading.get_ident()}


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_counted_and_the_first_is_named(workers: int) -> None:
    samples, log = counted([1, 2, 3, -4, 5, -6, 7, -8])
    stream = batches(samples, GREY, 2, workers=workers)
    assert next(stream).names == ("s1", "s2")
    with pytest.raises(SetError, match=r"set 'made': 3 of 8 images cannot be read; first 's-4': image -4: cut off;"):
        next(stream)
    assert len(log) == 8


def test_a_corrupt_file_is_named(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])
    spec = ImagePreprocess(size=(5, 5), mean=(0.5,) * 3, std=(0.25,) * 3)
    with pytest.raises(SetError, match=r"1 of 2 images cannot be read; first 'b\.png': .*b\.png: the image"):
        list(batches(open_set(tmp_path), spec, 1))


def test_wrong_arguments_are_refused_before_anything_is_read() -> None:
    samples, log = counted([1, 2])
    labelled = SampleSet("made", (Sample("a", Counted(1, log), "cat"),), ("cat",))
    with pytest.raises(SetError, match="batch_size of at least 1"):
        batches(samples, GREY, 0)
    with pytest.raises(SetError, match="workers of at least 0"):
        batches(samples, GREY, 1, workers=-1)
    with pytest.raises(SetError, match="no label 'cat'"):
        batches(labelled, GREY, 1, labels=("dog",))
    with pytest.raises(PreprocessError, match=r"preprocess\.std"):
        batches(samples, msgspec.structs.replace(GREY, std=(0.0,)), 1)
    assert log == []
