"""`model.onnx`: its signature, what lies beside it, and every way in which one can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgevit.errors import CheckpointError, InputError
from edgevit.sources import SourceOptions, open_source
from edgevit.types import ImagePreprocess

GIVEN = ImagePreprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
OPTIONS = SourceOptions(preprocess=GIVEN)


def weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"conv.weight": (6, 3, 4, 4), "conv.bias": (6,), "fc.weight": (5, 24), "fc.bias": (5,)}
    return {name: rng.normal(size=shape).astype(np.float32) * 0.3 for name, shape in shapes.items()}


def small(path: Path, *, opset: int = 13, batch: int | str = "N", output: str = "logits", extra: str = "Relu") -> Path:
    """Convolution, activation, Gemm with a transposed weight, as exporters of old opsets write them."""
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["c"], name="conv", strides=[4, 4]),
        helper.make_node(extra, ["c"], ["r"], name="act"),
        helper.make_node("Flatten", ["r"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], [output], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(value, name) for name, value in weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def test_the_file_is_its_own_reference(tmp_path: Path) -> None:
    path = small(tmp_path / "small.onnx")
    model = open_source(str(path), options=OPTIONS)
    assert (model.module, model.onnx, model.reference) == (None, path, "ONNX Runtime")
    assert (model.task, model.name, model.quantized) == ("image-classification", "small", False)
    assert model.signature.inputs[0].shape == ("N", 3, 8, 8)
    assert model.preprocess.input == "image"
    assert model.labels == tuple("01234")
    assert "no PyTorch model" in model.notes[0]


def test_what_lies_beside_it_is_taken(tmp_path: Path) -> None:
    path = small(tmp_path / "small.onnx")
    with pytest.raises(InputError, match="found no preprocessor_config.json beside it; put the"):
        open_source(str(path))
    config = {"image_processor_type": "ViTImageProcessor", "size": 8, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {str(i): name for i, name in enumerate("vwxyz")}}))
    model = open_source(str(path))
    assert (model.preprocess.mean, model.labels) == ((0.4,) * 3, tuple("vwxyz"))


def test_a_task_that_the_output_does_not_tell_must_be_given(tmp_path: Path) -> None:
    path = small(tmp_path / "small.onnx", output="y")
    with pytest.raises(InputError, match=r"found y \('N', 5\); say what the first one is with --task"):
        open_source(str(path), options=OPTIONS)
    options = SourceOptions(preprocess=GIVEN, task="image-features")
    assert open_source(str(path), options=options).task == "image-features"


def test_preprocessing_must_fit_the_input(tmp_path: Path) -> None:
    path = small(tmp_path / "small.onnx")
    wrong = ImagePreprocess(size=(16, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match="expected preprocessing to 3 x 8 x 8 .* found 3 x 16 x 8"):
        open_source(str(path), options=SourceOptions(preprocess=wrong))


def external(path: Path, change: Callable[[onnx.TensorProto], None] = lambda tensor: None) -> Path:
    """The model with its weights in `weights.bin`, and `change` made to the first one's entry."""
    model = onnx.load(str(small(path)))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    change(model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    return path


def located(key: str, value: str) -> Callable[[onnx.TensorProto], None]:
    def change(tensor: onnx.TensorProto) -> None:
        kept = {entry.key: entry.value for entry in tensor.external_data} | {key: value}
        del tensor.external_data[:]
        for name, text in kept.items():
            tensor.external_data.add(key=name, value=text)

    return change


def test_external_data_counts_for_the_digest(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx")
    before = open_source(str(path), options=OPTIONS).digest
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[3] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert open_source(str(path), options=OPTIONS).digest != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (located("location", "../weights.bin"), "'../weights.bin', which leads outside its directory"),
        (located("location", "/etc/hostname"), "'/etc/hostname', which leads outside"),
        (located("location", "a\\b"), "leads outside"),
        (located("location", ""), "leads outside"),
        (located("location", "gone.bin"), "found no file; copy it beside"),
        (located("offset", "99999999"), "expected 1000.* bytes in"),
    ],
)
def test_external_data_elsewhere_or_broken(
    change: Callable[[onnx.TensorProto], None], words: str, tmp_path: Path
) -> None:
    path = external(tmp_path / "inner" / "m.onnx", change)
    (tmp_path / "weights.bin").write_bytes((tmp_path / "inner" / "weights.bin").read_bytes())
    with pytest.raises(CheckpointError, match=words) as caught:
        open_source(str(path), options=OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_link_that_leads_outside_is_no_way_round(tmp_path: Path) -> None:
    path = external(tmp_path / "inner" / "m.onnx")
    (tmp_path / "inner" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "inner" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(CheckpointError, match="leads outside"):
        open_source(str(path), options=OPTIONS)


def test_unknown_operators_and_types_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected standard ONNX operators in .*, found Frobnicate"):
        open_source(str(small(tmp_path / "op.onnx", extra="Frobnicate")), options=OPTIONS)
    model = onnx.load(str(small(tmp_path / "half.onnx")))
    half = numpy_helper.from_array(weights()["fc.bias"].astype(np.float16), "fc.bias")
    model.graph.initializer[3].CopyFrom(half)
    onnx.save(model, str(tmp_path / "half.onnx"))
    with pytest.raises(CheckpointError, match=r"1 in half precision \(fc.bias"):
        open_source(str(tmp_path / "half.onnx"), options=OPTIONS)


def test_what_is_no_onnx_file_is_one_line(tmp_path: Path) -> None:
    whole = small(tmp_path / "small.onnx").read_bytes()
    for name, content in {"cut.onnx": whole[:300], "text.onnx": b"not a model", "empty.onnx": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="expected an ONNX file at") as caught:
            open_source(str(tmp_path / name), options=OPTIONS)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="found none; check the path"):
        open_source(str(tmp_path / "gone.onnx"), options=OPTIONS)


def test_a_quantized_file_says_so(tmp_path: Path) -> None:
    model = onnx.load(str(small(tmp_path / "q.onnx")))
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    model.graph.initializer.extend([scale, zero])
    model.graph.node[0].input[0] = "dq"
    for index, (kind, read, made) in enumerate([("QuantizeLinear", "image", "q"), ("DequantizeLinear", "q", "dq")]):
        model.graph.node.insert(index, helper.make_node(kind, [read, "s", "z"], [made]))
    onnx.save(model, str(tmp_path / "q.onnx"))
    found = open_source(str(tmp_path / "q.onnx"), options=OPTIONS)
    assert found.quantized
    assert "quantized already (2 operators)" in found.notes[1]
