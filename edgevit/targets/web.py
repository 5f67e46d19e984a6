"""ONNX Runtime Web: a folder that any web server can serve, with the model, the runtime and a page that uses it.

Facts this file answers to: the npm package has a dozen variants of its WebAssembly, of which one is enough; what a
page loads must lie beside it, or it needs the network; int8 products are exact there, widened to 16 bits.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BuildError, InputError
from edgevit.targets import onnxruntime
from edgevit.targets.base import Availability
from edgevit.targets.browser.chromium import INSTALL as INSTALL_BROWSER
from edgevit.targets.browser.chromium import Page, find_browser
from edgevit.targets.browser.package import INSTALL as INSTALL_NPM
from edgevit.targets.browser.package import VERSION, fetch_runtime
from edgevit.targets.browser.session import BrowserSession
from edgevit.targets.browser.tokenizers import check_tokenizer
from edgevit.types import ImagePreprocess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgevit.targets.base import BuildSource, OpenOptions
    from edgevit.types import Build, BuildPart, FloatModel, Precision, Signature

name = "web"
precisions: tuple[Precision, ...] = ("float32", "int8")
device = "browser"

PAGES = Path(__file__).parent / "browser" / "page"
DESCRIPTION = "model.json"
TASKS = ("image-classification", "text-classification", "translation", "summarization")
"""What there is a page for."""


def availability() -> Availability:
    """Built with ONNX Runtime and npm, executed by a browser."""
    state = onnxruntime.availability()
    npm, browser = shutil.which("npm") is not None, find_browser() is not None
    return Availability(
        build=state.build and npm,
        run=browser,
        version=VERSION,
        build_fix=state.build_fix or ("" if npm else INSTALL_NPM),
        run_fix="" if browser else INSTALL_BROWSER,
        run_reason="" if browser else "there is no browser on this machine",
    )


def why_not(precision: Precision) -> str:
    """Its WebAssembly needs SIMD, which every browser has had since 2023."""
    return ""


def check_model(model: FloatModel) -> None:
    """Raises InputError for a task that no page is for, and for a tokenizer that the page does not know."""
    if model.task not in TASKS:
        raise InputError(
            f"expected a model for {', '.join(TASKS)} for {name}, which has a page for these, found {model.name} for "
            f"{model.task}; build onnxruntime"
        )
    for path in model.files.values():
        check_tokenizer(path, name)


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.onnx, of the whole model or of one of its parts. `complete` adds the page.

    Takes no options. Raises BuildError where ONNX Runtime fails or the model is too large for a page.
    """
    if options:
        raise InputError(f"expected no options of {name}, found {', '.join(f'{k}={v}' for k, v in options.items())}")
    if precision == "int8" and source.plan is None:
        raise BuildError(f"expected a plan for {name}:int8, found none; calibrate first")
    used = onnxruntime.build(source, precision, {}, out)
    if (out / "model.onnx.data").exists():
        raise BuildError(f"expected a model of one file for {name}, found one above 0.5 GB; a page cannot hold it")
    return used


def complete(model: FloatModel, graphs: Mapping[str, Signature], out: Path) -> dict[str, str]:
    """Makes a folder to be served of the graphs in `out`: the page and its modules, the runtime's files, the model's
    tokenizers, and model.json, which says what they are.

    Raises UnavailableError without npm, BuildError where it fails, InputError as `check_model` does.
    """
    check_model(model)
    fetch_runtime(out)
    kind = "pictures" if isinstance(model.preprocess, ImagePreprocess) else "texts"
    for file in (*(PAGES / "common").iterdir(), *(PAGES / kind).iterdir()):
        shutil.copyfile(file, out / file.name)
    for place, path in model.files.items():
        shutil.copyfile(path, out / place)
    described = msgspec.json.encode(_description(model, graphs))
    (out / DESCRIPTION).write_bytes(msgspec.json.format(described, indent=1) + b"\n")
    return {"onnxruntime-web": VERSION}


def open(directory: Path, build: Build, options: OpenOptions) -> BrowserSession:
    """Opens a build of one graph in headless Chromium."""
    return BrowserSession(Page(directory, build.name, options.threads or 1), build)


def part_opener(directory: Path, build: Build, options: OpenOptions) -> Callable[[BuildPart, Build], BrowserSession]:
    """Opens the parts of a build, all of them in one page."""
    page = Page(directory, build.name, options.threads or 1)
    return lambda part, alone: BrowserSession(page, alone, part.name)


def _description(model: FloatModel, graphs: Mapping[str, Signature]) -> dict[str, object]:
    """What the page must know: name and task, the graphs and their tensors, preprocessing, writing, and labels."""
    return {
        "name": model.name,
        "task": model.task,
        "graphs": [
            {"name": part, "file": f"{part}/model.onnx".removeprefix("/"), **msgspec.to_builtins(signature)}
            for part, signature in graphs.items()
        ],
        "preprocess": msgspec.to_builtins(model.preprocess),
        "generation": msgspec.to_builtins(model.generation),
        "labels": model.labels,
    }
