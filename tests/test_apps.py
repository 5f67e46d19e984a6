"""The applications of export/apps: built and run where this machine can, with the labels that Python gives."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

import edgevit
from edgevit.types import ImagePreprocess

needs_compiler = pytest.mark.skipif(
    shutil.which("cmake") is None or shutil.which("g++") is None,
    reason="cmake and g++ are not here, so the C++ program was not built; sudo apt-get install cmake g++",
)


@pytest.fixture(scope="module")
def app(repository: Path) -> Any:
    spec = importlib.util.spec_from_file_location("app", repository / "export" / "apps" / "python" / "classify.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["app"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["app"]


@pytest.fixture
def samples(repository: Path) -> list[Path]:
    return sorted((repository / "calibration" / "samples").glob("*.png"))


# ------------------------------------------------------------------------------------------------- Python


def test_a_folder_is_classified_in_its_order(
    app: Any, digits: Any, repository: Path, samples: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(digits.bundle), str(repository / "calibration" / "samples"), "--workers", "3", "--top", "1"]
    assert app.main([*arguments, "--target", "onnxruntime:int8"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [path.name for path in samples]
    assert [line["top"][0][0] for line in lines] == [path.name[0] for path in samples]


def test_a_broken_picture_is_reported_among_the_others(
    app: Any, digits: Any, tmp_path: Path, samples: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(samples[0], tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    shutil.copy(samples[1], tmp_path / "c.png")
    (tmp_path / "d.txt").write_text("not looked at")
    assert app.main([str(digits.bundle), str(tmp_path)]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["name"], bool(line["error"])) for line in lines] == [
        ("a.png", False),
        ("b.png", True),
        ("c.png", False),
    ]


def test_what_is_no_folder_is_bad_usage(app: Any, digits: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main([str(digits.bundle), "nowhere"]) == 2
    assert "expected a folder or camera:NUMBER, found 'nowhere'" in capsys.readouterr().err


def test_a_folder_waits_until_there_is_room(app: Any) -> None:
    delivered: list[int] = []

    def frames() -> Iterator[Any]:
        for number in range(20):
            delivered.append(number)
            yield app.Frame(str(number), None)

    feed = app.Feed(frames(), 3, drops=False)
    seen = []
    for frame in feed:
        time.sleep(0.01)
        seen.append(int(frame.name))
        assert len(delivered) <= len(seen) + 3 + 1, "three wait and one is in hand"
    assert seen == list(range(20)) and feed.dropped == 0


def test_a_camera_drops_the_oldest_and_counts_them(app: Any) -> None:
    feed = app.Feed((app.Frame(str(number), None) for number in range(200)), 2, drops=True)
    seen = []
    for frame in feed:
        time.sleep(0.02)
        seen.append(int(frame.name))
    assert seen == sorted(seen) and seen[-1] == 199, "the newest is never the one that is dropped"
    assert feed.dropped == 200 - len(seen) > 0


def test_an_error_of_the_camera_is_not_lost(app: Any) -> None:
    def frames() -> Iterator[Any]:
        yield app.Frame("0", None)
        raise OSError("unplugged")

    with pytest.raises(OSError, match="unplugged"):
        list(app.Feed(frames(), 2, drops=False))


def test_who_stops_early_stops_the_delivery(app: Any) -> None:
    feed = app.Feed((app.Frame(str(number), None) for number in range(10**9)), 2, drops=False)
    frames = iter(feed)
    assert next(frames).name == "0"
    frames.close()  # type: ignore[attr-defined]
    feed._thread.join(5)
    assert not feed._thread.is_alive()


def test_uint8_frames_are_classified_as_files_are(app: Any, digits: Any, samples: list[Path]) -> None:
    frames = [app.Frame(path.name, np.asarray(Image.open(path).convert("RGB"))) for path in samples]
    with edgevit.load(digits.bundle, "onnxruntime:int8", streams=2) as model:
        outcomes = list(app.classified(frames, lambda picture: model.predict(picture, top=1), 2))
        expected = [model.predict(path, top=1) for path in samples]
    assert [outcome.result for outcome in outcomes] == expected
    assert [outcome.name for outcome in outcomes] == [path.name for path in samples]


def test_no_more_calls_than_asked_for_are_under_way(app: Any) -> None:
    import threading

    running, most, lock = 0, 0, threading.Lock()

    def predict(picture: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.002 * (picture % 3))
        with lock:
            running -= 1
        return picture

    outcomes = app.classified((app.Frame(str(n), n) for n in range(50)), predict, 4)
    assert [outcome.result for outcome in outcomes] == list(range(50))
    assert 1 < most <= 4


def test_a_camera_needs_opencv_and_says_so(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(SystemExit, match="pip install opencv-python-headless"):
        next(app.camera_frames(0))


# ---------------------------------------------------------------------------------------------------- C++


@pytest.fixture(scope="module")
def program(repository: Path, once: Callable[..., Path]) -> Path:
    """The C++ program, compiled against the headers and the library of OpenVINO's wheel."""

    def make(place: Path) -> None:
        import openvino.utils

        compile_program(
            repository / "export" / "apps" / "cpp", place, f"OpenVINO_DIR={openvino.utils.get_cmake_path()}"
        )

    # CMake writes the folder's name into what it makes, and `once` renames it: only the program is used after.
    return once("cpp", make) / "classify"


