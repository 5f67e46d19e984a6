"""A small bundle whose files are not an engine's: opening and verifying never looks into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgevit.bundle import (
    GOLDEN,
    CalibrationFacts,
    Manifest,
    describe_directory,
    describe_file,
    write_golden,
    write_manifest,
)
from edgevit.types import Build, Engine, ImagePreprocess, Machine, Signature, TensorSpec

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = Signature(
    inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 1, 4, 4)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 2)),),
)
MACHINE = Machine(cpu="a", architecture="x86_64", cores=2, memory_bytes=1, instruction_sets=(), os="b", python="3.11")
BUILDS = (("openvino", "float32"), ("openvino", "int8"), ("onnxruntime", "int8"))


def make_manifest(root: Path) -> Manifest:
    builds = tuple(
        Build(
            target=target,
            precision=precision,
            files=describe_directory(root, root / f"{target}-{precision}"),
            signature=SIGNATURE,
            engine=Engine(name=target, version="1"),
            machine=MACHINE,
        )
        for target, precision in BUILDS
    )
    return Manifest(
        edgevit="0.1.0",
        model="tiny",
        source_digest="0" * 64,
        signature=SIGNATURE,
        task="image-classification",
        preprocess=ImagePreprocess(mode="L", size=(4, 4), mean=(0.5,), std=(0.5,)),
        labels=("no", "yes"),
        trained=True,
        toolchain={"torch": "2.13.0"},
        machine=MACHINE,
        builds=builds,
        files=(describe_file(root, root / GOLDEN), describe_file(root, root / "plan.toml")),
        calibration=CalibrationFacts(set="digits", set_digest="1" * 64, samples=64),
    )


@pytest.fixture
def bundle_root(tmp_path: Path) -> Path:
    root = tmp_path / "bundle"
    for target, precision in BUILDS:
        directory = root / f"{target}-{precision}"
        (directory / "nested").mkdir(parents=True)
        (directory / "model.bin").write_bytes(b"model of " + directory.name.encode())
        (directory / "nested" / "weights.bin").write_bytes(b"weights")
    (root / "plan.toml").write_text("schema = 1\n")
    rng = np.random.default_rng(0)
    inputs = {"pixel_values": rng.normal(size=(2, 1, 4, 4)).astype(np.float32)}
    write_golden(root / GOLDEN, inputs, {"logits": np.zeros((2, 2), np.float32)})
    write_manifest(root, make_manifest(root))
    return root
