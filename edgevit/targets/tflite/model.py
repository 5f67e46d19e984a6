"""A `.tflite` flatbuffer in the making: buffers shared by several graphs, one graph and one signature per batch."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from edgevit.errors import BuildError, missing_package

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 3
IDENTIFIER = "TFL3"
TYPES = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32", "bool": "BOOL"}
VERSIONS = {"FULLY_CONNECTED": 12, "CONV_2D": 3, "DEQUANTIZE": 2, "EMBEDDING_LOOKUP": 4, "EQUAL": 2}
"""The oldest version of an operator that knows all we use of it: per-channel int8 weights beside float inputs."""
LARGEST = 2**31 - 2**23
"""Bytes of all weights: offsets in a flatbuffer are 31 bits wide, and the graphs need some of them."""
FREE = -1
"""The size of a dimension that follows from the inputs, when it runs."""
EXAMPLE_LENGTH = 8
"""What a file says in its place: shapes are inferred anew when an input has another one."""


@functools.cache
def schema() -> Any:
    """The classes of the flatbuffer's schema. Raises UnavailableError where ai-edge-litert is missing."""
    try:
        from ai_edge_litert import schema_py_generated
    except ModuleNotFoundError as error:
        raise missing_package("ai-edge-litert", "litert", "the target litert") from error
    return schema_py_generated


class ModelWriter:
    """Collects buffers, operators' codes, graphs and signatures; `content` is the file."""

    def __init__(self, description: str) -> None:
        found = schema()
        self.model = found.ModelT()
        self.model.version, self.model.description = SCHEMA, description
        self.model.buffers, self.model.operatorCodes = [found.BufferT()], []
        self.model.subgraphs, self.model.signatureDefs = [], []
        self._stored: dict[bytes, int] = {}
        self._codes: dict[str, int] = {}
        self._size = 0

    def buffer(self, values: NDArray[Any]) -> int:
        """Index of a buffer with these numbers; the same numbers are stored once.

        Raises BuildError where all of them together are more than a file can hold.
        """
        content = np.ascontiguousarray(values).tobytes()
        if content not in self._stored:
            self._size += len(content)
            if self._size > LARGEST:
                raise BuildError(
                    f"expected weights of at most {LARGEST / 1e9:.1f} GB for litert, all that a .tflite file can hold, "
                    f"found more; build int8 (litert:int8d has a quarter of float32's), or onnxruntime"
                )
            made = schema().BufferT()
            made.data = np.frombuffer(content, np.uint8)
            self._stored[content] = len(self.model.buffers)
            self.model.buffers.append(made)
        return self._stored[content]

    def code(self, operator: str) -> int:
        if operator not in self._codes:
            found = schema()
            made = found.OperatorCodeT()
            made.builtinCode = getattr(found.BuiltinOperator, operator)
            made.deprecatedBuiltinCode = min(made.builtinCode, 127)
            made.version = VERSIONS.get(operator, 1)
            self._codes[operator] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(made)
        return self._codes[operator]

    def content(self) -> bytes:
        import flatbuffers

        builder = flatbuffers.Builder(self._size + (1 << 22))  # growing it would copy all weights, again and again
        builder.Finish(self.model.Pack(builder), IDENTIFIER.encode())
        return bytes(builder.Output())


class GraphWriter:
    """One graph of a model. Tensors are known by their index."""

    def __init__(self, writer: ModelWriter, name: str) -> None:
        self.writer = writer
        self.graph = schema().SubGraphT()
        self.graph.name = name
        self.graph.tensors, self.graph.operators = [], []
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], int] = {}

    def tensor(
        self, name: str, dims: tuple[int, ...], dtype: str = "float32", scales: Any = None, axis: int = 0
    ) -> int:
        """A tensor that an operator writes, or an input; with `scales` quantized, zero points 0."""
        found = schema()
        made = found.TensorT()
        made.name, made.buffer, made.hasRank = name, 0, True
        made.shape = [EXAMPLE_LENGTH if size == FREE else size for size in dims]
        if FREE in dims:
            made.shapeSignature = list(dims)
        made.type = tensor_type(dtype)
        if scales is not None:
            made.quantization = found.QuantizationParametersT()
            made.quantization.scale = np.atleast_1d(np.asarray(scales, np.float32))
            made.quantization.zeroPoint = np.zeros(made.quantization.scale.shape, np.int64)
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def like(self, name: str, dims: tuple[int, ...], other: int) -> int:
        """A tensor of the type that `other` has."""
        made = self.tensor(name, dims)
        self.graph.tensors[made].type = self.type(other)
        return made

    def type(self, tensor: int) -> int:
        found: int = self.graph.tensors[tensor].type
        return found

    def dims(self, tensor: int) -> tuple[int, ...]:
        """The shape, with `FREE` where it has a size of the inputs."""
        found = self.graph.tensors[tensor]
        return tuple(found.shape if found.shapeSignature is None else found.shapeSignature)

    def constant(self, name: str, values: NDArray[Any], scales: Any = None, axis: int = 0) -> int:
        index = self.tensor(name, values.shape, str(values.dtype), scales, axis)
        self.graph.tensors[index].buffer = self.writer.buffer(values)
        return index

    def operator(
        self,
        kind: str,
        inputs: list[int],
        outputs: list[int],
        options: str = "",
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Appends an operator; `options` names its table of options, `fields` fill it."""
        found = schema()
        made = found.OperatorT()
        made.opcodeIndex = self.writer.code(kind)
        made.inputs, made.outputs = inputs, outputs
        if options:
            made.builtinOptionsType = getattr(found.BuiltinOptions, options)
            made.builtinOptions = getattr(found, f"{options}T")()
            for field, value in (fields or {}).items():
                assert hasattr(made.builtinOptions, field), field
                setattr(made.builtinOptions, field, value)
        self.graph.operators.append(made)

    def finish(self, key: str, inputs: dict[str, int], outputs: dict[str, int]) -> None:
        """Adds the graph to the model with a signature called `key`."""
        found, model = schema(), self.writer.model
        self.graph.inputs, self.graph.outputs = list(inputs.values()), list(outputs.values())
        signature = found.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = key, len(model.subgraphs)
        signature.inputs, signature.outputs = _maps(inputs), _maps(outputs)
        model.subgraphs.append(self.graph)
        model.signatureDefs.append(signature)


def tensor_type(dtype: str) -> int:
    """The schema's number of a NumPy type in `TYPES`."""
    found: int = getattr(schema().TensorType, TYPES[dtype])
    return found


def _maps(tensors: dict[str, int]) -> list[Any]:
    made = []
    for name, index in tensors.items():
        entry = schema().TensorMapT()
        entry.name, entry.tensorIndex = name, index
        made.append(entry)
    return made
