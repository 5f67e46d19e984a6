"""Steps that make what the suites measure: a lowered model and its builds, and how close these are to float."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edgevit.targets import get_target
from edgevit.targets.base import BuildSource, OpenOptions
from edgevit.types import Build, Engine, FloatModel, OnnxModel, Precision, Signature

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.sets import Batch
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


def lower(name: str, folder: str, photos: str = CALIBRATION_PHOTOS) -> None:
    """Step: writes `folder`/model.onnx and model.json of the zoo's model `name`, or of a Hugging Face directory.

    A model without a published calibration set gets `photos`.
    """
    from edgevit.graph.capture import CaptureOptions, capture
    from edgevit.graph.lower import lower as lower_program
    from edgevit.sources import SourceOptions, open_source

    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    model = open_source(name if Path(name).is_dir() else f"zoo:{name}", None, SourceOptions())
    onnx = lower_program(capture(model, CaptureOptions()), model, place / "model.onnx")
    lowered = Lowered(
        model=msgspec.structs.replace(model, module=None),
        path=str(onnx.path),
        signature=onnx.signature,
        opset=onnx.opset,
        digest=onnx.digest,
        calibration=model.calibration or photos,
        evaluation=model.evaluation or EVALUATION_PHOTOS,
    )
    (place / "model.json").write_bytes(msgspec.json.encode(lowered))


def read_lowered(folder: str | Path) -> Lowered:
    return msgspec.json.decode((Path(folder) / "model.json").read_bytes(), type=Lowered)


def mirrored_photos(folder: Path) -> Path:
    """The 32 calibration photographs and their mirror images, as a folder of images."""
    from PIL import Image, ImageOps

    folder.mkdir(parents=True)
    for path in sorted((ROOT / "calibration" / "photos").iterdir()):
        with Image.open(path) as image:
            image.load()
        image.save(folder / f"{path.stem}.png")
        ImageOps.mirror(image).save(folder / f"{path.stem}-mirrored.png")
    return folder


def build_floats(folder: str, builds: dict[str, tuple[str, dict[str, str]]]) -> None:
    """Step: builds of the float model by name, each for a target with its options, in `folder`/name."""
    onnx = read_lowered(folder).onnx
    for name, (target, options) in builds.items():
        source = BuildSource(float_model=None, onnx=onnx)
        used = get_target(target).build(source, "float32", options, empty_files(folder, name))
        describe_build(folder, name, target, "float32", used)


def build_place(folder: str | Path, name: str) -> Path:
    return Path(folder) / name


def describe_build(
    folder: str | Path, name: str, target: str, precision: Precision, options: dict[str, str] | None = None
) -> None:
    """Makes the files of a build, edgevit's or a peer's, something that edgevit's own session of the engine opens.

    `options` are those of edgevit's target that the build is opened with.
    """
    from edgevit.measure import describe_machine

    lowered = read_lowered(folder)
    build = Build(
        target=target,
        precision=precision,
        files=(),
        signature=lowered.onnx.signature,
        engine=Engine(name=target, version=get_target(target).availability().version),
        machine=describe_machine(),
        options=options or {},
    )
    (build_place(folder, name) / "build.json").write_bytes(msgspec.json.encode(build))


def with_float_layers(folder: str, name: str, copy: str, hint: str) -> None:
    """Step: the OpenVINO int8 build `name` once more as `copy`, its float layers executed in `hint` (f32 or bf16)."""
    files = empty_files(folder, copy)
    for path in (build_place(folder, name) / "files").iterdir():
        (files / path.name).hardlink_to(path)
    describe_build(folder, copy, "openvino", "int8", {"float_layers": hint})


def build_size(folder: str | Path, name: str) -> int:
    return sum(path.stat().st_size for path in (build_place(folder, name) / "files").rglob("*") if path.is_file())


def open_built(folder: Path, name: str, options: OpenOptions) -> EngineSession:
    """Opens a build; `edgevit.measure` calls it in its measuring processes. Peers get the same session as edgevit."""
    place = build_place(folder, name)
    build = msgspec.json.decode((place / "build.json").read_bytes(), type=Build)
    return get_target(build.target).open(place / "files", build, options)


def empty_files(folder: str | Path, name: str) -> Path:
    """Where the engine's files of the build `name` go."""
    files = build_place(folder, name) / "files"
    files.mkdir(parents=True)
    return files


def held_out(lowered: Lowered, samples: int | None, size: int) -> Iterator[Batch]:
    """The held-out images, prepared as the model says."""
    from edgevit.sets import batches, open_set, take

    chosen = open_set(lowered.evaluation)
    if samples is not None:
        chosen = take(chosen, min(samples, len(chosen)), 0)
    labels = lowered.model.labels if chosen.labelled else None
    return batches(chosen, lowered.model.preprocess, size, labels=labels)


def closeness(folder: str, names: list[str], samples: int | None) -> dict[str, dict[str, float]]:
    """Step: executes builds on the held-out images, against the float graph.

    By build: SQNR of the logits in dB, for a trained model the points of accuracy it loses, and how many of its layers
    the engine runs in int8.
    """
    from edgevit.graph.execute import Executor

    lowered = read_lowered(folder)
    output = lowered.signature.outputs[0].name
    with Executor(lowered.onnx.path) as executor:
        reference = np.concatenate([executor.run(batch.inputs)[output] for batch in held_out(lowered, samples, 4)])
    found = {}
    for name in names:
        session = open_built(Path(folder), name, OpenOptions())
        try:
            logits = np.concatenate([session.run(batch.inputs)[output] for batch in held_out(lowered, samples, 1)])
            execution = session.execution()
        finally:
            session.close()
        found[name] = {
            **_compared(lowered, samples, reference, logits),
            "int8_layers": execution.quantized_executed,
            "layers": len(execution.layers),
        }
    return found


def _compared(lowered: Lowered, samples: int | None, reference: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    from edgevit.parity.metrics import sqnr_db

    result = {"sqnr_db": sqnr_db(reference, logits)}
    if lowered.model.trained:
        labels = np.array([label for batch in held_out(lowered, samples, 16) for label in batch.labels])
        right = [float((scores.argmax(axis=-1) == labels).mean()) for scores in (reference, logits)]
        result["points_lost"] = 100 * (right[0] - right[1])
    return result
