"""Steps that make what the suites measure: a lowered model, its builds, and the logits of a build."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.targets import get_target
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.types import Build, Engine, FloatModel, OnnxModel, Precision, Signature

if TYPE_CHECKING:
    from edgevit.targets.base import EngineSession

ROOT = Path(__file__).resolve().parent.parent
CALIBRATION_PHOTOS = str(ROOT / "calibration" / "photos.toml")
EVALUATION_PHOTOS = str(ROOT / "calibration" / "photos-evaluation.toml")


class Lowered(msgspec.Struct, frozen=True, kw_only=True):
    """A float model as ONNX, without its torch module."""

    model: FloatModel
    path: str
    signature: Signature
    opset: int
    digest: str
    calibration: str
    evaluation: str
    """SETs; the published ones of a trained model, photographs otherwise."""

    @property
    def onnx(self) -> OnnxModel:
        return OnnxModel(path=Path(self.path), signature=self.signature, opset=self.opset, digest=self.digest)


def lower(name: str, folder: str) -> None:
    """Step: writes `folder`/model.onnx and model.json of the zoo's model `name`."""
    from edgevit.graph.capture import CaptureOptions, capture
    from edgevit.graph.lower import lower as lower_program
    from edgevit.sources import SourceOptions, open_source

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    model = open_source(f"zoo:{name}", None, SourceOptions())
    onnx = lower_program(capture(model, CaptureOptions()), model, place / "model.onnx")
    lowered = Lowered(
        model=msgspec.structs.replace(model, module=None),
        path=str(onnx.path),
        signature=onnx.signature,
        opset=onnx.opset,
        digest=onnx.digest,
        calibration=model.calibration or CALIBRATION_PHOTOS,
        evaluation=model.evaluation or EVALUATION_PHOTOS,
    )
    (place / "model.json").write_bytes(msgspec.json.encode(lowered))


def read_lowered(folder: str | Path) -> Lowered:
    return msgspec.json.decode((Path(folder) / "model.json").read_bytes(), type=Lowered)


def build_float(folder: str, target: str, name: str, options: dict[str, str]) -> None:
    """Step: the build `name` of the float model for an engine, in `folder`/`name`."""
    lowered = read_lowered(folder)
    files = build_place(folder, name) / "files"
    files.mkdir(parents=True)
    get_target(target).build(BuildSource(float_model=None, onnx=lowered.onnx), "float32", options, files)
    describe_build(folder, name, target, "float32")


def build_place(folder: str | Path, name: str) -> Path:
    return Path(folder) / name


def describe_build(folder: str | Path, name: str, target: str, precision: Precision) -> None:
    """Makes the files of a build, edgevit's or a peer's, something that edgevit's own session of the engine opens."""
    from edgevit.measure import describe_machine

    lowered = read_lowered(folder)
    build = Build(
        target=target,
        precision=precision,
        files=(),
        signature=lowered.onnx.signature,
        engine=Engine(name=target, version=get_target(target).availability().version),
        machine=describe_machine(),
    )
    (build_place(folder, name) / "build.json").write_bytes(msgspec.json.encode(build))


def build_size(folder: str | Path, name: str) -> int:
    return sum(path.stat().st_size for path in (build_place(folder, name) / "files").rglob("*") if path.is_file())


def open_built(folder: Path, name: str, options: OpenOptions) -> EngineSession:
    """Opens a build; `edgevit.measure` calls it in its measuring processes. Peers get the same session as edgevit."""
    place = build_place(folder, name)
    build = msgspec.json.decode((place / "build.json").read_bytes(), type=Build)
    return get_target(build.target).open(place / "files", build, options)


def copy_files(source: Path, folder: str | Path, name: str) -> Path:
    """Copies an engine's files to where the build `name` has them."""
    files = build_place(folder, name) / "files"
    shutil.copytree(source, files)
    return files


def evaluation_batches(lowered: Lowered, samples: int | None, size: int) -> Any:
    """The held-out images, prepared as the model says."""
    from edgevit.sets import batches, open_set, take

    chosen = open_set(lowered.evaluation)
    if samples is not None:
        chosen = take(chosen, min(samples, len(chosen)), 0)
    labels = lowered.model.labels if chosen.labelled else None
    return batches(chosen, lowered.model.preprocess, size, labels=labels)


def float_logits(folder: str, samples: int | None) -> None:
    """Step: writes `folder`/reference.npz, the float graph's logits for the held-out images and their true labels."""
    from edgevit.graph.execute import Executor

    lowered = read_lowered(folder)
    output = lowered.onnx.signature.outputs[0].name
    logits, labels = [], []
    with Executor(lowered.onnx.path) as executor:
        for batch in evaluation_batches(lowered, samples, 4):
            logits.append(executor.run(batch.inputs)[output])
            labels.extend(-1 if label is None else label for label in batch.labels)
    np.savez(Path(folder) / "reference.npz", logits=np.concatenate(logits), labels=np.array(labels))


def closeness(folder: str, name: str, samples: int | None) -> dict[str, float]:
    """Step: executes a build on the held-out images; SQNR in dB, and for a trained model the points it loses."""
    lowered = read_lowered(folder)
    output = lowered.onnx.signature.outputs[0].name
    session = open_built(Path(folder), name, OpenOptions())
    try:
        found = np.concatenate([session.run(batch.inputs)[output] for batch in evaluation_batches(lowered, samples, 1)])
        execution = session.execution()
    finally:
        session.close()
    return {
        **_compared(folder, lowered, found),
        "int8_layers": execution.quantized_executed,
        "layers": len(execution.layers),
    }


def _compared(folder: str, lowered: Lowered, found: np.ndarray) -> dict[str, float]:
    from edgevit.parity.metrics import sqnr_db

    with np.load(Path(folder) / "reference.npz", allow_pickle=False) as stored:
        logits, labels = stored["logits"], stored["labels"]
    result = {"sqnr_db": sqnr_db(logits, found)}
    if lowered.model.trained:
        right = [float((scores.argmax(axis=-1) == labels).mean()) for scores in (logits, found)]
        result["points_lost"] = 100 * (right[0] - right[1])
    return result
