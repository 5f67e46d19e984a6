"""What a stranger gets: a light import, a whole wheel, and one version number."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, object]:
    return tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(code: str, cwd: Path) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=True).stdout


# ------------------------------------------------------------------------------------------------- import


def test_import_edgevit_loads_nothing_it_does_not_use(repository: Path) -> None:
    loaded = set(json.loads(run("import sys, json, edgevit; print(json.dumps(list(sys.modules)))", repository)))
    assert "edgevit" in loaded
    heavy = {"numpy", "torch", "onnx", "onnxruntime", "openvino", "PIL", "msgspec", "rich", "typer", "psutil"}
    assert not loaded & heavy


def test_the_command_line_prints_its_help_without_an_engine(repository: Path) -> None:
    code = (
        "import sys, runpy; sys.argv = ['edgevit', '--help']\n"
        "from edgevit.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'torch', 'onnx', 'onnxruntime', 'openvino', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert "export" in run(code, repository)


# -------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy: a build in place leaves folders behind and takes old ones in."""
    source = tmp_path_factory.mktemp("wheel") / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    shutil.copytree(repository / "edgevit", source / "edgevit", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    result = subprocess.run([*command, "-w", "dist", "."], cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (path,) = (source / "dist").glob("edgevit-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_package(repository: Path, wheel: zipfile.ZipFile) -> None:
    package = repository / "edgevit"
    expected = {
        path.relative_to(repository).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "edgevit/py.typed" in expected
    packed = set(wheel.namelist())
    assert expected - packed == set()
    assert {name.partition("/")[0] for name in packed} == {"edgevit", f"edgevit-{version_of(wheel)}.dist-info"}


def version_of(wheel: zipfile.ZipFile) -> str:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    found = re.search(r"^Version: (\S+)$", wheel.read(metadata).decode(), re.MULTILINE)
    assert found is not None
    return found.group(1)


def test_the_wheel_has_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    prefix = f"edgevit-{version_of(wheel)}.dist-info/"
    assert "edgevit = edgevit.cli:main" in wheel.read(f"{prefix}entry_points.txt").decode()
    assert b"Apache License" in wheel.read(f"{prefix}licenses/LICENSE")


# ------------------------------------------------------------------------------------------------ numbers


def test_one_version_everywhere(repository: Path, project: dict[str, object]) -> None:
    newest = re.search(r"^## (\d\S*)", (repository / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == project["version"]
    assert run("import edgevit; print(edgevit.__version__)", repository).strip() == project["version"]


def requirements(project: dict[str, object]) -> list[Requirement]:
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    base: list[str] = project["dependencies"]  # type: ignore[assignment]
    return [Requirement(text) for group in (base, *extras.values()) for text in group]


def test_every_requirement_is_pinned_to_a_version_it_allows(repository: Path, project: dict[str, object]) -> None:
    lines = (repository / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert all(str(pin.specifier).startswith("==") and "+" not in str(pin.specifier) for pin in pins)
    for requirement in requirements(project):
        if requirement.name != project["name"]:
            version = versions.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement.name} has no line in constraints.txt"
            assert requirement.specifier.contains(version), f"{requirement} does not allow the tested {version}"


def test_the_extra_all_has_every_extra_that_users_need(project: dict[str, object]) -> None:
    extras: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    (together,) = (Requirement(text) for text in extras["all"])
    others = {"all", "dev", "peers", "train", "coreml", "executorch", "litert", "tensorrt", "tensorrt-rtx"}
    assert together.extras == extras.keys() - others, "of no use without such a card, or for building apps only"


def test_torch_stays_within_what_is_tested(project: dict[str, object]) -> None:
    torch = [requirement for requirement in requirements(project) if requirement.name == "torch"]
    assert torch
    assert not any(requirement.specifier.contains("2.14.0") for requirement in torch)


# ----------------------------------------------------------------------------------------------- Makefile


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")
@pytest.mark.parametrize(
    ("python", "expected"),
    [
        (None, "Python 3.11 or newer"),
        ("#!/bin/sh\n[ $1 = --version ] && echo Python 3.9.2\nexit 1\n", "found Python 3.9.2"),
        ("#!/bin/sh\ncase $2 in *ensurepip*) exit 1;; esac\n", "apt-get install python3-venv"),
    ],
)
def test_make_says_what_to_install(repository: Path, tmp_path: Path, python: str | None, expected: str) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
    if python is not None:
        (tmp_path / "python").write_text(python)
        (tmp_path / "python").chmod(0o755)
    result = subprocess.run(
        ["make", "test", "PYTHON=./python"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},  # without what a make around these tests says to its children
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode != 0
    assert expected in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_makefile_names_only_what_is_there(repository: Path) -> None:
    text = (repository / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:export|benchmarks|calibration)/[\w./*-]+", text))
    assert {name.partition("/")[0] for name in named} == {"export", "benchmarks", "calibration"}
    assert [name for name in sorted(named) if not list(repository.glob(name))] == []
