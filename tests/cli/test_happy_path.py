"""The whole way on `zoo:digits-vit` through the command line, and everything that can be done with its bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgevit.bundle import Manifest
from edgevit.pipeline.commands import Verification
from edgevit.pipeline.diagnosis import Diagnosis
from edgevit.pipeline.inspecting import OnnxSummary
from edgevit.runtime.classify import Classification
from edgevit.types import BenchReport, ParityReport, QuantPlan

BUILDS = ["openvino-float32", "openvino-int8", "onnxruntime-float32", "onnxruntime-int8"]
Command = Callable[..., Any]


class Prediction(msgspec.Struct):
    input: str
    result: Classification


@pytest.fixture
def samples(repository: Path) -> list[Path]:
    return sorted((repository / "calibration" / "samples").glob("*.png"))


def document(result: Any, kind: Any) -> Any:
    """The one JSON document on standard output, as the value it was; nothing on standard error but progress."""
    assert result.status == 0, result.err
    assert "edgevit:" not in result.err
    return msgspec.json.decode(result.out.encode(), type=kind, strict=True)


# ------------------------------------------------------------------------------------------------- export


def test_export_prints_a_table_that_fits_and_where_everything_is(digits: Any) -> None:
    out, err = digits.finished.out, digits.finished.err
    assert max(len(line) for line in out.splitlines() if not line.startswith(("bundle:", "report:"))) <= 80
    for name in BUILDS:
        assert re.search(rf"^{name} +passed +\d", out, re.MULTILINE)
    # The recipe's bfloat16 build is made where the processor executes it.
    assert re.search(r"(4|5) builds · \1 passed", out)
    assert "openvino-bfloat16: not built" in out or "openvino-bfloat16    passed" in out
    assert "none of them is in the evaluation set" in out
    assert re.search(r"^report: file:///\S+/report\.html$", out, re.MULTILINE)
    progress = err.splitlines()
    assert all(re.fullmatch(r"[^\x1b]+: [\d.]+ (s|min \d+ s)", line) for line in progress), err
    assert {"tracing", "planning scales", "writing the report"} <= {line.partition(":")[0] for line in progress}


def test_the_bundle_holds_what_the_manifest_says_and_nothing_else(digits: Any) -> None:
    manifest = msgspec.json.decode((digits.bundle / "manifest.json").read_bytes(), type=Manifest)
    listed = {file.path for build in manifest.builds for file in build.files} | {file.path for file in manifest.files}
    found = {path.relative_to(digits.bundle).as_posix() for path in digits.bundle.rglob("*") if path.is_file()}
    assert found == listed | {"manifest.json"}
    assert [build.name for build in manifest.builds][:4] == BUILDS
    assert {build.verdict for build in manifest.builds} == {"passed"}
    assert manifest.calibration is not None and manifest.calibration.samples == 48
    assert manifest.calibration.coverage == "10 of 10 classes"
    for build in manifest.builds:
        assert build.execution is not None and build.golden_sqnr_db is not None
        if build.precision == "int8":
            assert build.execution.precision == "int8" and build.execution.quantized_executed > 20


def test_nothing_is_left_beside_a_finished_bundle(digits: Any) -> None:
    assert {path.name for path in digits.bundle.parent.iterdir()} <= {"out", "recipe.toml", "stages", "streams.json"}


# ------------------------------------------------------------------------------- what is done with a bundle


def test_run_gives_the_right_labels(inside: Command, digits: Any, samples: list[Path]) -> None:
    assert len(samples) == 5
    result = inside("run", digits.bundle, *samples)
    assert result.status == 0 and result.err == ""
    lines = result.out.splitlines()
    assert [line.rpartition(": ")[2].split()[0] for line in lines] == [path.name[0] for path in samples]


@pytest.mark.parametrize("target", ["openvino:int8", "onnxruntime:float32", "onnxruntime-int8"])
def test_run_as_json_is_the_results(inside: Command, digits: Any, samples: list[Path], target: str) -> None:
    found = document(inside("run", digits.bundle, *samples, "-t", target, "--top", 2, "--json"), list[Prediction])
    assert [one.result.label for one in found] == [Path(one.input).name[0] for one in found]
    assert all(len(one.result.top) == 2 and one.result.score > 0.5 for one in found)


def test_verify_replays_every_build(inside: Command, digits: Any) -> None:
    result = inside("verify", digits.bundle)
    assert result.status == 0 and "intact and right on this machine" in result.out
    found = document(inside("verify", digits.bundle, "--json"), Verification)
    assert {check.verdict for check in found.builds} == {"passed"} and found.problems == ()
    assert [check.build for check in found.builds][:4] == BUILDS


def test_parity_repeats_what_the_export_found(inside: Command, digits: Any) -> None:
    found = document(inside("parity", digits.bundle, "--json"), ParityReport)
    # The bundle carries the reference of the 600 samples; the set itself has more, and the same share is taken.
    manifest = msgspec.json.decode((digits.bundle / "manifest.json").read_bytes(), type=Manifest)
    assert found.set_digest == manifest.evaluation.set_digest  # type: ignore[union-attr]
    assert [rung.samples for rung in found.rungs][:4] == [600] * 4
    assert {rung.verdict for rung in found.rungs} == {"passed"}
    report = msgspec.json.decode((digits.bundle / "report.json").read_bytes())["parity"]["rungs"]
    exported = {rung["name"]: rung["task"]["build"] for rung in report if rung.get("task")}
    assert {rung.name: rung.task.build for rung in found.rungs if rung.task}.items() <= exported.items()


def test_parity_of_one_build_on_another_set_says_what_stood_in(inside: Command, digits: Any, repository: Path) -> None:
    photos = repository / "calibration" / "photos-evaluation.toml"
    result = inside("parity", digits.bundle, "--evaluation", photos, "--target", "openvino:int8")
    assert result.status == 0, result.err
    assert "openvino-int8" in result.out and "onnxruntime" not in result.out
    assert "no labels, so the reference's answers stand in for the truth" in " ".join(result.out.split())
    assert max(map(len, result.out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("", Manifest, "bundle of digits-vit: image-classification, 10 labels"),
        ("manifest.json", Manifest, "calibrated on 48 samples"),
        ("plan.toml", QuantPlan, "blocks.0.attn.qkv.weight: input scale"),
    ],
)
def test_inspect(inside: Command, digits: Any, path: str, kind: Any, expected: str) -> None:
    assert expected in inside("inspect", digits.bundle / path).out
    assert isinstance(document(inside("inspect", digits.bundle / path, "--json"), kind), kind)


def test_inspect_an_onnx_file(inside: Command, digits: Any) -> None:
    (lowered,) = digits.stages.glob("lower-*/model.onnx")
    assert "6 attention blocks, 26 quantizable layers" in inside("inspect", lowered).out
    found = document(inside("inspect", lowered, "--json"), OnnxSummary)
    assert found.layers["blocks.0.attn.qkv.weight"] == (288, 96)


def test_doctor_names_every_target(inside: Command) -> None:
    result = inside("doctor")
    assert result.status == 0
    found = document(inside("doctor", "--json"), Diagnosis)
    for state in found.targets:
        assert state.target in result.out
        assert (state.build and state.run) or state.fix
    assert {"openvino", "onnxruntime"} <= {state.target for state in found.targets if state.build and state.run}


def test_bench_measures_and_compares(edgevit: Command, digits: Any, tmp_path: Path) -> None:
    quick = ["--target", "onnxruntime", "--seconds", 0.1, "--rounds", 2, "--threads", 1, "--cold-starts", 1]
    first = edgevit("bench", digits.bundle, *quick, "--json")
    report = document(first, BenchReport)
    assert [entry.name for entry in report.entries] == ["onnxruntime-float32", "onnxruntime-int8"]
    assert all(entry.latency.p50 > 0 and entry.cold_start for entry in report.entries)
    (tmp_path / "old.json").write_text(first.out, encoding="utf-8")
    second = edgevit("bench", digits.bundle, *quick, "--compare", tmp_path / "old.json")
    assert second.status == 0, second.err
    assert re.search(r"^onnxruntime-int8, batch 1, threads 1: (slower|faster|unchanged)", second.out, re.MULTILINE)
    assert max(map(len, second.out.splitlines())) <= 80
