"""Steps that make the mobile peers' builds by the recipe of each vendor's documentation, and what their weights lose.

A peer is opened by the session that opens edgevit's build for the same engine: `PEERS` says which that is.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from models import EVALUATION_PHOTOS

from edgevit.types import Build, Precision

if TYPE_CHECKING:
    import torch

    from edgevit.sets import SampleSet
    from edgevit.targets.base import EngineSession, OpenOptions
    from edgevit.types import FloatModel

TORCHAO, TORCHAO_4BIT, EDGE_QUANTIZER = "torchao-int8", "torchao-int4d", "edge_quantizer-int8d"
PEERS: dict[str, tuple[str, Precision]] = {
    TORCHAO: ("executorch", "int8"),
    TORCHAO_4BIT: ("executorch", "int4d"),
    EDGE_QUANTIZER: ("litert", "int8d"),
}
"""Build of a peer to the target and the precision of ours whose session opens it."""
LENGTHS = {"source_length": 16, "target_length": 1}
"""Of the first result of a model of texts."""
GROUP = 32
"""Weights that share a scale in torchao's 4 bits: its own default."""


def torchao_static(model: str, calibration: str, samples: int, bundle: str, out: str) -> None:
    """Step: PT2E as ExecuTorch's page on XNNPACK has it: per channel, everything the quantizer annotates."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    from edgevit.graph.capture import CaptureOptions, capture

    float_model = _opened(model)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    program = capture(float_model, CaptureOptions(batch=1))
    prepared = prepare_pt2e(program.module(check_guards=False), quantizer)
    for images in _images(float_model, calibration, samples):
        prepared(images)
    _write_program(float_model, convert_pt2e(prepared), TORCHAO, Path(bundle), Path(out))


def torchao_groups(model: str, bundle: str, out: str) -> None:
    """Step: `quantize_` with 8-bit dynamic inputs and 4-bit weights in groups, as ExecuTorch's page has it."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerGroup

    float_model = _opened(model)
    how = Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, weight_granularity=PerGroup(GROUP))
    quantize_(float_model.module, how, filter_fn=_is_divisible)
    _write_program(float_model, float_model.module, TORCHAO_4BIT, Path(bundle), Path(out))


def _is_divisible(module: torch.nn.Module, _: str) -> bool:
    import torch

    return isinstance(module, torch.nn.Linear) and module.in_features % GROUP == 0


def _write_program(model: FloatModel, module: Any, name: str, bundle: Path, out: Path) -> None:
    """Batch 1, partitioned as edgevit's own are, with the same report of what was delegated."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    from edgevit.graph.capture import CaptureOptions, capture
    from edgevit.graph.quiet import quiet_torch
    from edgevit.targets.delegation import write_delegation
    from edgevit.targets.xnnpack.counting import count_delegation, recorded_refusals
    from edgevit.targets.xnnpack.session import PROGRAM

    program = capture(msgspec.structs.replace(model, module=module), CaptureOptions(batch=1))
    files = out / name / "files"
    files.mkdir(parents=True)
    with quiet_torch(), recorded_refusals() as refusals:
        edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        write_delegation(count_delegation(edge.exported_program(), refusals, {}), files)
        (files / PROGRAM).write_bytes(bytes(edge.to_executorch().buffer))
    _describe(bundle, out, name, {"batch": "1"})


def describe_edge_quantizer(bundle: str, out: str) -> None:
    """Step: beside the file that edge_quantizer.py wrote, what edgevit's session must know of it."""
    from edgevit.targets.delegation import write_delegation
    from edgevit.targets.litert import MODEL
    from edgevit.targets.tflite.counting import count_delegation
    from edgevit.targets.tflite.session import allocated

    files = Path(out) / EDGE_QUANTIZER / "files"
    write_delegation(count_delegation(allocated((files / MODEL).read_bytes()), "int8d", {}), files)
    ours = _build_of(Path(bundle), "litert-float32")
    _describe(Path(bundle), Path(out), EDGE_QUANTIZER, {"batches": ours.options["batches"]})


