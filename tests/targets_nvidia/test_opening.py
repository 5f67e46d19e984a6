"""Which engine is opened: the build's own, one compiled again, or none with the reason."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from edgevit.errors import BundleError, UnavailableError
from edgevit.targets.base import OpenOptions
from edgevit.targets.nvidia import opening
from edgevit.targets.nvidia.device import DeviceState
from edgevit.targets.nvidia.files import ENGINE, LAYERS, ONNX
from edgevit.targets.nvidia.network import Built, NetworkOptions


class Nvidia:
    __version__ = "1.7.1.116"


def header(version: tuple[int, ...] = (1, 7, 1, 116), mask: int = 4, size: int = 64) -> bytes:
    return b"vtrt".ljust(16, b"\0") + struct.pack("<Q", size) + bytes(version) + b"vtrt" + struct.pack("<Q24x", mask)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "tensorrt-rtx-int8"
    folder.mkdir()
    (folder / ENGINE).write_bytes(header())
    (folder / ONNX).write_bytes(b"the graph")
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What reached the card: (engine, max batch) of every session that was opened."""
    seen: list[Any] = []

    def open_engine(runtime: Any, engine: bytes, directory: Path, build: Any, options: OpenOptions) -> str:
        seen.append((engine, opening.describe(runtime, directory, build, options).max_batch))
        return "session"

    monkeypatch.setattr(opening, "probe", lambda: DeviceState(name="RTX 3090", architecture="sm86", driver="12.8"))
    monkeypatch.setattr(opening, "open_engine", open_engine)
    return seen


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[NetworkOptions]:
    """The options of every engine that was compiled again."""
    seen: list[NetworkOptions] = []

    def build_engine(nvidia: Any, path: Path, signature: Any, options: NetworkOptions) -> Built:
        seen.append(options)
        return Built(engine=b"compiled here", log="")

    monkeypatch.setattr(opening, "build_engine", build_engine)
    return seen


def test_an_engine_that_fits_is_opened(directory: Path, build, opened) -> None:
    assert opening.open_rtx(Nvidia, directory, build, OpenOptions()) == "session"
    assert opened == [(header(), 4)]


@pytest.mark.parametrize(("other", "reason"), [({"mask": 8}, "found sm86"), ({"version": (1, 8, 0, 1)}, "1.8.0.1")])
def test_one_of_another_card_or_version_exits_with_3(directory: Path, build, opened, compiled, other, reason) -> None:
    (directory / ENGINE).write_bytes(header(**other))
    with pytest.raises(UnavailableError, match=reason) as error:
        opening.open_rtx(Nvidia, directory, build, OpenOptions())
    assert error.value.exit_status == 3
    assert (opened, compiled) == ([], [])


def test_if_asked_it_is_compiled_again_for_this_card_once(
    directory: Path, tmp_path: Path, build, opened, compiled
) -> None:
    (directory / ENGINE).write_bytes(header(mask=8))
    options = OpenOptions(rebuild=True, cache_dir=tmp_path / "cache")
    for _ in range(2):
        opening.open_rtx(Nvidia, directory, build, options)
    assert [engine for engine, _ in opened] == [b"compiled here"] * 2
    assert [(options.architectures, options.profile.text) for options in compiled] == [(("sm86",), "batch:1:1:4")]


def test_without_a_cache_it_is_compiled_each_time(directory: Path, build, opened, compiled) -> None:
    (directory / ENGINE).write_bytes(header(mask=8))
    for _ in range(2):
        opening.open_rtx(Nvidia, directory, build, OpenOptions(rebuild=True))
    assert len(compiled) == 2


def test_without_the_graph_it_cannot_be_compiled_again(directory: Path, build, opened, compiled) -> None:
    (directory / ENGINE).write_bytes(header(mask=8))
    (directory / ONNX).unlink()
    with pytest.raises(BundleError, match="to compile the build again from"):
        opening.open_rtx(Nvidia, directory, build, OpenOptions(rebuild=True))


def test_a_truncated_engine_is_damage_even_with_rebuild(directory: Path, build, opened, compiled) -> None:
    (directory / ENGINE).write_bytes(header(size=9999))
    with pytest.raises(BundleError, match="9999 bytes"):
        opening.open_rtx(Nvidia, directory, build, OpenOptions(rebuild=True))
    assert opened == []


def test_a_build_without_a_table_of_layers_still_describes_itself(directory: Path, build, opened) -> None:
    assert not (directory / LAYERS).exists()
    runtime = opening.Runtime(
        name="tensorrt-rtx", version="1", extra="tensorrt-rtx", nvidia=Nvidia, device=DeviceState(name="RTX 3090")
    )
    described = opening.describe(runtime, directory, build, OpenOptions(streams=2))
    assert (described.engine.device, described.execution.precision, described.streams) == ("RTX 3090", "int8", 2)
