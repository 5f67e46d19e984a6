"""An engine's header, on bytes that TensorRT-RTX 1.7.1 wrote for sm86 and sm89 together."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.errors import BundleError, UnavailableError
from edgevit.targets.nvidia.engine_file import check_built, check_loadable, parse_header, read_header

HEAD = bytes.fromhex(
    "76747274000000000200000000000000d4333e000000000001070174767472740c0000000000000000000000000000000000000000000000"
    "002a160000000000"
)
SIZE = 4_076_500


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    with path.open("wb") as stream:
        stream.write(HEAD)
        stream.truncate(SIZE)
    return path


def test_version_size_and_architectures_are_read(engine: Path) -> None:
    header = read_header(engine)
    assert (header.version, header.size, header.architectures) == ("1.7.1.116", SIZE, ("sm86", "sm89"))


def test_a_truncated_engine_says_both_sizes(engine: Path) -> None:
    with engine.open("r+b") as stream:
        stream.truncate(1000)
    with pytest.raises(BundleError, match="4076500 bytes.*found 1000 bytes"):
        read_header(engine)


def test_what_is_no_engine_is_refused(tmp_path: Path) -> None:
    for data in (b"", HEAD[:40], b"ONNX" + HEAD[4:]):
        with pytest.raises(BundleError, match="expected an engine of TensorRT-RTX"):
            parse_header(data, "x")
    with pytest.raises(BundleError, match="cannot be read"):
        read_header(tmp_path / "missing")


def test_the_builder_is_held_to_what_was_asked(engine: Path) -> None:
    check_built(engine, "1.7.1.116", ("sm86", "sm89"))
    with pytest.raises(BundleError, match="for sm86, sm89"):
        check_built(engine, "1.7.1.116", ("sm86",))
    with pytest.raises(BundleError, match="1.8.0.1"):
        check_built(engine, "1.8.0.1", ("sm86", "sm89"))


def test_another_version_or_card_exits_with_3_and_the_way_out(engine: Path) -> None:
    header = read_header(engine)
    check_loadable(header, "1.7.1.116", "sm89", "tensorrt-rtx-int8")
    with pytest.raises(UnavailableError, match=r"libs==1\.7\.1\.116") as other:
        check_loadable(header, "1.8.0.1", "sm89", "tensorrt-rtx-int8")
    assert other.value.exit_status == 3
    with pytest.raises(UnavailableError, match="found sm120; export it with gpu=sm120"):
        check_loadable(header, "1.7.1.116", "sm120", "tensorrt-rtx-int8")
