"""What a flatbuffer says of itself, and that no damage makes reading it anything but an empty answer."""

from __future__ import annotations

import flatbuffers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgevit.targets.flatbuffer import file_identifier, root_text


def written(texts: list[str | None], identifier: bytes = b"TEST") -> bytes:
    """A file whose root table has one text per field, or none where it is None."""
    builder = flatbuffers.Builder(64)
    offsets = [None if text is None else builder.CreateString(text) for text in texts]
    builder.StartObject(len(texts))
    for field, offset in enumerate(offsets):
        if offset is not None:
            builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    builder.Finish(builder.EndObject(), file_identifier=identifier)
    return bytes(builder.Output())


def test_it_reads_what_the_library_writes() -> None:
    content = written(["6", None, "größer"])
    assert file_identifier(content) == "TEST"
    assert [root_text(content, field) for field in range(5)] == ["6", "", "größer", "", ""]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x00" * 8, b"\xff" * 64, b"not a model" * 9])
def test_what_is_no_flatbuffer_has_no_text(content: bytes) -> None:
    assert root_text(content, 0) == ""
    assert len(file_identifier(content)) in (0, 4)


def test_bytes_that_are_no_text_are_no_identifier() -> None:
    assert file_identifier(b"\x00\x00\x00\x00\xff\xfe\x00\x01") == ""


@given(st.binary(max_size=80), st.integers(0, 300))
def test_any_bytes_give_an_answer(content: bytes, field: int) -> None:
    assert isinstance(root_text(content, field), str)


@given(st.integers(0, 60), st.integers(0, 255))
def test_one_changed_byte_gives_an_answer(position: int, value: int) -> None:
    content = bytearray(written(["version", "other"]))
    content[position % len(content)] = value
    assert isinstance(root_text(bytes(content), 1), str)
