"""A Marian model of the base Transformer's size, exported and written with by optimum-intel; run by its own Python.

optimum-intel wants other versions of its neighbours than edgevit, so it lives in a virtual environment of its own:

    python -m venv OTHER && OTHER/bin/pip install optimum-intel[openvino] torch
    python benchmarks/run.py sequences --optimum OTHER/bin/python

Marian is that architecture (post-norm, ReLU, sinusoidal positions, one table for embedding and projection), and the
one optimum-intel exports. Its weights are random, as those of `zoo:transformer-base` are.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any


def main(out: Path, tokens: int, runs: int) -> dict[str, Any]:
    """Exports float32 and int8 to `out`; nanoseconds of every token, and of the engine's own call in it."""
    source = out / "marian"
    if not source.exists():
        _model().save_pretrained(source)
    found = {name: _timed(source, out / name, bits, tokens, runs) for name, bits in (("float32", 0), ("int8", 8))}
    versions = {name: version(name) for name in ("optimum-intel", "transformers", "openvino", "torch")}
    return {"builds": found, "versions": versions}


def _model() -> Any:
    import torch
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=37_000,
        decoder_vocab_size=37_000,
        max_position_embeddings=512,
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        activation_function="relu",
        scale_embedding=True,
        pad_token_id=0,
        eos_token_id=3,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )
    return MarianMTModel(config).eval()


def _timed(source: Path, out: Path, bits: int, tokens: int, runs: int) -> dict[str, Any]:
    import numpy as np
    import torch
    from optimum.intel import OVModelForSeq2SeqLM, OVWeightQuantizationConfig
    from transformers import LogitsProcessor

    if not out.exists():
        how = OVWeightQuantizationConfig(bits=bits) if bits else None
        exported = OVModelForSeq2SeqLM.from_pretrained(
            source, export=True, compile=False, load_in_8bit=False if how is None else None, quantization_config=how
        )
        exported.save_pretrained(out)
    # float32 is held to float32, as edgevit's is; int8 has what optimum-intel gives it.
    settings = {} if bits else {"INFERENCE_PRECISION_HINT": "f32"}
    model = OVModelForSeq2SeqLM.from_pretrained(out, ov_config={"PERFORMANCE_HINT": "LATENCY", **settings})
    model.compile()
    spent = [0]
    decoder = model.decoder
    decoder.request = _Clocked(decoder.request, spent)
    ids = torch.from_numpy(np.random.default_rng(0).integers(4, 37_000, size=(1, 16)))

    class Ticks(LogitsProcessor):  # type: ignore[misc]
        """Called once a token, with its logits."""

        def __init__(self) -> None:
            self.at: list[tuple[int, int]] = []

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self.at.append((time.perf_counter_ns(), spent[0]))
            return scores

    totals, engines = [], []
    for run in range(runs + 1):
        ticks = Ticks()
        began, before = time.perf_counter_ns(), spent[0]
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            num_beams=1,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            logits_processor=[ticks],
        )
        if run:
            places = [(began, before), *ticks.at]
            totals.append([one[0] - last[0] for last, one in pairwise(places)])
            engines.append([one[1] - last[1] for last, one in pairwise(places)])
    size = sum(path.stat().st_size for path in out.glob("*.bin"))
    return {"token_ns": totals, "engine_ns": engines, "size": size}


class _Clocked:
    """An infer request whose own time is added up."""

    def __init__(self, request: Any, spent: list[int]) -> None:
        self._request = request
        self._spent = spent

    def start_async(self, *arguments: Any, **how: Any) -> None:
        began = time.perf_counter_ns()
        self._request.start_async(*arguments, **how)
        self._spent[0] += time.perf_counter_ns() - began

    def wait(self) -> None:
        began = time.perf_counter_ns()
        self._request.wait()
        self._spent[0] += time.perf_counter_ns() - began

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)


if __name__ == "__main__":
    folder, result, tokens, runs = sys.argv[1:]
    Path(result).write_text(json.dumps(main(Path(folder), int(tokens), int(runs))))
