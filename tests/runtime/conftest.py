"""Bundles: a real one of the tiny model, and ones that only exist as manifests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgevit.bundle import GOLDEN, Bundle, Manifest, describe_directory, describe_file, write_golden, write_manifest
from edgevit.targets import get_target
from edgevit.targets.base import BuildSource
from edgevit.types import Build, Engine, Machine, OnnxModel

MACHINE = Machine(
    cpu="this one", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="linux", python="3.11"
)
BUILDS = (("openvino", "float32", 3.0), ("openvino", "int8", 1.0), ("onnxruntime", "int8", 2.0))
"""Target, precision and latency; so openvino:int8 is what `load` opens."""


@pytest.fixture(scope="session")
def manifest_of(tiny: Any) -> Callable[..., Manifest]:
    """(builds, signature, further fields) -> the tiny model's manifest."""

    def make(*builds: Build, **fields: Any) -> Manifest:
        values: dict[str, Any] = {
            "edgevit": "0.1.0",
            "model": "tiny",
            "source_digest": "0" * 64,
            "signature": tiny.onnx.signature,
            "task": tiny.model.task,
            "preprocess": tiny.model.preprocess,
            "labels": tiny.model.labels,
            "trained": False,
            "toolchain": {},
            "machine": MACHINE,
            "builds": builds,
        }
        return Manifest(**{**values, **fields})

    return make


@pytest.fixture(scope="session")
def make_build(tiny: Any) -> Callable[..., Build]:
    """(target, precision, further fields) -> a build of the tiny model with the verdict passed."""

    def make(target: str, precision: str, **fields: Any) -> Build:
        engine = Engine(name=target, version="1")
        values = {"files": (), "signature": tiny.onnx.signature, "machine": MACHINE, "verdict": "passed"}
        return Build(**{"target": target, "precision": precision, "engine": engine, **values, **fields})

    return make


@pytest.fixture
def paper_bundle(manifest_of: Callable[..., Manifest], tmp_path: Path) -> Callable[..., Bundle]:
    """(builds) -> a bundle without files, to choose from."""
    return lambda *builds: Bundle(root=tmp_path, manifest=manifest_of(*builds))


@pytest.fixture(scope="session")
def write_bundle(
    tiny: Any, manifest_of: Callable[..., Manifest], make_build: Callable[..., Build]
) -> Callable[..., Path]:
    """(directory, builds, model=the tiny one, further fields of the manifest) -> a bundle that loads."""

    def write(
        root: Path, wanted: tuple[tuple[str, str, float], ...], model: OnnxModel = tiny.onnx, **more: Any
    ) -> Path:
        from edgevit.graph.execute import Executor
        from edgevit.quantize.write_onnx import write_quantized

        builds = []
        (root / "quantized").mkdir(parents=True)
        quantized = write_quantized(model, tiny.plan, root / "quantized" / "tiny.onnx")
        for target, precision, latency in wanted:
            (directory := root / f"{target}-{precision}").mkdir()
            source = BuildSource(float_model=None, onnx=model, quantized=quantized, plan=tiny.plan)
            used = get_target(target).build(source, precision, {}, directory)  # type: ignore[arg-type]
            files = describe_directory(root, directory)
            signature = model.signature
            builds.append(
                make_build(target, precision, files=files, options=used, latency_ms=latency, signature=signature)
            )
        quantized.path.unlink()
        quantized.path.parent.rmdir()
        batch = model.signature.inputs[0].shape[0]
        inputs = {"pixel_values": tiny.images["pixel_values"][: batch if isinstance(batch, int) else 2]}
        with Executor(model.path) as executor:
            write_golden(root / GOLDEN, inputs, executor.run(inputs))
        write_manifest(root, manifest_of(*builds, files=(describe_file(root, root / GOLDEN),), **more))
        return root

    return write


@pytest.fixture(scope="session")
def bundle(write_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three builds of the tiny model; not to be changed."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "tiny", BUILDS)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 50 x 40 pixels with a gradient."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[0:40, 0:50]
    pixels = np.stack([rows * 6, columns * 5, (rows + columns) * 2], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path
