"""Versions read off folder names agree with importlib.metadata, and cost neither its import nor its search."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from edgevit.targets import installed
from edgevit.targets.installed import installed_version


@pytest.mark.parametrize("package", ["numpy", "onnx-ir", "onnx_ir", "typing-extensions", "Pillow", "openvino"])
def test_the_version_is_the_one_that_the_metadata_has(package: str) -> None:
    assert installed_version(package) == importlib.metadata.version(package)


def test_the_first_of_several_that_is_installed_counts() -> None:
    assert installed_version("no-such-package", "numpy", "openvino") == importlib.metadata.version("numpy")
    assert installed_version("no-such-package") is None


def test_a_name_is_not_taken_for_a_longer_one(tmp_path, monkeypatch) -> None:
    (tmp_path / "engine_gpu-3.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert installed_version("engine") is None
    assert installed_version("Engine.GPU") == "3.0"


def test_what_has_no_folder_is_asked_of_the_metadata(monkeypatch) -> None:
    monkeypatch.setattr(installed, "_from_folder", lambda package: None)
    assert installed_version("numpy") == importlib.metadata.version("numpy")


def test_choosing_a_build_does_not_import_the_metadata() -> None:
    code = "import edgevit.runtime.selection, edgevit.targets.onnxruntime as t, sys; t.availability(); "
    check = "sys.exit('importlib.metadata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code + check], check=False).returncode == 0