def compile_program(source: Path, place: Path, engine: str) -> None:
    for command in (["cmake", "-S", source, "-B", place, f"-D{engine}"], ["cmake", "--build", place]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stdout + done.stderr


@pytest.fixture
def pictures(tmp_path: Path, samples: list[Path], repository: Path) -> list[Path]:
    """Digits as grey PGM and photographs as PPM."""
    converted = []
    for path in [*samples, *sorted((repository / "calibration" / "photos").glob("*.jpg"))[:2]]:
        image = Image.open(path)
        image = image.convert("L" if path in samples else "RGB")
        converted.append(tmp_path / f"{path.stem}.{'pgm' if image.mode == 'L' else 'ppm'}")
        image.save(converted[-1])
    return converted


def run_program(program: Path, *arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@needs_compiler
def test_the_cpp_program_prints_pythons_labels(program: Path, digits: Any, pictures: list[Path]) -> None:
    done = run_program(program, digits.bundle, *pictures)
    assert done.returncode == 0, done.stderr
    with edgevit.load(digits.bundle, "openvino:float32", threads=1) as model:
        expected = [model.predict(path, top=1) for path in pictures]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in pictures]
    assert [row[1] for row in rows] == [result.label for result in expected]
    np.testing.assert_allclose([float(row[2]) for row in rows], [result.score for result in expected], atol=2e-5)


@needs_compiler
def test_the_cpp_program_hands_pixels_to_a_build_that_holds_the_preprocessing(
    program: Path, raw: Any, pictures: list[Path]
) -> None:
    done = run_program(program, raw.bundle, *pictures)
    assert done.returncode == 0, done.stderr
    found = {}
    for target in ("openvino:int8", "openvino:float16"):  # it takes the faster one
        with edgevit.load(raw.bundle, target, threads=1) as model:
            found[target] = [model.predict(path, top=1) for path in pictures]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[1] for row in rows] in [[result.label for result in results] for results in found.values()]
    off = [
        max(abs(float(row[2]) - result.score) for row, result in zip(rows, results, strict=True))
        for results in found.values()
    ]
    assert min(off) < 2e-5


