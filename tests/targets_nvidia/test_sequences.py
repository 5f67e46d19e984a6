"""Encoders, decoders with a cache and recurrent models, each compiled; and what has to be rewritten for it, and why."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sequences import decoder_batches, texts

from edgevit.errors import BuildError, InputError
from edgevit.graph.execute import Executor
from edgevit.parity.metrics import sqnr_db
from edgevit.quantize.write_onnx import write_quantized
from edgevit.targets import tensorrt_rtx
from edgevit.targets.base import BuildSource
from edgevit.targets.nvidia.files import ENGINE

needs_wheels = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason="TensorRT-RTX is not installed, so no engine was compiled; pip install 'edgevit[tensorrt-rtx]'",
)
DECODERS = ("transformer.decoder", "lstm.decoder", "gru.decoder")
OTHERS = ("transformer.encoder", "lstm.encoder", "gru.encoder", "kinds", "tags-rnn", "tags-lstm", "tags-gru")
SIZES = {
    "batch": "1:1:8",
    "source_length": "1:8:24",
    "target_length": "1:1:24",
    "past_length": "0:8:23",
}


def batches(sequences: Any, name: str) -> list[dict[str, np.ndarray]]:
    model, _, part = name.partition(".")
    return decoder_batches(sequences, model) if part == "decoder" else [texts(4, 9), texts(3, 5)]


def profile(signature: Any) -> str:
    dims = {dim for spec in signature.inputs for dim in spec.shape if isinstance(dim, str)}
    return ",".join(f"{dim}:{SIZES[dim]}" for dim in sorted(dims))


@pytest.fixture
def compiled(sequences, min_max_plan, tmp_path: Path):
    """(name, precision, **options) -> (directory, options used)."""

    def make(name: str, precision: str, **options: str) -> tuple[Path, dict[str, str]]:
        onnx = sequences.onnx(name)
        plan = min_max_plan(onnx, batches(sequences, name)) if precision in ("int8", "float8") else None
        quantized = None if plan is None else write_quantized(onnx, plan, tmp_path / "quantized.onnx")
        source = BuildSource(float_model=None, onnx=onnx, quantized=quantized, plan=plan)
        out = tmp_path / precision
        out.mkdir()
        given = {"profile": profile(onnx.signature), **options}
        return out, tensorrt_rtx.build(source, precision, given, out)  # type: ignore[arg-type]

    return make


FLOORS = {"float16": 35.0, "int8": 12.0, "float8": 10.0}


@needs_wheels
@pytest.mark.parametrize("precision", FLOORS)
@pytest.mark.parametrize("name", [*DECODERS, *OTHERS])
def test_each_is_compiled_and_its_numerics_are_simulated(sequences, compiled, name, precision, tmp_path) -> None:
    directory, used = compiled(name, precision)
    assert (directory / ENGINE).stat().st_size > 10_000
    execution = tensorrt_rtx.compiled(directory)
    assert execution.warnings == ()
    assert {layer.executed for layer in execution.layers} <= {precision, "float16"}
    if precision != "float16":
        assert execution.quantized_executed == execution.quantized_requested > 0
        assert used[f"{precision}_layers"].split(" of ")[0] == str(execution.quantized_executed)
    tensorrt_rtx.simulate(directory, tmp_path / "simulated.onnx")
    with Executor(tmp_path / "simulated.onnx", exact=True) as simulated:
        for inputs in batches(sequences, name):
            expected, found = sequences.run(name, inputs), simulated.run(inputs)
            for output, array in expected.items():
                assert float(sqnr_db(array, found[output])) > FLOORS[precision], output


@needs_wheels
def test_the_tied_projection_multiplies_in_int8(compiled) -> None:
    directory, _ = compiled("transformer.decoder", "int8")
    layers = {layer.name: layer.executed for layer in tensorrt_rtx.compiled(directory).layers}
    assert layers["decoder.embed"] == "int8"


@needs_wheels
def test_a_recurrent_layer_is_in_the_table(compiled) -> None:
    directory, _ = compiled("tags-lstm", "float16")
    recurrent = [layer for layer in tensorrt_rtx.compiled(directory).layers if layer.kernel == "loop"]
    assert {layer.executed for layer in recurrent} == {"float16"}
    assert len(recurrent) == 4, "two layers in two directions"


@needs_wheels
def test_codes_that_are_gathered_are_refused_by_the_builder(sequences, min_max_plan, tmp_path: Path) -> None:
    """Why `tables_for_tensorrt` gathers in float; the alternative is what the other tests compile."""
    import tensorrt_rtx_bindings

    from edgevit.targets.nvidia.network import NetworkOptions, build_engine
    from edgevit.targets.nvidia.profiles import parse_profile

    onnx = sequences.onnx("kinds")
    quantized = write_quantized(onnx, min_max_plan(onnx, batches(sequences, "kinds")), tmp_path / "q.onnx")
    options = NetworkOptions(profile=parse_profile(profile(onnx.signature), onnx.signature), architectures=("sm86",))
    with pytest.raises(BuildError, match=r"embed.weight.int8\) is only allowed before DQ"):
        build_engine(tensorrt_rtx_bindings, quantized.path, onnx.signature, options)


@needs_wheels
def test_attention_as_one_operator_is_refused_in_float32(sequences) -> None:
    """Why attention is written out: only some types and shapes have a kernel of their own."""
    import tensorrt_rtx_bindings

    from edgevit.targets.nvidia.network import NetworkOptions, build_engine
    from edgevit.targets.nvidia.profiles import parse_profile

    onnx = sequences.onnx("kinds")
    options = NetworkOptions(profile=parse_profile(profile(onnx.signature), onnx.signature), architectures=("sm86",))
    with pytest.raises(BuildError, match="Attention operation was not supported by a dedicated kernel"):
        build_engine(tensorrt_rtx_bindings, onnx.path, onnx.signature, options)


def test_a_length_without_a_profile_is_found_before_any_work(sequences, tmp_path: Path) -> None:
    encoder, decoder = sequences.onnx("transformer.encoder"), sequences.onnx("transformer.decoder")
    source = BuildSource(float_model=None, onnx=encoder, others=(decoder.signature,))
    with pytest.raises(InputError, match="for the dynamic dimensions 'target_length', 'past_length', found none"):
        tensorrt_rtx.build(source, "float16", {"profile": "source_length:1:8:24"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_wheels
@pytest.mark.parametrize("family", ["bert", "t5"])
def test_checkpoints_in_hugging_face_layout_are_compiled(family: str, huggingface_directory, tmp_path: Path) -> None:
    """Their masks are boolean, or float32's lowest number, and T5 adds its positions to the scores."""
    from edgevit.graph.capture import capture
    from edgevit.graph.lower import lower
    from edgevit.pipeline.parts import part_models
    from edgevit.sources import SourceOptions, open_source

    model = open_source(str(huggingface_directory(family)), None, SourceOptions())
    for part, traced in part_models(model).items():
        out = tmp_path / f"engine-{part}"
        out.mkdir()
        onnx = lower(capture(traced), traced, tmp_path / f"{part}.onnx")
        dims = {dim for spec in onnx.signature.inputs for dim in spec.shape if isinstance(dim, str)} - {"batch"}
        sizes = ",".join(f"{dim}:{'0:2:7' if dim.startswith('past') else '1:4:8'}" for dim in sorted(dims))
        source = BuildSource(float_model=None, onnx=onnx)
        used = tensorrt_rtx.build(source, "float16", {"gpu": "sm86", "profile": sizes}, out)
        assert used["kernels"].endswith(" float16") and (out / ENGINE).stat().st_size > 10_000
