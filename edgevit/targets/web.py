"""ONNX Runtime Web: a folder that any web server can serve, with the model, the runtime and a page that classifies.

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
from edgevit.targets.browser.package import INSTALL as INSTALL_NPM
from edgevit.targets.browser.package import VERSION, fetch_runtime
from edgevit.targets.browser.session import INSTALL as INSTALL_BROWSER
from edgevit.targets.browser.session import BrowserSession, find_browser
from edgevit.types import ImagePreprocess

if TYPE_CHECKING:
    from edgevit.targets.base import BuildSource, OpenOptions
    from edgevit.types import Build, Precision

name = "web"
precisions: tuple[Precision, ...] = ("float32", "int8")
device = "browser"

PAGE = Path(__file__).parent / "browser" / "page"
DESCRIPTION = "model.json"


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


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.onnx, model.json (preprocessing and labels), the runtime's three files and the page's four.

    Takes no options. Raises UnavailableError without npm, BuildError where it or ONNX Runtime fails, InputError for a
    model that does not take images.
    """
    if options:
        raise InputError(f"expected no options of {name}, found {', '.join(f'{k}={v}' for k, v in options.items())}")
    description = _description(source)
    if precision == "int8" and source.plan is None:
        raise BuildError(f"expected a plan for {name}:int8, found none; calibrate first")
    used = onnxruntime.build(source, precision, {}, out)
    if (out / "model.onnx.data").exists():
        raise BuildError(f"expected a model of one file for {name}, found one above 0.5 GB; a page cannot hold it")
    fetch_runtime(out)
    for file in PAGE.iterdir():
        shutil.copyfile(file, out / file.name)
    (out / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n")
    return {**used, "onnxruntime-web": VERSION}


def open(directory: Path, build: Build, options: OpenOptions) -> BrowserSession:
    """Opens a build of this target in headless Chromium."""
    return BrowserSession(directory, build, options)


def _description(source: BuildSource) -> dict[str, object]:
    """What the page must know: name, input, output, preprocessing and labels."""
    if source.float_model is None:
        raise BuildError(f"expected a way to the float model for {name}, found none; export from the checkpoint")
    model = source.float_model()
    if not isinstance(model.preprocess, ImagePreprocess) or model.parts:
        raise InputError(f"expected a model that classifies images for {name}, found {model.name}; build onnxruntime")
    return {
        "name": model.name,
        "task": model.task,
        "input": source.onnx.signature.inputs[0].name,
        "output": source.onnx.signature.outputs[0].name,
        "preprocess": msgspec.to_builtins(model.preprocess),
        "labels": model.labels,
    }
