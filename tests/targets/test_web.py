"""ONNX Runtime Web: a folder that needs nothing else, executed in headless Chromium with golden inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError
from edgevit.measure import describe_machine
from edgevit.parity.metrics import sqnr_db
from edgevit.targets import get_target, on_cpu, parse_target, web
from edgevit.targets.base import BuildSource, ClosedSession, OpenOptions
from edgevit.targets.browser import chromium, package
from edgevit.targets.browser.chromium import find_browser
from edgevit.types import Build, Engine, ImagePreprocess

needs_browser = pytest.mark.skipif(
    find_browser() is None,
    reason="no browser here, so no page was executed; sudo apt-get install chromium",
)
needs_npm = pytest.mark.skipif(
    shutil.which("npm") is None, reason="npm is not here, so no build was made; sudo apt-get install npm"
)
SHIPPED = [
    "classify.mjs",
    "engine.mjs",
    "index.html",
    "loop.mjs",
    "model.json",
    "model.onnx",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.wasm.min.mjs",
    "page.mjs",
    "preprocess.mjs",
]


@pytest.fixture(scope="session")
def page(tiny: Any, once: Callable[..., Path]) -> Callable[[str], tuple[Path, Build]]:
    """("float32", "int8") -> the tiny model's folder and build; made once for all test processes."""

    def get(precision: str) -> tuple[Path, Build]:
        def make(place: Path) -> None:
            (place / "files").mkdir()
            plan = tiny.plan if precision == "int8" else None
            source = BuildSource(float_model=None, onnx=tiny.onnx, plan=plan)
            used = web.build(source, precision, {}, place / "files")  # type: ignore[arg-type]
            try:
                used |= web.complete(tiny.model, {"": tiny.onnx.signature}, place / "files")
            except BuildError as error:
                if "expected npm to fetch" not in str(error):
                    raise
                pytest.skip(f"no build was made, for npm reaches no registry from here: {error}")
            (place / "options.json").write_bytes(msgspec.json.encode(used))

        place = once(f"web-{precision}", make)
        build = Build(
            target="web",
            precision=precision,  # type: ignore[arg-type]
            files=(),
            signature=tiny.onnx.signature,
            engine=Engine(name="web", version=package.VERSION),
            machine=describe_machine(),
            options=msgspec.json.decode((place / "options.json").read_bytes()),
        )
        return place / "files", build

    return get


@pytest.fixture
def opened(page: Any) -> Iterator[Callable[..., Any]]:
    """(precision) -> a session in a browser, closed after the test."""
    sessions: list[Any] = []

    def open_page(precision: str, directory: Path | None = None, **options: Any) -> Any:
        place, build = page(precision)
        sessions.append(session := web.open(directory or place, build, OpenOptions(**options)))
        return session

    yield open_page
    for session in sessions:
        session.close()


# -------------------------------------------------------------------------------------------- the folder


def test_it_is_found_by_its_name() -> None:
    assert get_target("web") is web
    assert parse_target("web:int8") == ("web", "int8")
    assert not on_cpu("web"), "what its int8 needs is no instruction of the processor that builds"


@needs_npm
@pytest.mark.parametrize("precision", web.precisions)
def test_everything_a_page_loads_lies_beside_it(page: Any, precision: str) -> None:
    directory, build = page(precision)
    assert sorted(path.name for path in directory.iterdir()) == SHIPPED
    assert build.options["onnxruntime-web"] == package.VERSION
    wasm = (directory / "ort-wasm-simd-threaded.wasm").read_bytes()
    assert wasm[:4] == b"\0asm" and len(wasm) > 5_000_000


