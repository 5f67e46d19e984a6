"""A float model that is an ONNX file already: `model.onnx`. Its reference is ONNX Runtime in float32."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgevit.errors import CheckpointError, InputError
from edgevit.sources.beside import labels_beside, preprocess_beside
from edgevit.sources.onnx_check import check_onnx
from edgevit.sources.options import SourceOptions
from edgevit.sources.requirements import require
from edgevit.types import FloatModel, Signature, Task, TensorSpec

if TYPE_CHECKING:
    import onnx

REFERENCE = "ONNX Runtime"


def load_onnx(path: Path, weights: Path | None = None, options: SourceOptions | None = None) -> FloatModel:
    """The image model in an ONNX file, with or without external data beside it; the graph is not changed here.

    It has one float32 input (batch, channels, height, width). The task comes from `options.task`, or is
    image-classification where the first output is called `logits`; preprocessing from `options.preprocess`, or a
    `preprocessor_config.json` beside the file; labels from `options.labels`, or `id2label` of a config.json there.
    Raises CheckpointError for a file that is damaged, has operators nobody knows or data elsewhere, InputError for
    what cannot be told, UnavailableError without onnx.
    """
    require("onnx", f"loading {path}")
    options = options or SourceOptions()
    if weights is not None:
        raise InputError(f"expected the weights inside {path}, found --weights {weights} as well; leave one out")
    checked = check_onnx(path)
    graph = checked.proto.graph
    inner = {initializer.name for initializer in graph.initializer}
    inputs = [_spec(value, path) for value in graph.input if value.name not in inner]
    outputs = [_spec(value, path) for value in graph.output]
    preprocess = preprocess_beside(path, inputs, options)
    signature = Signature(inputs=tuple(inputs), outputs=tuple(outputs))
    task = options.task or _task(path, outputs)
    notes = [f"the float32 reference is {REFERENCE} on the file itself, because there is no PyTorch model"]
    if checked.quantizers:
        notes.append(f"the graph is quantized already ({checked.quantizers} operators); it is built as it is")
    return FloatModel(
        name=path.stem,
        module=None,
        onnx=path.absolute(),
        reference=REFERENCE,
        quantized=checked.quantizers > 0,
        signature=signature,
        task=task,
        preprocess=preprocess,
        labels=labels_beside(path, task, outputs, options),
        trained=True,
        digest=checked.digest,
        notes=tuple(notes),
    )


def _spec(value: onnx.ValueInfoProto, path: Path) -> TensorSpec:
    from onnx import TensorProto

    tensor = value.type.tensor_type
    kinds: dict[int, str] = {TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}
    if tensor.elem_type not in kinds:
        found = TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type else "no tensor"
        raise CheckpointError(
            f"expected float32 inputs and outputs in {path}, found {value.name} of type {found}; "
            "export the model in float32"
        )
    dims = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or f"{value.name}_{index}"
        for index, dim in enumerate(tensor.shape.dim)
    )
    return TensorSpec(name=value.name, dtype=kinds[tensor.elem_type], shape=dims)


def _task(path: Path, outputs: list[TensorSpec]) -> Task:
    if outputs and outputs[0].name == "logits" and len(outputs[0].shape) == 2:
        return "image-classification"
    found = ", ".join(f"{spec.name} {spec.shape}" for spec in outputs) or "none"
    raise InputError(
        f"expected an output 'logits' (batch, classes) in {path}, found {found}; say what the first one is with --task "
        "image-classification or --task image-features"
    )
