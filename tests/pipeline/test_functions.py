"""What the command line does, from Python: each command is one function and gives the same."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import edgevit
from edgevit.bundle import Manifest, read_manifest
from edgevit.errors import EdgevitError, InputError, MeasureError, OutputError, PreprocessError, UnavailableError
from edgevit.measure import BenchOptions
from edgevit.pipeline import ExportOptions, read_bench
from edgevit.pipeline.commands import Verification
from edgevit.pipeline.diagnosis import Diagnosis
from edgevit.recipe import read_recipe
from edgevit.runtime.classify import Classification
from edgevit.types import BenchReport, ParityReport, QuantPlan

Command = Callable[..., Any]
QUICK = BenchOptions(
    targets=("onnxruntime:int8",), threads=(1,), seconds=0.02, rounds=1, cold_starts=0, warmup_seconds=0.0
)


@pytest.fixture
def images(repository: Path) -> list[Path]:
    return sorted((repository / "calibration" / "samples").glob("*.png"))


class Recorded:
    """A progress that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tasks: list[str] = []
        self.steps: dict[str, list[tuple[int, int | None]]] = {}

    def note(self, text: str) -> None:
        self.notes.append(text)

    def task(self, name: str, total: int | None) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def running() -> Any:
            self.tasks.append(name)
            known = total

            def advance(done: int, detail: str = "", total: int | None = None) -> None:
                self.steps.setdefault(name, []).append((done, total or known))

            yield advance

        return running()


# ----------------------------------------------------------------------------------------------- commands


def test_verify_equals_its_command(inside: Command, digits: Any) -> None:
    found = edgevit.verify(digits.bundle)
    assert found.passed and found.executed
    assert found == msgspec.json.decode(inside("verify", digits.bundle, "--json").out, type=Verification)


def test_parity_equals_its_command(inside: Command, digits: Any) -> None:
    progress = Recorded()
    found = edgevit.parity(digits.bundle, progress=progress)
    assert found == msgspec.json.decode(inside("parity", digits.bundle, "--json").out, type=ParityReport)
    assert progress.steps["parity of openvino-int8"][-1] == (600, 600)
    one = edgevit.parity(str(digits.bundle), target="onnxruntime:int8")
    assert [rung.name for rung in one.rungs] == ["onnxruntime-int8"]


def test_inspect_and_doctor_equal_their_commands(inside: Command, digits: Any) -> None:
    for path, kind in ((digits.bundle, Manifest), (digits.bundle / "plan.toml", QuantPlan)):
        assert edgevit.inspect(path) == msgspec.json.decode(inside("inspect", path, "--json").out, type=kind)
    assert edgevit.doctor() == msgspec.json.decode(inside("doctor", "--json").out, type=Diagnosis)


def test_run_equals_its_command(inside: Command, digits: Any, images: list[Path]) -> None:
    results = edgevit.run(digits.bundle, images, target="openvino:int8")
    shown = msgspec.json.decode(inside("run", digits.bundle, *images, "-t", "openvino:int8", "--json").out)
    assert results == [msgspec.convert(one["result"], Classification) for one in shown]
    assert edgevit.run(digits.bundle, []) == []


def test_bench_reports_its_steps(digits: Any, tmp_path: Path) -> None:
    progress = Recorded()
    report = edgevit.bench(digits.bundle, QUICK, progress)
    assert [entry.name for entry in report.entries] == ["onnxruntime-int8"]
    # The total is known once it is known what is measured, and the steps reach it.
    assert progress.steps["measuring"][-1] == (1, 1)
    saved = tmp_path / "report.json"
    for value in (report, {"report": report, "changes": []}, {"bench": report, "model": "digits-vit"}):
        saved.write_bytes(msgspec.json.encode(value))
        assert read_bench(saved) == report