def _describe(bundle: Path, out: Path, name: str, options: dict[str, str]) -> None:
    target, precision = PEERS[name]
    ours = _build_of(bundle, f"{target}-float32")
    build = msgspec.structs.replace(ours, precision=precision, files=(), options=options, execution=None)
    (out / name / "build.json").write_bytes(msgspec.json.encode(build))


def _build_of(bundle: Path, name: str) -> Build:
    from edgevit.bundle import open_bundle

    return open_bundle(bundle, check="manifest").builds(name)[0]


# --------------------------------------------------------------------------------------------------- opening


def open_any(bundle: Path, name: str, options: OpenOptions) -> EngineSession:
    """An opener for the measuring process: edgevit's builds by its runtime, a peer's by the same session."""
    from edgevit.runtime.selection import open_build
    from edgevit.targets import get_target

    if name not in PEERS:
        return open_build(bundle, name, options)
    place = peers_of(bundle) / name
    build = msgspec.json.decode((place / "build.json").read_bytes(), type=Build)
    return get_target(build.target).open(place / "files", build, options)


def peers_of(bundle: Path) -> Path:
    return bundle.parent / f"{bundle.name}-peers"


def size_of(bundle: Path, name: str) -> int:
    """Bytes of a build's files, the report of what was delegated apart: no application ships it."""
    from edgevit.targets.delegation import FILE

    folder = peers_of(bundle) / name / "files" if name in PEERS else bundle / name
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != FILE)


# ---------------------------------------------------------------------------------------------- measurements


def closeness(model: str, bundle: str, names: list[str], samples: int | None) -> dict[str, dict[str, float]]:
    """Step: executes builds on held-out images, against PyTorch in float32: SQNR of the logits, same labels."""
    from edgevit.parity.metrics import sqnr_db
    from edgevit.targets.base import OpenOptions

    float_model = _opened(model)
    output = float_model.signature.outputs[0].name
    images = [one.numpy() for one in _images(float_model, float_model.evaluation or EVALUATION_PHOTOS, samples)]
    reference = np.concatenate([_logits(float_model.module, one) for one in images])
    found = {}
    for name in names:
        session = open_any(Path(bundle), name, OpenOptions())
        try:
            spec = session.signature.inputs[0].name
            logits = np.concatenate([session.run({spec: one})[output] for one in images])
        finally:
            session.close()
        same = float((reference.argmax(axis=-1) == logits.argmax(axis=-1)).mean())
        found[name] = {"sqnr_db": sqnr_db(reference, logits), "agreement": 100 * same}
    return found


def loading(bundle: str, name: str, repeats: int) -> list[float]:
    """Step: milliseconds from a build's files to its first result, the engine's code being loaded already."""
    import time

    from edgevit.measure.inputs import zero_inputs
    from edgevit.targets.base import OpenOptions

    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter_ns()
        session = open_any(Path(bundle), name, OpenOptions())
        try:
            session.run(zero_inputs(session.signature, 1, LENGTHS))
            times.append((time.perf_counter_ns() - began) / 1e6)
        finally:
            session.close()
    return times[1:]


def _opened(model: str) -> FloatModel:
    from edgevit.sources import SourceOptions, open_source

    return open_source(f"zoo:{model}", None, SourceOptions())


def _logits(module: Any, images: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        found: np.ndarray = module(torch.from_numpy(images)).numpy()
    return found


def _images(model: FloatModel, name: str, samples: int | None) -> list[Any]:
    """Prepared images, one a batch, as tensors."""
    import torch

    from edgevit.sets import batches, open_set, take

    chosen: SampleSet = open_set(name)
    if samples is not None:
        chosen = take(chosen, min(samples, len(chosen)), 0)
    spec: Any = model.preprocess
    return [torch.from_numpy(batch.inputs[spec.input]) for batch in batches(chosen, spec, 1)]


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