@needs_npm
def test_the_page_forbids_itself_every_other_place(page: Any) -> None:
    directory, _ = page("float32")

    class Read(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.policy = ""
            self.links: list[str] = []

        def handle_starttag(self, tag: str, attributes: Any) -> None:
            found = dict(attributes)
            if found.get("http-equiv") == "Content-Security-Policy":
                self.policy = found["content"]
            self.links += [found[key] for key in ("src", "href") if key in found]

    read = Read()
    read.feed((directory / "index.html").read_text())
    assert read.policy.startswith("default-src 'self'") and "http" not in read.policy and "*" not in read.policy
    assert read.links == ["./page.mjs"]
    for module in directory.glob("[!o]*.mjs"):
        assert "http:" not in module.read_text() and "https:" not in module.read_text()


@needs_npm
def test_preprocessing_and_labels_are_the_models(page: Any, tiny: Any) -> None:
    directory, _ = page("int8")
    description = json.loads((directory / "model.json").read_text())
    assert msgspec.convert(description["preprocess"], ImagePreprocess) == tiny.model.preprocess
    assert description["labels"] == list(tiny.model.labels)
    (graph,) = description["graphs"]
    assert (graph["name"], graph["file"]) == ("", "model.onnx")
    assert [one["name"] for one in (*graph["inputs"], *graph["outputs"])] == ["pixel_values", "logits"]


# --------------------------------------------------------------------------------------- in the browser


@needs_npm
@needs_browser
@pytest.mark.parametrize(("precision", "floor"), [("float32", 100), ("int8", 15)])
def test_it_computes_what_the_model_computes(precision: str, floor: float, opened: Any, tiny: Any, built: Any) -> None:
    from edgevit.graph.execute import Executor

    with Executor(tiny.onnx.path, exact=True) as executor:
        expected = executor.run(tiny.images)["logits"]
    session = opened(precision)
    found = session.run(tiny.images)["logits"]
    assert found.shape == expected.shape and sqnr_db(expected, found) > floor
    one = session.run({"pixel_values": tiny.images["pixel_values"][3:4]})["logits"]
    np.testing.assert_allclose(one[0], found[3], atol=0.02 * np.abs(found).max())
    native = built(f"onnxruntime:{precision}").open()
    assert sqnr_db(native.run(tiny.images)["logits"], found) > (100 if precision == "float32" else 35)
    native.close()
    execution = session.execution()
    assert execution.precision == precision and "Chrom" in execution.provider


@needs_npm
@needs_browser
def test_pictures_become_the_same_tensors_as_in_python(
    opened: Any, page: Any, tmp_path: Path, repository: Path
) -> None:
    """Bit for bit, through every interpolation, crop and mode: one preprocessing, everywhere."""
    from edgevit.preprocess import image_tensor

    directory, _ = page("float32")
    pictures = [
        *sorted((repository / "calibration" / "samples").glob("*.png"))[:1],
        *sorted((repository / "calibration" / "photos").glob("*.png"))[:1],
    ]
    specs = [
        ImagePreprocess(size=(48, 48), crop_fraction=0.9, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ImagePreprocess(size=(40, 56), mode="BGR", interpolation="lanczos", mean=(0.5,) * 3, std=(0.25,) * 3),
        ImagePreprocess(size=(33, 37), resize="exact", interpolation="bilinear", mean=(0.0,) * 3, std=(1.0,) * 3),
        ImagePreprocess(size=(300, 300), mode="L", interpolation="bicubic", mean=(0.1307,), std=(0.3081,)),
        ImagePreprocess(size=(21, 21), interpolation="nearest", mean=(0.5,) * 3, std=(0.5,) * 3),
    ]
    shutil.copytree(directory, tmp_path / "copy")
    description = json.loads((directory / "model.json").read_text())
    for spec in specs:
        description["preprocess"] = msgspec.to_builtins(spec)
        (tmp_path / "copy" / "model.json").write_text(json.dumps(description))
        session = opened("float32", tmp_path / "copy")
        for picture in pictures:
            found = session.prepare(picture.read_bytes())
            np.testing.assert_array_equal(found[0], image_tensor(picture, spec), err_msg=f"{picture.name} {spec}")
        session.close()


@needs_npm
@needs_browser
def test_a_picture_given_to_the_page_gets_the_labels_of_python(page: Any, tiny: Any, repository: Path) -> None:
    from real_page import RealPage

    from edgevit.graph.execute import Executor
    from edgevit.preprocess import images_batch
    from edgevit.runtime.classify import classify

    picture = min((repository / "calibration" / "samples").glob("*.png"))
    with Executor(tiny.onnx.path, exact=True) as executor:
        logits = executor.run({"pixel_values": images_batch([picture], tiny.model.preprocess)})["logits"]
    expected = classify(logits[0], tiny.model.labels)
    with RealPage(page("float32")[0]) as served:
        served.choose(picture)
        served.wait_for("document.querySelectorAll('#labels tr').length > 0")
        rows = served.run("[...document.querySelectorAll('#labels tr')].map((row) => row.innerText.split('\\t'))")
        assert [tuple(row) for row in rows] == [(label, f"{100 * score:.1f} %") for label, score in expected.top]
        assert served.text("state").endswith(" ms, decoding included")
        assert all(one.startswith((served.address, "blob:")) for one in served.requested), served.requested


@needs_npm
@needs_browser
def test_what_is_no_picture_is_an_error_and_the_page_lives_on(opened: Any, tiny: Any) -> None:
    session = opened("float32")
    with pytest.raises(InputError, match="expected web-float32 to run in the browser, found: "):
        session.prepare(b"not a picture")
    assert session.run(tiny.batches[0])["logits"].shape == (4, 10)


@needs_npm
@needs_browser
def test_after_close_it_says_so_and_the_browser_is_gone(opened: Any, tiny: Any) -> None:
    session = opened("float32")
    process, profile = session.page.process, Path(session.page.profile.name)
    session.close()
    session.close()
    assert process.poll() is not None and not profile.exists()
    with pytest.raises(ClosedSession):
        session.run(tiny.batches[0])


@needs_npm
@needs_browser
@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing", "no runtime"])
def test_a_damaged_folder_is_one_line(opened: Any, page: Any, tmp_path: Path, damage: str) -> None:
    directory, _ = page("float32")
    shutil.copytree(directory, tmp_path / "copy")
    model = tmp_path / "copy" / "model.onnx"
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:5000])
    elif damage == "foreign":
        model.write_bytes(b"not a model" * 99)
    elif damage == "missing":
        model.unlink()
    else:
        (tmp_path / "copy" / "ort-wasm-simd-threaded.wasm").write_bytes(b"\0asm")
    with pytest.raises(BundleError, match="export it again") as caught:
        opened("float32", tmp_path / "copy")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@needs_npm
