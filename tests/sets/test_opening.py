"""SET as people write it: zoo names, manifests, paths."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgevit.errors import SetError
from edgevit.sets import check_disjoint, coverage, open_set

MakeImages = Callable[..., Path]
ROOT = Path(__file__).resolve().parents[2]
DIGITS = tuple("0123456789")


def test_the_digits_sheets_are_the_published_split() -> None:
    np = pytest.importorskip("numpy")
    datasets = pytest.importorskip("sklearn.datasets")
    from PIL import Image

    data = datasets.load_digits()
    order = np.random.default_rng(0).permutation(1797)
    for part, indices in (("evaluation", order[:900]), ("calibration", order[900:])):
        samples = open_set(f"zoo:digits-vit:{part}")
        assert samples.name == f"digits-vit-{part}"
        assert samples.labels == DIGITS
        assert [sample.name for sample in samples.samples] == [f"digit-{index:04d}" for index in indices]
        assert [sample.label for sample in samples.samples] == [str(data.target[index]) for index in indices]
        for sample, index in list(zip(samples.samples, indices, strict=True))[::50]:
            grey = Image.fromarray(np.round(data.images[index] * 255 / 16).astype(np.uint8))
            expected = np.asarray(grey.resize((48, 48), Image.Resampling.BICUBIC))
            np.testing.assert_array_equal(np.asarray(sample.image()), expected)


def test_the_digits_sheets_are_disjoint_and_cover_every_label() -> None:
    calibration, evaluation = open_set("zoo:digits-vit:calibration"), open_set("zoo:digits-vit:evaluation")
    check_disjoint(calibration, evaluation)
    assert len(evaluation) == 900
    assert min(coverage(calibration).values()) > 70
    assert min(coverage(evaluation).values()) > 70


@pytest.mark.parametrize("spec", ["zoo:digits-vit", "zoo:digits-vit:test", "zoo:digits:evaluation", "zoo:"])
def test_an_unknown_zoo_set_lists_the_choices(spec: str) -> None:
    with pytest.raises(SetError, match=f"zoo:digits-vit:calibration, zoo:digits-vit:evaluation, .*found '{spec}'"):
        open_set(spec)


def test_a_missing_path_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(
        SetError, match=r"gone: expected a folder of images, a file of texts, a \.npz of tensors, a \.toml manifest"
    ):
        open_set(tmp_path / "gone")


def test_another_kind_of_file(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png"])
    with pytest.raises(
        SetError, match=r"a\.png: expected a folder of images, texts \(.*\), a \.npz or a \.toml manifest"
    ):
        open_set(tmp_path / "a.png")


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_manifest_names_a_folder_and_takes_a_part(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "val", [f"{label}/{index}.png" for label in "ab" for index in range(5)])
    manifest = written(tmp_path / "half.toml", 'name = "half of val"\nset = "val/"\ncount = 4\nseed = 3\n')
    samples = open_set(manifest)
    assert samples.name == "half of val"
    assert coverage(samples) == {"a": 2, "b": 2}
    other = open_set(written(manifest, 'set = "val"\ncount = 4\nseed = 4\n'))
    assert other.name == "half"
    assert [sample.name for sample in other.samples] != [sample.name for sample in samples.samples]


def test_a_manifest_inside_the_folder_names_it_with_a_dot(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path, ["a.png"])
    assert len(open_set(written(tmp_path / "set.toml", 'set = "."\n'))) == 1


def test_a_manifest_names_a_zoo_set_or_another_manifest(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub" / "inner.toml", 'set = "zoo:digits-vit:evaluation"\ncount = 50\n')
    samples = open_set(written(tmp_path / "outer.toml", 'set = "sub/inner.toml"\ncount = 20\n'))
    assert len(samples) == 20
    assert samples.name == "outer"


def test_manifests_in_a_circle_are_refused(tmp_path: Path) -> None:
    one = written(tmp_path / "one.toml", 'set = "two.toml"\n')
    written(tmp_path / "two.toml", 'set = "one.toml"\n')
    with pytest.raises(SetError, match="in a circle"):
        open_set(one)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'set = "."\ncuont = 3\n',
            r"set\.toml: .*unknown field `cuont`.*the keys of a set are name, set, sheet, count",
        ),
        ('set = "."\ncount = "3"\n', r"set\.toml: .*`int.*`str`.*count"),
        ("set = \n", r"set\.toml: "),
        ("", r"expected either the key 'set' or the table \[sheet\], found neither"),
        (
            'set = "."\n[sheet]\nimage = "a.png"\ntile = [1, 1]\ncolumns = 1\nnames = ["a"]\n',
            r"either the key 'set' or the table \[sheet\], found both",
        ),
        ('set = "../elsewhere"\n', r"set\.toml' names the path '\.\./elsewhere'"),
        ('set = "/etc"\n', r"set\.toml' names the path '/etc'"),
        ('set = "a/../../b"\n', r"set\.toml' names the path"),
        ('set = "link"\n', "link that leads out"),
        ('set = "gone"\n', "gone: expected a folder"),
        ('set = "."\ncount = 0\n', "count: expected 1 to 1 .*found 0"),
        ('set = "."\ncount = 2\n', "count: expected 1 to 1 .*found 2"),
    ],
)
def test_a_wrong_manifest_is_one_line(text: str, message: str, tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "set", ["a.png"])
    make_images(tmp_path / "elsewhere", ["b.png"])
    if "link" in text:
        (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SetError, match=message) as error:
        open_set(written(folder / "set.toml", text))
    assert "\n" not in str(error.value)


def test_a_manifest_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "set.toml"
    path.write_bytes(b'name = "\xff"\n')
    with pytest.raises(SetError, match=r"set\.toml: "):
        open_set(path)


def test_skip_corrupt_leaves_out_and_reports(tmp_path: Path, make_images: MakeImages) -> None:
    folder = make_images(tmp_path / "val", ["a.png", "b.png", "c.png", "d.png"])
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:60])
    (folder / "d.png").write_bytes(b"")
    manifest = tmp_path / "val.toml"
    strict = open_set(written(manifest, 'set = "val"\n'))
    with pytest.raises(SetError, match=r"set 'val': 2 of 4 images cannot be read; first 'b\.png': .*skip_corrupt"):
        _ = strict.digest
    lenient = open_set(written(manifest, 'set = "val"\nskip_corrupt = true\ncount = 2\n'))
    assert [sample.name for sample in lenient.samples] == ["a.png", "c.png"]
    assert lenient.skipped == ("b.png", "d.png")
    assert len(lenient.digest) == 64


def test_skip_corrupt_does_not_make_an_empty_set(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SetError, match=r"none of its 1 images can be decoded, first 'a\.png'"):
        open_set(written(tmp_path / "val.toml", 'set = "val"\nskip_corrupt = true\n'))


@pytest.mark.parametrize("path", sorted((ROOT / "calibration").glob("*.toml")), ids=lambda path: path.name)
def test_every_set_of_the_calibration_folder_can_be_read(path: Path) -> None:
    samples = open_set(path)
    assert len(samples.digest) == 64
    assert len({sample.digest for sample in samples.samples}) == len(samples)
    assert samples.labelled == path.name.startswith("digits")


@pytest.mark.parametrize("name", ["digits", "photos"])
def test_the_examples_are_pairs_that_do_not_overlap(name: str) -> None:
    calibration = f"{name}-calibration.toml" if name == "digits" else f"{name}.toml"
    folder = ROOT / "calibration"
    check_disjoint(open_set(folder / calibration), open_set(folder / f"{name}-evaluation.toml"))
