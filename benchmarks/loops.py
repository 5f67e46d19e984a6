"""Steps of the suite `sequences` that run a decoding loop, each in a process of its own, and NNCF's builds of one."""

from __future__ import annotations

import gc
import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from models import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgevit.runtime.parts import PartsSession
    from edgevit.targets.base import EngineSession, OpenOptions
    from edgevit.types import Arrays, Generation

NNCF_WEIGHTS = "nncf_weights-int8w"
NNCF_STATIC = "nncf_static-int8"
PHRASES = ROOT / "edgevit" / "sets" / "phrases"
CALIBRATION_STEPS = 300
"""Decoder inputs, of prefills and of steps, that NNCF calibrates on."""


def phrases(split: str, count: int | None = None) -> list[str]:
    """German phrases of `calibration` or `evaluation`."""
    lines = (PHRASES / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines[:count]]


# ------------------------------------------------------------------------------------- the loop and the engine


def time_loop(bundle: str, target: str, tokens: int, runs: int) -> dict[str, Any]:
    """Step: writes `tokens` tokens at batch 1, `runs` times: nanoseconds of each token, and how many were the engine's.

    The engine's own time is that within its call; everything else of a token (binding tensors, choosing the token) is
    the loop's. Both are read in the same run, so that no difference of two runs is larger than what is measured.
    """
    import edgevit
    from edgevit.runtime.loop import Decoding
    from edgevit.runtime.search import greedy

    totals, engines = [], []
    with edgevit.load(bundle, target) as model:
        ids, mask, settings = _source_of(model, tokens)
        spent = [0]
        gc.disable()
        for run in range(runs + 1):
            with Decoding(model.session, ids, mask) as steps:
                _time_engine(steps, spent)
                total, engine = [], []
                last, before = time.perf_counter_ns(), spent[0]
                for _ in greedy(steps, 1, settings):
                    now = time.perf_counter_ns()
                    total.append(now - last)
                    engine.append(spent[0] - before)
                    last, before = time.perf_counter_ns(), spent[0]
            if run:  # the first one meets every length for the first time
                totals.append(total)
                engines.append(engine)
    return {"token_ns": totals, "engine_ns": engines}


def time_without_cache(bundle: str, target: str, tokens: int, runs: int) -> dict[str, Any]:
    """Step: the same tokens, the decoder run over all of them each time; nanoseconds of a whole, with and without.

    The source is read once in both. The two take turns.
    """
    import edgevit
    from edgevit.runtime.loop import Decoding
    from edgevit.runtime.parts import LOGITS, TOKENS
    from edgevit.runtime.search import generate

    found: dict[str, list[int]] = {"cached": [], "without": []}
    written: list[list[int]] = []
    with edgevit.load(bundle, target) as model:
        ids, mask, settings = _source_of(model, tokens)

        def cached() -> list[int]:
            with Decoding(model.session, ids, mask) as steps:
                return list(generate(steps, 1, settings)[0].ids)

        def without() -> list[int]:
            encoded = model.session.encode(ids, mask)
            target_ids = [settings.start_token_id]
            for _ in range(tokens):
                outputs = model.session.decoder.run({TOKENS: np.array([target_ids]), **encoded})
                target_ids.append(int(outputs[LOGITS][0, -1].argmax()))
            return target_ids[1:]

        for run in range(runs + 1):
            for name, write in (("cached", cached), ("without", without)):
                began = time.perf_counter_ns()
                ids_written = write()
                if run:
                    found[name].append(time.perf_counter_ns() - began)
                else:
                    written.append(ids_written)
    same = sum(one == other for one, other in zip(*written, strict=True))
    return {**found, "same_tokens": same, "tokens": tokens}


def _source_of(model: Any, tokens: int) -> tuple[Any, Any, Generation]:
    """Sixteen random tokens, and settings that listen to no end."""
    from edgevit.measure.writing import NO_TOKEN

    rng = np.random.default_rng(0)
    ids = rng.integers(4, model.tokenizer.size, size=(1, 16))
    settings = msgspec.structs.replace(model.generation, beams=1, end_token_id=NO_TOKEN, max_length=tokens)
    return ids, np.ones_like(ids), settings


def _time_engine(steps: Any, spent: list[int]) -> None:
    """Adds to `spent` what the engine's own call takes, wherever this loop makes it."""
    loop = steps._loop
    if hasattr(loop, "_requests"):
        loop._requests = tuple(_Timed(_bare(one), ("start_async", "wait"), spent) for one in loop._requests)
    else:
        decoder = loop._session
        decoder._session = _Timed(_bare(decoder._session), ("run",), spent)


def _bare(engine: Any) -> Any:
    """The session keeps what it is given: a second loop finds the first one's clock around it."""
    return getattr(engine, "_timed", engine)


class _Timed:
    """An engine's object of which some methods are timed."""

    def __init__(self, engine: Any, methods: tuple[str, ...], spent: list[int]) -> None:
        self._timed = engine
        for method in methods:
            setattr(self, method, _timed(getattr(engine, method), spent))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._timed, name)


def _timed(call: Callable[..., Any], spent: list[int]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        began = time.perf_counter_ns()
        result = call(*arguments)
        spent[0] += time.perf_counter_ns() - began
        return result

    return timed


# ------------------------------------------------------------------------------------------------ NNCF's builds


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
        places = {name: Path(out) / name / part for name in (NNCF_WEIGHTS, NNCF_STATIC)}
        for place in places.values():
            place.mkdir(parents=True)
        weights = nncf.compress_weights(core.read_model(graph), mode=nncf.CompressWeightsMode.INT8_ASYM)
        ov.save_model(weights, str(places[NNCF_WEIGHTS] / "model.xml"), compress_to_fp16=False)
        static = nncf.quantize(
            core.read_model(graph),
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
        ov.save_model(static, str(places[NNCF_STATIC] / "model.xml"), compress_to_fp16=False)
    shutil.copytree(bundle, Path(out) / "bundle", dirs_exist_ok=True)


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
    """An opener for the measuring process: NNCF's builds with the float layers in what ours execute them in."""
    from edgevit.bundle import open_bundle
    from edgevit.runtime.parts import open_parts
    from edgevit.runtime.selection import open_build
    from edgevit.targets import openvino

    if name not in (NNCF_WEIGHTS, NNCF_STATIC):
        return open_build(bundle, name, options)
    opened = open_bundle(bundle, check="manifest")
    ours = opened.builds("openvino-int8")[0]
    return open_parts(ours, lambda part, alone: openvino.open(bundle.parent / name / part.name, alone, options))


# -------------------------------------------------------------------------------------------- the task's results


def time_results(bundle: str, target: str, count: int) -> dict[str, Any]:
    """Step: `Model.predict` on held-out phrases: milliseconds one at a time, and phrases per second as one list."""
    import edgevit

    texts = phrases("evaluation", count)
    with edgevit.load(bundle, target) as model:
        model.predict(texts[:8])
        single = []
        for text in texts:
            began = time.perf_counter_ns()
            model.predict(text)
            single.append((time.perf_counter_ns() - began) / 1e6)
        model.predict(texts)
        began = time.perf_counter_ns()
        model.predict(texts)
        seconds = (time.perf_counter_ns() - began) / 1e9
        size = sum(file.size for file in model.build.files)
    return {"single_ms": single, "per_second": len(texts) / seconds, "size": size}
