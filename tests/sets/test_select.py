"""take, labels, coverage and disjointness."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from edgevit.errors import SetError
from edgevit.sets import (
    Sample,
    SampleSet,
    check_disjoint,
    coverage,
    label_indices,
    open_set,
    require_labels,
    take,
)

MakeImages = Callable[..., Path]


class Plain(msgspec.Struct, frozen=True):
    """An image of one colour, made when it is read."""

    colour: int

    def read(self) -> Image.Image:
        return Image.new("L", (2, 2), self.colour)


def set_of(sizes: dict[str, int]) -> SampleSet:
    """Labels mixed in a fixed order, as on a sheet."""
    pairs = sorted((index, label) for label, size in sizes.items() for index in range(size))
    samples = tuple(Sample(f"{label}-{index}", Plain(index % 256), label) for index, label in pairs)
    return SampleSet("made", samples, tuple(sorted(sizes)))


def unlabelled(size: int) -> SampleSet:
    return SampleSet("made", tuple(Sample(f"{index}", Plain(index % 256)) for index in range(size)))


def names(samples: SampleSet) -> list[str]:
    return [sample.name for sample in samples.samples]


some_sizes = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 30), min_size=1, max_size=8)


@settings(deadline=None)
@given(some_sizes, st.data())
def test_take_is_stratified_deterministic_and_keeps_the_order(sizes: dict[str, int], data: st.DataObject) -> None:
    samples = set_of(sizes)
    count = data.draw(st.integers(1, len(samples)))
    seed = data.draw(st.integers(0, 2**40))
    taken = take(samples, count, seed)
    assert len(taken) == count
    assert names(taken) == names(take(samples, count, seed))
    chosen = set(names(taken))
    assert names(taken) == [name for name in names(samples) if name in chosen]
    for label, got in Counter(sample.label for sample in taken.samples).items():
        assert label is not None
        assert abs(got - count * sizes[label] / len(samples)) < 1
    assert taken.labels == samples.labels


@given(st.integers(1, 60), st.data())
def test_take_of_an_unlabelled_set_grows_by_adding(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, size))
    smaller, larger = take(unlabelled(size), count, 5), take(unlabelled(size), min(size, count + 1), 5)
    assert set(names(smaller)) <= set(names(larger))
    assert len(smaller) == count


def test_take_does_not_depend_on_the_order_of_the_set() -> None:
    samples = set_of({"a": 9, "b": 20, "c": 3})
    turned = msgspec.structs.replace(samples, samples=samples.samples[::-1])
    assert set(names(take(samples, 11, 1))) == set(names(take(turned, 11, 1)))


def test_take_with_this_seed_takes_these_samples() -> None:
    """Pinned: statistics and reports that were stored name their samples by count and seed."""
    assert names(take(set_of({"a": 5, "b": 10}), 6, 0)) == ["a-0", "b-1", "a-2", "b-2", "b-4", "b-7"]


def test_seeds_take_different_samples_and_every_sample_at_times() -> None:
    samples = set_of({"a": 20, "b": 20})
    seen = [frozenset(names(take(samples, 10, seed))) for seed in range(40)]
    assert len(set(seen)) == 40
    assert len(frozenset.union(*seen)) == 40


def test_taking_everything_is_the_same_set() -> None:
    samples = set_of({"a": 3, "b": 4})
    assert take(samples, 7, 9).digest == samples.digest


@pytest.mark.parametrize("count", [0, -1, 8])
def test_take_refuses_a_count_that_the_set_cannot_give(count: int) -> None:
    with pytest.raises(SetError, match=rf"set 'made': count: expected 1 to 7 .*found {count}"):
        take(set_of({"a": 3, "b": 4}), count, 0)


def test_coverage_counts_every_label_with_its_zeros() -> None:
    samples = set_of({"a": 3, "b": 40, "c": 1})
    assert coverage(samples) == {"a": 3, "b": 40, "c": 1}
    assert coverage(take(samples, 4, 0)) == {"a": 0, "b": 4, "c": 0}
    assert coverage(unlabelled(3)) == {}


def test_labels_are_matched_by_name_and_not_by_position() -> None:
    samples = set_of({"cat": 1, "dog": 2})
    assert label_indices(samples, ("ant", "dog", "bee", "cat")) == (3, 1, 1)
    assert label_indices(unlabelled(2), ("ant",)) == (None, None)


def test_a_label_the_model_does_not_have_is_named() -> None:
    with pytest.raises(SetError, match="the model has no label 'dog'; expected labels among its 2: 'cat', 'Dog'"):
        label_indices(set_of({"cat": 1, "dog": 1}), ("cat", "Dog"))


def test_many_unknown_labels_are_counted() -> None:
    with pytest.raises(SetError, match="no label 'a', 'b', 'c' and 2 more"):
        label_indices(set_of(dict.fromkeys("abcde", 1)), ("x",))


def test_a_label_that_the_model_has_twice_is_refused_only_where_it_is_used() -> None:
    model = ("crane", "owl", "crane")  # ImageNet has two classes of this name
    assert label_indices(set_of({"owl": 1}), model) == (1,)
    with pytest.raises(SetError, match="label 'crane' more than once"):
        label_indices(set_of({"crane": 1}), model)


def test_labels_that_are_required_and_missing() -> None:
    require_labels(set_of({"a": 1}), "accuracy")
    with pytest.raises(SetError, match=r"set 'made': accuracy needs labels, and its 3 images have none; .*labels\.csv"):
        require_labels(unlabelled(3), "accuracy")


def test_overlap_is_found_by_content_under_another_name_and_format(tmp_path: Path, make_images: MakeImages) -> None:
    calibration = make_images(tmp_path / "calibration", [f"{index}.png" for index in range(6)])
    evaluation = make_images(tmp_path / "evaluation", ["x.png", "y.png"], seed=1)
    check_disjoint(open_set(calibration), open_set(evaluation))
    shutil.copy(calibration / "4.png", evaluation / "copied.png")
    Image.open(calibration / "2.png").save(evaluation / "converted.bmp")
    with pytest.raises(SetError) as error:
        check_disjoint(open_set(calibration), open_set(evaluation))
    message = str(error.value)
    assert message.startswith("2 of 6 images of the calibration set 'calibration' are also in the evaluation set")
    assert "'2.png' = 'converted.bmp', '4.png' = 'copied.png'" in message
    assert "\n" not in message


def test_overlap_names_the_first_and_counts_the_rest() -> None:
    samples = unlabelled(20)
    with pytest.raises(SetError, match=r"20 of 20 .*'0' = '0', '1' = '1', '2' = '2', …;"):
        check_disjoint(samples, samples)


def test_the_digest_follows_content_label_and_order(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "set", ["a/1.png", "b/2.png"])
    digest = open_set(folder).digest
    assert open_set(folder).digest == digest
    shutil.copytree(folder, tmp_path / "copy")
    assert open_set(tmp_path / "copy").digest == digest
    (folder / "a").rename(folder / "c")
    assert open_set(folder).digest != digest
    pixels = Image.open(tmp_path / "copy" / "b" / "2.png")
    pixels.putpixel((0, 0), tuple((value + 1) % 256 for value in pixels.getpixel((0, 0))))
    pixels.save(tmp_path / "copy" / "b" / "2.png")
    assert open_set(tmp_path / "copy").digest != digest
    turned = set_of({"a": 2})
    assert msgspec.structs.replace(turned, samples=turned.samples[::-1]).digest != turned.digest


def test_the_digest_follows_the_shape(tmp_path: Path) -> None:
    for name, size in (("wide.png", (6, 2)), ("tall.png", (2, 6))):
        Image.new("L", size, 7).save(tmp_path / name)
    wide, tall = open_set(tmp_path).samples
    assert wide.digest != tall.digest


def test_values_are_frozen() -> None:
    samples = unlabelled(1)
    for value, field in ((samples, "name"), (samples.samples[0], "label")):
        with pytest.raises(AttributeError):
            setattr(value, field, "other")
