"""On a device there is NumPy and one engine: no torch, no onnx, nothing that converts or draws."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]

CONVERTERS = (
    "torch",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "safetensors",
    "sklearn",
    "scipy",
    "matplotlib",
    "jinja2",
    "nncf",
    "timm",
    "transformers",
)
ENGINES = ("openvino", "onnxruntime")


def all_but(engine: str) -> tuple[str, ...]:
    return (*CONVERTERS, *(other for other in ENGINES if other != engine))


@pytest.mark.parametrize("engine", ENGINES)
def test_everything_a_device_does_works_with_one_engine(
    edgevit: Command, digits: Any, repository: Path, engine: str
) -> None:
    absent = all_but(engine)
    other = next(name for name in ENGINES if name != engine)
    images = sorted((repository / "calibration" / "samples").glob("*.png"))

    result = edgevit("run", digits.bundle, *images, "--json", without=absent)
    assert result.status == 0, result.err
    assert [one["result"]["label"] for one in json.loads(result.out)] == [path.name[0] for path in images]

    result = edgevit("verify", digits.bundle, "--json", without=absent)
    assert result.status == 0, result.err
    verdicts = {check["build"]: check["verdict"] for check in json.loads(result.out)["builds"]}
    assert {verdict for name, verdict in verdicts.items() if name.startswith(engine)} == {"passed"}
    assert {verdict for name, verdict in verdicts.items() if name.startswith(other)} == {"not executed"}

    result = edgevit("parity", digits.bundle, "--json", without=absent)
    assert result.status == 0, result.err
    rungs = {rung["name"]: rung for rung in json.loads(result.out)["rungs"]}
    assert rungs[f"{engine}-int8"]["verdict"] == "passed" and rungs[f"{engine}-int8"]["samples"] == 600
    assert f"pip install 'edgevit[{other}]'" in rungs[f"{other}-int8"]["reason"]

    quick = ["--seconds", 0.05, "--rounds", 1, "--threads", 1, "--cold-starts", 0]
    result = edgevit("bench", digits.bundle, *quick, "--json", without=absent)
    assert result.status == 0, result.err
    report = json.loads(result.out)
    assert {entry["target"] for entry in report["entries"]} == {engine}
    assert all(f"edgevit[{other}]" in reason for reason in report["not_executed"].values())


@pytest.mark.parametrize("engine", ENGINES)
def test_what_the_missing_engine_would_do_has_status_3_and_the_extra(
    edgevit: Command, digits: Any, repository: Path, engine: str
) -> None:
    absent = all_but(next(name for name in ENGINES if name != engine))
    image = next((repository / "calibration" / "samples").glob("*.png"))
    for arguments in (["run", digits.bundle, image], ["bench", digits.bundle, "--seconds", 0.1]):
        result = edgevit(*arguments, "--target", engine, without=absent)
        assert result.status == 3, result.err
        assert f"edgevit[{engine}]" in result.complaint
    result = edgevit("parity", digits.bundle, "--target", engine, without=absent)
    assert result.status == 3
    assert "not executed" in result.out and f"edgevit[{engine}]" in result.out


def test_without_any_engine(edgevit: Command, digits: Any, repository: Path) -> None:
    absent = (*CONVERTERS, *ENGINES)
    image = next((repository / "calibration" / "samples").glob("*.png"))
    result = edgevit("run", digits.bundle, image, without=absent)
    assert result.status == 3
    assert "expected a build that runs on this machine, found none" in result.complaint
    result = edgevit("verify", digits.bundle, without=absent)
    assert result.status == 3
    assert "its files are intact" in result.complaint
    result = edgevit("doctor", without=absent)
    assert result.status == 0, result.err
    for engine in ENGINES:
        assert f"{engine}: build no, run no" in result.out
        assert f"pip install 'edgevit[{engine}]'" in result.out
    assert edgevit("inspect", digits.bundle, without=absent).status == 0


def test_the_application_side_imports_neither_torch_nor_onnx(edgevit: Command, digits: Any, repository: Path) -> None:
    """Not only because they are absent: with everything installed, loading and predicting brings none of it in."""
    image = next((repository / "calibration" / "samples").glob("7*.png"))
    prelude = f"""
import edgevit, sys
for target in ("openvino:int8", "onnxruntime:int8"):
    with edgevit.load({str(digits.bundle)!r}, target) as model:
        assert model.predict({str(image)!r}).label == "7"
found = sorted(set({CONVERTERS!r}) & set(sys.modules))
assert not found, found
"""
    result = edgevit("--version", prelude=prelude)
    assert result.status == 0, result.err