@needs_browser
def test_closing_while_others_run_neither_crashes_nor_hangs(opened: Any, tiny: Any) -> None:
    session = opened("float32")

    def call(_: int) -> Any:
        try:
            return session.run(tiny.batches[0])["logits"].shape
        except ClosedSession:
            return None

    with ThreadPoolExecutor(4) as pool:
        results = pool.map(call, range(40))
        session.close()
        assert set(results) <= {(4, 10), None}


# ------------------------------------------------------------------------------------------ what is missing


def test_without_npm_the_command_is_given(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "npm" else which(name))
    state = web.availability()
    assert not state.build and "apt-get install npm" in state.build_fix
    with pytest.raises(UnavailableError, match="fetches onnxruntime-web with npm, which is not installed here"):
        package.fetch_runtime(tmp_path)


def test_without_a_browser_the_command_is_given(page: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "find_browser", lambda: None)
    monkeypatch.setattr(chromium, "find_browser", lambda: None)
    state = web.availability()
    assert (state.run, state.run_reason) == (False, "there is no browser on this machine")
    assert "apt-get install chromium" in state.run_fix


@pytest.mark.parametrize(
    ("status", "complaint", "message"),
    [
        (1, "npm error code E404\nmore", "expected npm to fetch .*found: npm error code E404; check its registry"),
        (0, "", "found: no reason given"),
    ],
)
def test_what_npm_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, complaint: str, message: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    done = subprocess.CompletedProcess([], status, "", complaint)
    monkeypatch.setattr(subprocess, "run", lambda *command, **how: done)
    with pytest.raises(BuildError, match=message) as caught:
        package.fetch_runtime(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_package_that_lacks_a_file_is_said(tmp_path: Path) -> None:
    import io
    import tarfile

    with tarfile.open(tmp_path / "p.tgz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("package/dist/other.mjs"), io.BytesIO())
    with pytest.raises(BuildError, match=r"expected ort\.wasm\.min\.mjs in onnxruntime-web"):
        package._unpack(tmp_path / "p.tgz", tmp_path)


def test_options_and_other_models_are_refused(tiny: Any, tmp_path: Path) -> None:
    source = BuildSource(float_model=None, onnx=tiny.onnx)
    with pytest.raises(InputError, match="expected no options of web, found optimize=no"):
        web.build(source, "float32", {"optimize": "no"}, tmp_path)
    with pytest.raises(BuildError, match="web:int8, found none; calibrate first"):
        web.build(source, "int8", {}, tmp_path)
    features = msgspec.structs.replace(tiny.model, task="image-features")
    with pytest.raises(InputError, match="which has a page for these, found tiny for image-features"):
        web.complete(features, {"": tiny.onnx.signature}, tmp_path)
