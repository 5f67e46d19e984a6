"""The builder's log as a table, on lines that TensorRT-RTX 1.7.1 wrote for the first block of a small ViT."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgevit.targets.nvidia.log_table import Kernel, count_kernels, read_execution, read_kernels

RECORDED = Path(__file__).parent / "recorded"
LAYERS = tuple(
    (name, "int8")
    for name in (
        "patch_embed.proj",
        "blocks.0.attn.qkv",
        "blocks.0.attn.proj",
        "blocks.0.mlp.fc1",
        "blocks.0.mlp.fc2",
        "head",
    )
)


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def test_every_layer_in_int8() -> None:
    execution = read_execution(recorded("int8.log"), LAYERS, "TensorRT-RTX for sm86")
    assert (execution.quantized_executed, execution.quantized_requested) == (6, 6)
    assert {layer.executed for layer in execution.layers} == {"int8"}
    assert {layer.name: layer.kernel for layer in execution.layers}["patch_embed.proj"] == "correlation"
    assert execution.warnings == ()
    assert count_kernels(recorded("int8.log")) == {"fused attention": 1, "int8": 6}


def test_a_layer_that_fell_back_is_named() -> None:
    execution = read_execution(recorded("split-falls-back.log"), LAYERS, "TensorRT-RTX for sm86")
    assert execution.quantized_executed == execution.quantized_requested - 1
    assert execution.warnings == ("blocks.0.attn.qkv was asked for in int8 and is compiled as float16",)


def test_it_is_never_called_executed() -> None:
    execution = read_execution(recorded("int8.log"), LAYERS, "TensorRT-RTX for sm86")
    assert execution.provider == "TensorRT-RTX for sm86: compiled, not executed"
    assert execution.precision == "int8 (compiled)"


def test_a_layer_that_the_log_does_not_list_is_not_taken_for_int8() -> None:
    execution = read_execution(recorded("int8.log"), (("blocks.9.mlp.fc1", "int8"),), "x")
    assert execution.quantized_executed == 0
    assert execution.layers[0].executed == "unknown"
    assert read_kernels("a log of less verbosity") == ()
    assert read_execution("", LAYERS, "x").quantized_executed == 0


def kernel(kind: str, inputs: tuple[str, ...], constants: tuple[str, ...], name: str = "k") -> Kernel:
    return Kernel(name=name, kind=kind, inputs=inputs, constants=constants, outputs=("float16",), origins=("layer",))


@pytest.mark.parametrize(
    ("inputs", "constants", "precision"),
    [
        (("int8",), ("int8", "float32"), "int8"),
        (("int8", "float16"), ("float16", "int8"), "int8"),  # a residual added and a bias listed first
        (("int8", "float16"), (), "float16"),  # weights dequantized by another kernel
        (("float16",), ("int8",), "float16"),  # weights alone in int8
        (("float32", "float32"), (), "float32"),
        (("float8",), ("float8", "float32"), "float8"),
        (("float16",), ("int4", "float16"), "int4w"),  # unpacked inside the product
        (("float16", "float16"), ("float32",), "float16"),  # unpacked beside it
        ((), (), "unknown"),
    ],
)
def test_int8_takes_data_and_weights(inputs: tuple[str, ...], constants: tuple[str, ...], precision: str) -> None:
    assert kernel("gemm", inputs, constants).precision == precision


def test_only_products_count() -> None:
    assert kernel("runtime_fusion", ("float16",), (), "__myl_FcAddAdd").multiplies
    assert not kernel("kgen", ("int8",), ("int8",), "__myl_MulMinMaxRounCast").multiplies


def gates(name: str, origin: str) -> str:
    tensor = "{ Name: t, Dimensions: [1], Strides: [1], StrideOrder: [0], Datatype: Half, Format: (Linear) x }"
    parts = f"Inputs: [ {tensor}], Constants: [], Outputs: [ {tensor}], TacticName: , StreamId: 0"
    return f"Name: {name}, LayerType: kgen, {parts}, Metadata: [ONNX Layer: {origin}]\n"


def test_a_recurrent_layer_is_known_by_its_gates() -> None:
    log = gates("__myl_SigmTanhMul", "layers.0.l0")
    (layer,) = read_execution(log, (("layers.0.l0", "float16"),), "x").layers
    assert (layer.executed, layer.kernel) == ("float16", "loop")
    (layer,) = read_execution(log, (("layers.0.l0", "int8"),), "x").layers
    assert layer.executed == "unknown", "gates are no products in int8"