def test_bench_without_a_result_is_an_error(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = BenchReport(
        model="digits-vit",
        machine=read_manifest(digits.bundle / "manifest.json").machine,
        seconds=1.0,
        rounds=1,
        entries=(),
        not_executed={"onnxruntime-int8": "it fell over"},
    )
    monkeypatch.setattr("edgevit.pipeline.commands.bench_bundle", lambda *arguments: empty)
    with pytest.raises(MeasureError, match=r"found none \(onnxruntime-int8: it fell over\)"):
        edgevit.bench(digits.bundle, QUICK)
    monkeypatch.setattr("edgevit.pipeline.commands.why_not_here", lambda build: "no engine")
    with pytest.raises(UnavailableError, match=r"found none \(onnxruntime-int8: it fell over\)"):
        edgevit.bench(digits.bundle, QUICK)


def test_export_reports_its_steps_and_equals_its_command(digits: Any, tmp_path: Path) -> None:
    progress = Recorded()
    out = digits.resumed_at(tmp_path / "out", "nothing")
    recipe = msgspec.structs.replace(read_recipe(digits.recipe), targets=("onnxruntime:int8",))
    result = edgevit.export(recipe, out, ExportOptions(command="from Python"), progress)
    assert (result.path, result.failed, result.bench) == (out, (), None)
    assert result.manifest == read_manifest(out / "manifest.json")
    assert {build.name for build in result.manifest.builds} >= {"onnxruntime-int8"}
    assert "plan: finished by an earlier run, used again" in progress.notes
    assert progress.steps["parity of onnxruntime-int8"][-1] == (600, 600)
    assert (out / "onnxruntime-int8" / "model.onnx").read_bytes() == (
        digits.bundle / "onnxruntime-int8" / "model.onnx"
    ).read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        edgevit.export(recipe, out)


@pytest.mark.parametrize("before", ["", "import edgevit.parity.statistics", "edgevit.load; edgevit.bench"])
def test_parity_is_a_function_whatever_was_imported_before(digits: Any, repository: Path, before: str) -> None:
    code = f"import edgevit\n{before}\nprint(edgevit.parity({str(digits.bundle)!r}, target='onnxruntime:int8').set)"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == edgevit.parity(digits.bundle, target="onnxruntime:int8").set


# --------------------------------------------------------------------------------------- in an application


@pytest.mark.parametrize("target", ["openvino:float32", "openvino:int8", "onnxruntime:float32", "onnxruntime:int8"])
def test_one_image_in_every_form_gives_one_answer(digits: Any, images: list[Path], target: str) -> None:
    path = images[3]
    with edgevit.load(digits.bundle, target) as model:
        expected = model.predict(path)
        assert expected.label == path.name[0] == "7"
        forms = [
            str(path),
            path.read_bytes(),
            Image.open(path),
            np.asarray(Image.open(path)),
            Image.open(path).convert("RGB"),
        ]
        for form in forms:
            assert model.predict(form).score == pytest.approx(expected.score, abs=1e-4)
            assert model.predict(form).label == "7"
        many = model.predict([path, images[0], Image.open(path)])
        assert [one.label for one in many] == ["7", images[0].name[0], "7"]
        assert model.predict([]) == []
        assert len(model.predict(path, top=10).top) == 10
        assert sum(score for _, score in model.predict(path, top=10).top) == pytest.approx(1)


@pytest.mark.parametrize("target", ["openvino:int8", "onnxruntime:int8"])
def test_eight_threads_get_their_own_answers(digits: Any, images: list[Path], target: str) -> None:
    with edgevit.load(digits.bundle, target, streams=2) as model:
        expected = [model.predict(path).score for path in images]
        wrong: list[object] = []

        def work(offset: int) -> None:
            for step in range(15):
                index = (offset + step) % len(images)
                try:
                    found = model.predict(images[index])
                except Exception as error:
                    wrong.append(error)
                    return
                if found.label != images[index].name[0] or abs(found.score - expected[index]) > 1e-5:
                    wrong.append((index, found))

        threads = [threading.Thread(target=work, args=(offset,)) for offset in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_load_takes_the_best_build_and_closes(digits: Any) -> None:
    model = edgevit.load(digits.bundle)
    assert model.build.verdict == "passed"
    assert model.run({"pixel_values": np.zeros((3, 1, 48, 48), np.float32)})["logits"].shape == (3, 10)
    model.close()
    model.close()
    with pytest.raises(InputError, match="already closed"):
        model.run({"pixel_values": np.zeros((1, 1, 48, 48), np.float32)})


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({}, r"inputs \['pixel_values'\], found \[\]"),
        ({"image": np.zeros((1, 1, 48, 48), np.float32)}, r"found \['image'\]"),
        ({"pixel_values": np.zeros((1, 1, 48, 48))}, "of float32, found float64"),
        ({"pixel_values": [[0.0]]}, "of float32, found list"),
        ({"pixel_values": np.zeros((1, 3, 48, 48), np.float32)}, r"of shape \(batch, 1, 48, 48\)"),
        ({"pixel_values": np.zeros((48, 48), np.float32)}, r"of shape \(batch, 1, 48, 48\)"),
        ({"pixel_values": np.zeros((0, 1, 48, 48), np.float32)}, "no empty dimension"),
    ],
)
def test_wrong_inputs_of_run(digits: Any, inputs: dict[str, Any], expected: str) -> None:
    with edgevit.load(digits.bundle, "onnxruntime:float32") as model, pytest.raises(InputError, match=expected):
        model.run(inputs)


def test_wrong_inputs_of_predict(digits: Any, tmp_path: Path) -> None:
    with edgevit.load(digits.bundle, "onnxruntime:float32") as model:
        for item in (tmp_path / "none.png", b"", b"no image", np.zeros((4, 4), np.float64), io.BytesIO(), None, 3):
            with pytest.raises(PreprocessError):
                model.predict(item)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (48, 48)])
def test_images_of_every_kind(digits: Any, mode: str, size: tuple[int, int]) -> None:
    with edgevit.load(digits.bundle, "onnxruntime:float32") as model:
        assert model.predict(Image.new(mode, size)).label in model.labels


def test_what_is_no_bundle(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(EdgevitError, match=r"no bundle|not a bundle"):
            edgevit.load(path)
