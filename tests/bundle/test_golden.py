"""Golden inputs come back bit for bit, and nothing in their file can run code or exhaust memory."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgevit.bundle import GOLDEN, read_golden, write_golden
from edgevit.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = {"pixel_values": np.random.default_rng(0).normal(size=(3, 1, 4, 4)).astype(np.float32)}
OUTPUTS = {"logits": np.array([[0.1, -0.0], [np.inf, 1e-45], [3, 4]], np.float32), "file": np.arange(3)}


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_golden(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_arrays_come_back_bit_for_bit(tmp_path: Path) -> None:
    write_golden(tmp_path / GOLDEN, INPUTS, OUTPUTS)
    inputs, outputs = read_golden(tmp_path / GOLDEN)
    for before, after in ((INPUTS, inputs), (OUTPUTS, outputs)):
        assert list(before) == list(after)
        for name, array in before.items():
            assert array.dtype == after[name].dtype
            assert array.shape == after[name].shape
            assert array.tobytes() == after[name].tobytes()


def test_the_same_arrays_give_the_same_bytes(tmp_path: Path) -> None:
    write_golden(tmp_path / "a", INPUTS, OUTPUTS)
    write_golden(tmp_path / "b", INPUTS, OUTPUTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_objects_are_neither_written_nor_read(tmp_path: Path) -> None:
    objects = np.array([{"a": 1}], object)
    with pytest.raises(ValueError, match="Object arrays"):
        write_golden(tmp_path / GOLDEN, {"x": objects}, OUTPUTS)
    assert not (tmp_path / GOLDEN).exists()
    (tmp_path / GOLDEN).write_bytes(npz(**{"inputs/x": objects, "outputs/y": np.zeros(1)}))
    assert "allow_pickle" in refusal(tmp_path / GOLDEN)


def test_damage_anywhere_is_one_line(tmp_path: Path) -> None:
    write_golden(tmp_path / GOLDEN, INPUTS, OUTPUTS)
    data = (tmp_path / GOLDEN).read_bytes()
    for length in range(0, len(data), max(1, len(data) // 40)):
        (tmp_path / GOLDEN).write_bytes(data[:length])
        refusal(tmp_path / GOLDEN)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", npz(a=np.zeros(1)), npz(**{"inputs/x": np.zeros(1)}), npz(), npz(**{"else/x": np.zeros(1)})],
)
def test_files_of_another_kind(tmp_path: Path, data: bytes) -> None:
    (tmp_path / GOLDEN).write_bytes(data)
    refusal(tmp_path / GOLDEN)


def test_one_bare_array_is_no_archive(tmp_path: Path) -> None:
    with (tmp_path / GOLDEN).open("wb") as file:
        np.save(file, np.zeros(3))
    refusal(tmp_path / GOLDEN)
    assert "No such file" in refusal(tmp_path / "absent.npz")


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path) -> None:
    data = bytearray(npz(**{"inputs/x": np.zeros(4), "outputs/y": np.zeros(4)}))
    entry = data.index(b"PK\x01\x02")  # the first entry of the directory; its unpacked size is at byte 24
    data[entry + 24 : entry + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / GOLDEN).write_bytes(data)
    assert "unpacks to" in refusal(tmp_path / GOLDEN)
