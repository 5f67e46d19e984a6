"""NNCF's builds of a model that writes, each part by itself, and how they are opened beside edgevit's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from loops import phrases

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgevit.runtime.parts import PartsSession
    from edgevit.targets.base import EngineSession, OpenOptions
    from edgevit.types import Arrays

WEIGHTS, DYNAMIC, STATIC = "nncf_weights-int8w", "nncf_dynamic-int8d", "nncf_static-int8"
TITLES = {
    WEIGHTS: "NNCF, int8 weights alone",
    DYNAMIC: "NNCF, int8 weights, inputs as they come",
    STATIC: "NNCF, int8",
}
FILES = {WEIGHTS: WEIGHTS, DYNAMIC: WEIGHTS, STATIC: STATIC}
"""Where each lies: one file is executed with two settings, as edgevit's int8w and int8d are."""
CALIBRATION_STEPS = 300
"""Decoder inputs, of prefills and of steps, that NNCF calibrates on."""


def nncf_builds(bundle: str, out: str) -> None:
    """Step: NNCF's builds of the float32 OpenVINO build: int8 weights, and int8 with activations calibrated.

    Each part is quantized by itself, with what it is given while the float model writes phrases.
    """
    import nncf
    import openvino as ov

    import edgevit

    core = ov.Core()
    with edgevit.load(bundle, "openvino:float32") as model:
        seen = {part: list(inputs) for part, inputs in _seen(model).items()}
    for part, inputs in seen.items():
        graph = str(Path(bundle) / "openvino-float32" / part / "model.xml")
        places = {name: Path(out) / name / part for name in (WEIGHTS, STATIC)}
        for place in places.values():
            place.mkdir(parents=True)
        weights = nncf.compress_weights(core.read_model(graph), mode=nncf.CompressWeightsMode.INT8_ASYM)
        ov.save_model(weights, str(places[WEIGHTS] / "model.xml"), compress_to_fp16=False)
        static = nncf.quantize(
            core.read_model(graph),
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
        ov.save_model(static, str(places[STATIC] / "model.xml"), compress_to_fp16=False)
    shutil.copytree(bundle, Path(out) / "bundle", copy_function=_linked)


def _linked(source: str, target: str) -> None:
    """Files of a bundle are never changed: nothing need be copied where both lie on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _seen(model: Any) -> dict[str, Iterator[Arrays]]:
    """What each part is given while phrases are translated, up to `CALIBRATION_STEPS` of the decoder."""
    from edgevit.preprocess import texts_batch
    from edgevit.runtime.parts import MASK, TOKENS, feedback

    spec, settings = model._texts, model.generation
    sources = [texts_batch([text], spec, model.tokenizer) for text in phrases("calibration", 64)]

    def decoder() -> Iterator[Arrays]:
        session: PartsSession = model.session
        fed = feedback(session.decoder.signature)
        left = CALIBRATION_STEPS
        for source in sources:
            inputs = session.encode(source[spec.input], source[spec.mask])
            token, written = settings.start_token_id, 0
            while left and token != settings.end_token_id and written < 24:
                step = {TOKENS: np.array([[token]]), **inputs}
                yield step
                outputs = session.decoder.run(step)
                inputs.update({name: outputs[output] for output, name in fed.items()})
                token = int(outputs["logits"][0, -1].argmax())
                written, left = written + 1, left - 1

    encoder = ({TOKENS: source[spec.input], MASK: source[spec.mask]} for source in sources)
    return {"encoder": encoder, "decoder": decoder()}


def open_peer(bundle: Path, name: str, options: OpenOptions) -> EngineSession:
    """An opener for the measuring process: NNCF's builds with the settings that ours of that precision have."""
    from edgevit.bundle import open_bundle
    from edgevit.runtime.parts import open_parts
    from edgevit.runtime.selection import open_build
    from edgevit.targets import openvino

    if name not in FILES:
        return open_build(bundle, name, options)
    precision = name.rpartition("-")[2]
    ours = open_bundle(bundle, check="manifest").builds(f"openvino-{precision}")[0]
    files = bundle.parent / FILES[name]
    return open_parts(ours, lambda part, alone: openvino.open(files / part.name, alone, options))
