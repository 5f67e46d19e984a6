"""The wheel of the running edgevit: installable, whole, and the same wherever it is made from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edgevit import __version__
from edgevit.devices import write_wheel
from edgevit.devices.packages import Needs, Platform, collect, pip_reason, unreachable
from edgevit.devices.wheel import requirement_of, wheel_metadata
from edgevit.errors import UnavailableError


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wheel(tmp_path_factory.mktemp("wheel"), __version__)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip has installed it into."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return place


def test_it_holds_every_file_and_no_cache(wheel: Path, repository: Path) -> None:
    package = repository / "edgevit"
    files = [path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith("edgevit/")]
        assert sorted(names) == sorted(path.relative_to(repository).as_posix() for path in files)
        assert archive.read("edgevit/errors.py") == (package / "errors.py").read_bytes()


def test_pip_installs_it_and_it_runs(installed: Path) -> None:
    code = "import edgevit, importlib.metadata as m; print(edgevit.__file__, m.version('edgevit'))"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    found = subprocess.check_output([sys.executable, "-P", "-c", code], text=True, env=environment, cwd=installed)
    assert found.split() == [str(installed / "edgevit" / "__init__.py"), __version__]
    assert (installed / "bin" / "edgevit").is_file()


def test_an_installed_edgevit_makes_the_same_wheel(wheel: Path, installed: Path, tmp_path: Path) -> None:
    code = f"from edgevit.devices import write_wheel; from pathlib import Path; write_wheel(Path('.'), {__version__!r})"
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=environment, cwd=tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(tmp_path / wheel.name) as other:
        assert one.namelist() == other.namelist()
        different = [name for name in one.namelist() if one.read(name) != other.read(name)]
    assert different == []
    assert wheel.read_bytes() == (tmp_path / wheel.name).read_bytes()


def test_it_asks_for_the_base_install_and_its_extras(wheel: Path) -> None:
    metadata = wheel_metadata(wheel)
    base = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, re.MULTILINE)
    assert {"numpy", "msgspec", "pillow", "psutil", "rich", "typer"} == set(base)
    assert "Requires-Python: >=3.11" in metadata and "Provides-Extra: onnxruntime" in metadata
    assert requirement_of(metadata, "onnxruntime").startswith("onnxruntime>=")
    assert requirement_of(metadata, "ai-edge-litert").startswith("ai-edge-litert>=")
    assert requirement_of(metadata, "never-heard-of") == "never-heard-of"


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip here knows nothing but the folders that it is given."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def toy_wheel(folder: Path, name: str, version: str, tag: str, requires: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requires}"] if requires else []
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(lines) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


BOARD = Platform(platforms=("manylinux_2_36_aarch64", "manylinux_2_17_aarch64"), interpreter="cp312")


@pytest.mark.usefixtures("no_index")
def test_wheels_are_chosen_for_the_device_and_not_for_here(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    main = toy_wheel(tmp_path / "made", "toyvit", "1.0", "py3-none-any", "toybase>=1")
    toy_wheel(folder, "toybase", "1.5", "py3-none-any")
    toy_wheel(folder, "toyengine", "2.0", "cp312-cp312-manylinux_2_17_aarch64")
    toy_wheel(folder, "toyengine", "2.0", "cp311-cp311-manylinux_2_17_x86_64")
    toy_wheel(folder, "toyengine", "3.0", "cp312-cp312-manylinux_2_39_aarch64")
    collect(main, Needs(exact=("toyengine==2.0",), any=("toyengine",)), BOARD, folder, tmp_path / "into")
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == [
        "toybase-1.5-py3-none-any.whl",
        "toyengine-2.0-cp312-cp312-manylinux_2_17_aarch64.whl",
        "toyvit-1.0-py3-none-any.whl",
    ]
    assert len(list(folder.iterdir())) == 4, "what was there is all that is there"


@pytest.mark.usefixtures("no_index")
def test_what_is_neither_in_the_folder_nor_in_an_index(tmp_path: Path) -> None:
    main = toy_wheel(tmp_path / "made", "toyvit", "1.0", "py3-none-any")
    toy_wheel(tmp_path / "wheels", "toyengine", "2.0", "cp311-cp311-manylinux_2_17_x86_64")
    needs = Needs(exact=("toyengine==2.0",), any=("toyengine>=1",))
    with pytest.raises(UnavailableError, match=r"wheels of toyengine>=1 for manylinux_2_36_aarch64 and cp312.*no pack"):
        collect(main, needs, BOARD, tmp_path / "wheels", tmp_path / "into")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "WARNING: Retrying … NewConnectionError('…: Failed to establish a new connection')\n"
            "ERROR: No matching distribution found for rich",
            "no package index can be reached",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement a==9 (from versions: 1)\n"
            "ERROR: No matching distribution found for a==9\n\n[notice] A new release of pip is available",
            "pip says: No matching distribution found for a==9",
        ),
        ("/usr/bin/python3: No module named pip", "pip is not installed; run: python -m ensurepip"),
        ("", "pip says: nothing"),
    ],
)
def test_pip_in_one_line(text: str, reason: str) -> None:
    assert pip_reason(text) == reason
    assert unreachable(text) is reason.startswith("no package index")