def test_frames_of_a_camera_go_into_the_engine_as_they_are(app: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = sorted(raw.photos.rglob("*.png"))
    frames = [app.Frame(path.parent.name, np.asarray(Image.open(path))) for path in photos]
    with edgevit.load(raw.bundle, streams=2) as model:
        monkeypatch.setattr(Image.Image, "resize", None)
        outcomes = list(app.classified(frames, lambda picture: model.predict(picture, top=1), 2))
    assert [outcome.result.label for outcome in outcomes] == [frame.name for frame in frames]


@needs_compiler
@pytest.mark.parametrize(
    "changes",
    [
        {"resize": "shortest", "crop_fraction": 0.8, "interpolation": "bilinear"},
        {"resize": "shortest", "crop_fraction": 0.875, "interpolation": "lanczos", "mean": [0.1307], "std": [0.3081]},
        {"resize": "shortest", "interpolation": "nearest"},
    ],
)
def test_the_cpp_program_takes_its_preprocessing_from_the_manifest(
    program: Path, digits: Any, pictures: list[Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    from edgevit.preprocess import image_tensor
    from edgevit.runtime.classify import classify

    bundle = digits.copy(tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["preprocess"] |= changes
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    spec = msgspec.convert(manifest["preprocess"], ImagePreprocess)
    done = run_program(program, bundle, *pictures)
    assert done.returncode == 0, done.stderr
    with edgevit.load(digits.bundle, "openvino:float32", threads=1) as model:
        scores = [model.run({"pixel_values": image_tensor(path, spec)[None]})["logits"][0] for path in pictures]
    expected = [classify(row, manifest["labels"], 1) for row in scores]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[1] for row in rows] == [result.label for result in expected]
    np.testing.assert_allclose([float(row[2]) for row in rows], [result.score for result in expected], atol=2e-5)


@needs_compiler
def test_the_cpp_program_says_what_is_wrong(program: Path, digits: Any, tmp_path: Path, samples: list[Path]) -> None:
    assert run_program(program).returncode == 2
    done = run_program(program, tmp_path, samples[0])
    assert done.returncode == 1 and "manifest.json, which cannot be read" in done.stderr
    done = run_program(program, digits.bundle, samples[0])
    assert done.returncode == 1 and "expected a binary PPM or PGM" in done.stderr
    (tmp_path / "cut.ppm").write_bytes(b"P6 100 100 255\n" + bytes(50))
    done = run_program(program, digits.bundle, tmp_path / "cut.ppm")
    assert done.returncode == 1 and "expected eight-bit pixels to the end" in done.stderr
    bundle = digits.copy(tmp_path / "bundle")
    for text, message in (("{", "in the manifest at byte"), ("[" * 99, "less nesting"), ("{}", 'expected "task"')):
        (bundle / "manifest.json").write_text(text)
        done = run_program(program, bundle, samples[0])
        assert done.returncode == 1 and message in done.stderr


@needs_compiler
def test_the_cpp_program_never_takes_a_build_that_failed(
    program: Path, digits: Any, tmp_path: Path, samples: Any
) -> None:
    bundle = digits.copy(tmp_path / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_text())
    for build in manifest["builds"]:
        build["verdict"] = "failed"
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    done = run_program(program, bundle, samples[0])
    assert done.returncode == 1 and "expected an OpenVINO build within its budget" in done.stderr


# ---------------------------------------------------------------------------------------- C++ with ExecuTorch


@pytest.fixture(scope="module")
def executorch_program(repository: Path, once: Callable[..., Path]) -> Path:
    """The same program, compiled against the headers and the libraries of ExecuTorch's wheel."""

    def make(place: Path) -> None:
        (package,) = importlib.util.find_spec("executorch").submodule_search_locations  # type: ignore[union-attr]
        source = repository / "export" / "apps" / "cpp-executorch"
        compile_program(source, place, f"executorch_DIR={package}/share/cmake")

    return once("cpp-executorch", make) / "classify"


@pytest.fixture(scope="module")
def programs(digits: Any, once: Callable[..., Path], edgevit: Callable[..., Any]) -> Path:
    """A bundle of zoo:digits-vit with ExecuTorch's builds in float32 and int8."""

    def make(place: Path) -> None:
        out = digits.resumed_at(place / "out")
        targets = ["--target", "executorch:float32", "--target", "executorch:int8"]
        finished = edgevit("export", "zoo:digits-vit", out, "--recipe", digits.recipe, *targets)
        assert finished.status == 0, finished.err

    return once("executorch-digits", make) / "out"


def only(bundle: Path, to: Path, precision: str) -> Path:
    """A copy whose manifest knows one of its builds."""
    shutil.copytree(bundle, to)
    manifest = json.loads((to / "manifest.json").read_text())
    manifest["builds"] = [build for build in manifest["builds"] if build["precision"] == precision]
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


@needs_compiler
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_executorch_program_prints_pythons_labels(
    executorch_program: Path, programs: Path, pictures: list[Path], tmp_path: Path, precision: str
) -> None:
    bundle = only(programs, tmp_path / "bundle", precision)
    done = run_program(executorch_program, bundle, *pictures)
    assert done.returncode == 0, done.stderr
    with edgevit.load(programs, f"executorch:{precision}", threads=1) as model:
        expected = [model.predict(path, top=1) for path in pictures]
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in pictures]
    assert [row[1] for row in rows] == [result.label for result in expected]
    np.testing.assert_allclose([float(row[2]) for row in rows], [result.score for result in expected], atol=2e-4)


@needs_compiler
def test_the_executorch_program_says_what_is_wrong(
    executorch_program: Path, programs: Path, digits: Any, tmp_path: Path, pictures: list[Path]
) -> None:
    done = run_program(executorch_program, digits.bundle, pictures[0])
    assert done.returncode == 1 and "expected an ExecuTorch build within its budget" in done.stderr
    bundle = only(programs, tmp_path / "bundle", "int8")
    program = bundle / "executorch-int8" / "model.pte"
    program.write_bytes(b"not a program, but long enough to look into" * 50)
    done = run_program(executorch_program, bundle, pictures[0])
    assert done.returncode == 1 and "could not load executorch-int8" in done.stderr
    program.unlink()
    done = run_program(executorch_program, bundle, pictures[0])
    assert done.returncode == 1 and "could not load executorch-int8" in done.stderr


# ------------------------------------------------------------------------------------------ Kotlin and Swift


@pytest.mark.parametrize(
    "path", ["android/Preprocess.kt", "android/Classifier.kt", "ios/Preprocess.swift", "ios/Classifier.swift"]
)
def test_what_is_not_compiled_says_so_and_reads_fields_that_exist(repository: Path, digits: Any, path: str) -> None:
    source = (repository / "export" / "apps" / path).read_text()
    assert source.startswith("// NOT COMPILED where edgevit is built")
    manifest = json.loads((digits.bundle / "manifest.json").read_text())
    known = {*manifest, *manifest["preprocess"], *manifest["builds"][0]}
    asked = set(re.findall(r'(?:get\w+|opt\w+)\("(\w+)"\)', source)) | set(re.findall(r'case \w+ = "(\w+)"', source))
    assert asked <= known, f"{path} reads what no manifest has"
