"""Steps of the suite `sequences` that run a decoding loop, each in a process of its own."""

from __future__ import annotations

import gc
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from models import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgevit.runtime.parts import PartsSession
    from edgevit.types import Generation

PHRASES = ROOT / "edgevit" / "sets" / "phrases"


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
    from edgevit.measure.writing import Rereading
    from edgevit.runtime.loop import Decoding
    from edgevit.runtime.search import generate

    found: dict[str, list[int]] = {"cached": [], "without": []}
    written: list[tuple[int, ...]] = []
    with edgevit.load(bundle, target) as model:
        ids, mask, settings = _source_of(model, tokens)

        def cached() -> tuple[int, ...]:
            with Decoding(model.session, ids, mask) as steps:
                return generate(steps, 1, settings)[0].ids

        def without() -> tuple[int, ...]:
            return generate(Rereading(model.session, ids, mask), 1, settings)[0].ids

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


def time_step_graph(bundle: str, target: str, tokens: int, runs: int) -> dict[str, Any]:
    """Step: a decoder of one graph for every length against one made for a single token of a single text.

    Nanoseconds of each token, in turns. The second graph is the first with batch and target length fixed to 1: what a
    separate graph for steps would be, beside one for prefixes.
    """
    import edgevit
    from edgevit.runtime.loop import Decoding
    from edgevit.runtime.search import greedy

    found: dict[str, list[list[int]]] = {"one": [], "two": []}
    with edgevit.load(bundle, target) as model, tempfile.TemporaryDirectory() as folder:
        ids, mask, settings = _source_of(model, tokens)
        sessions = {"one": model.session, "two": _with_step_graph(bundle, model.build, Path(folder))}
        gc.disable()
        for run in range(runs + 1):
            for name, session in sessions.items():
                times = []
                with Decoding(session, ids, mask) as steps:
                    last = time.perf_counter_ns()
                    for _ in greedy(steps, 1, settings):
                        now = time.perf_counter_ns()
                        times.append(now - last)
                        last = now
                if run:
                    found[name].append(times)
        sessions["two"].close()
    return found


def _with_step_graph(bundle: str, build: Any, folder: Path) -> PartsSession:
    import openvino as ov

    from edgevit.runtime.parts import DECODER, TOKENS, open_parts
    from edgevit.targets import openvino
    from edgevit.targets.base import OpenOptions

    files = Path(bundle) / build.name
    decoder = ov.Core().read_model(str(files / DECODER / "model.xml"))
    shapes = {port.get_any_name(): port.get_partial_shape() for port in decoder.inputs}
    for name, shape in shapes.items():
        shape[0] = 1
        if name == TOKENS:
            shape[1] = 1
    decoder.reshape(shapes)
    ov.save_model(decoder, str(folder / "model.xml"), compress_to_fp16=False)
    return open_parts(
        build,
        lambda part, alone: openvino.open(folder if part.name == DECODER else files / part.name, alone, OpenOptions()),
    )


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
