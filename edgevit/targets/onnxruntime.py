"""ONNX Runtime on the CPU: an optimized model in float32, int8 from Q/DQ, int8d from MatMulNBits, int8w from weights.

Facts this file answers to: asking for a provider that the wheel lacks silently gives the CPU, so the provider is read
back; int8 convolution needs an output scale, which this scheme never writes, so convolutions stay float here; its
fused attention is the fastest form of attention it has. A tied output projection is MatMulNBits in int8, too: only
that one multiplies with the codes that the embedding gathers from. Weight-only builds are unpacked into float32 when
they are opened: its kernels for packed weights and float arithmetic take three to ten times as long as float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError, missing_package
from edgevit.targets.base import ClosedSession, OpenOptions
from edgevit.targets.execution import int8_execution
from edgevit.targets.installed import installed_version, with_exporter
from edgevit.types import PREPROCESSING, Engine, ExecutedLayer, Execution

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from edgevit.targets.base import Availability, BuildSource
    from edgevit.types import Arrays, Build, Precision, QuantPlan, Signature

name = "onnxruntime"
precisions: tuple[Precision, ...] = ("float32", "int8", "int8d", "int8w")
pixels = True

MODEL = "model.onnx"
PROVIDER = "CPUExecutionProvider"
OPSET = 21
"""ONNX Runtime's fusions know the operators of opset 21; nothing in a lowered graph needs a later one but Attention,
which this target replaces."""
UNWANTED = ("MatMulAddFusion", "CommonSubexpressionElimination")
"""The first makes a Gemm of a layer on two-dimensional inputs (a classifier's head) before the int8 kernel is chosen,
and an int8 Gemm needs an int32 bias. The second merges the Q/DQ pairs of layers that read one tensor (q, k and v), and
1.32 leaves all of them in float then: 18 of the 49 layers of a `zoo:transformer-base` decoder."""
INT8_OPERATORS = (
    "MatMulNBits",
    "MatMulIntegerToFloat",
    "QLinearMatMul",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "QGemm",
    "QLinearConv",
)
FLOAT_OPERATORS = ("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "Conv", "FusedConv", "LSTM", "GRU", "RNN")


def availability() -> Availability:
    found = installed_version("onnxruntime", "onnxruntime-gpu")
    return with_exporter(found, "pip install 'edgevit[onnxruntime]'")


def why_not(precision: Precision) -> str:
    """Its CPU provider executes what it offers on every processor."""
    return ""


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.onnx, optimized offline by the rules that do not depend on this processor.

    Option `optimize` = yes | no: `no` keeps the Q/DQ or float graph as written.
    """
    if set(options) - {"optimize"} or options.get("optimize", "yes") not in ("yes", "no"):
        raise InputError(f"expected options of onnxruntime (optimize=yes|no), found {options}")
    from edgevit.graph import storage

    # Optimizing ahead would unpack weights on disk.
    optimize = "no" if precision == "int8w" else options.get("optimize", "yes")
    if optimize == "no":
        opset = prepare(source, precision, out / MODEL, name, storage.ONE_FILE_LIMIT)
    else:
        prepared = out / "prepared.onnx"
        opset = prepare(source, precision, prepared, name)
        _optimize(prepared, out / MODEL, UNWANTED if precision == "int8" else ())
        for part in out.glob("prepared.onnx*"):
            part.unlink()
    return {"optimize": optimize, "opset": str(opset)}


def open(directory: Path, build: Build, options: OpenOptions) -> OnnxRuntimeSession:
    """Opens a build of this target."""
    return OnnxRuntimeSession(directory, build, options)


class OnnxRuntimeSession:
    """An InferenceSession; its `run` serves several callers at the same time by itself."""

    def __init__(self, directory: Path, build: Build, options: OpenOptions, file: str = MODEL) -> None:
        self.signature: Signature = build.signature
        self._build = build
        self._path = directory / file
        self._session: Any = _session(self._path, _session_options(options, unpack=build.precision == "int8w"))
        providers = self._session.get_providers()
        if providers[0] != PROVIDER:
            raise UnavailableError(f"expected ONNX Runtime to use {PROVIDER}, found {providers}; install onnxruntime")
        self.engine = Engine(name=name, version=availability().version, device="CPU")
        self._outputs = [spec.name for spec in build.signature.outputs]

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe."""
        session = self._session
        if session is None:
            raise ClosedSession(self._build.name)
        return dict(zip(self._outputs, session.run(self._outputs, inputs), strict=True))

    def execution(self) -> Execution:
        """What one profiled run on zeros shows: the operator that every linear layer and convolution became."""
        packed = self._build.precision == "int8w"
        operators = _profiled_operators(self._path, self.signature, _session_options(OpenOptions(), unpack=packed))
        layers = tuple(_layers(operators, int8=self._build.precision == "int8"))
        if packed:
            layers = tuple(_weight_only(layers, self._stored()))
        return int8_execution(layers, provider=PROVIDER)

    def close(self) -> None:
        self._session = None

    def _stored(self) -> frozenset[str]:
        """Layers whose weights the file holds in int8: without optimizations they are dequantized in every run."""
        options = _session_options(OpenOptions())
        options.graph_optimization_level = import_onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
        operators = _profiled_operators(self._path, self.signature, options)
        found = (name.removesuffix(".dequantize") for name in operators if name.endswith(".dequantize"))
        return frozenset(_module(parameter) for parameter in found)


def prepare(source: BuildSource, precision: Precision, path: Path, target: str, inline_limit: int | None = None) -> int:
    """Writes the graph with what ONNX Runtime executes: fused attention, Q/DQ on linear layers only. Returns its opset.

    `target` is named where something is missing; `inline_limit` is that of `storage.save`.
    """
    from edgevit.graph import storage
    from edgevit.graph.passes.attention_for_onnxruntime import attention_for_onnxruntime
    from edgevit.graph.passes.tied_for_onnxruntime import tied_for_onnxruntime

    graph = storage.load(source.onnx.path)
    if precision != "float32":
        if source.plan is None:
            raise BuildError(f"expected a plan for {target}:{precision}, found none; calibrate first")
        _quantize(graph, source.plan, precision)
    else:
        tied_for_onnxruntime(graph)
    attention_for_onnxruntime(graph)
    if not any(node.op_type == "Attention" and node.domain == "" for node in graph.graph):
        graph.opset_imports[""] = OPSET
    storage.save(graph, path, inline_limit)
    return graph.opset_imports[""]


def _quantize(graph: ir.Model, plan: QuantPlan, precision: Precision) -> None:
    from edgevit.graph.layers import quantizable_layers
    from edgevit.quantize.for_onnxruntime import dynamic_linears
    from edgevit.quantize.write_onnx import WEIGHTS_ALONE, WriteOptions, quantize_graph

    if precision == "int8w":
        quantize_graph(graph, plan, WEIGHTS_ALONE)
        return
    tied = {layer.name for layer in quantizable_layers(graph) if layer.tied}
    linear = [entry for entry in plan.layers if entry.kind == "linear"]
    dynamic = [entry for entry in linear if precision == "int8d" or entry.name in tied]
    names = {entry.name for entry in plan.layers} - {entry.name for entry in dynamic}
    # Recurrent weights stay float: dequantized at each run they would cost more than they save.
    kinds = frozenset({"linear", "embedding"})
    quantize_graph(graph, plan, WriteOptions(kinds=kinds, only=frozenset(names), shared=False))
    dynamic_linears(graph, {layer.name: layer for layer in quantizable_layers(graph)}, dynamic)


def _optimize(path: Path, destination: Path, without: tuple[str, ...]) -> None:
    from edgevit.graph import storage

    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Extended, not all: the layout rules above it are for this processor only.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    if not storage.data_path(path).exists():
        options.optimized_model_filepath = str(destination)
        write_optimized(path, options, without)
        return
    # Without a file of its own for weights, the written graph would go on reading those of the graph it came from.
    optimized = path.with_name("optimized.onnx")
    options.optimized_model_filepath = str(optimized)
    data = storage.data_path(optimized)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", data.name)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    write_optimized(path, options, without)
    storage.save(storage.load(optimized), destination, storage.ONE_FILE_LIMIT)
    for part in (optimized, data):
        part.unlink()


def write_optimized(path: Path, options: Any, without: tuple[str, ...]) -> None:
    """Runs the optimizer over the graph at `path`; `options` say where the result goes. `without`: rules left out."""
    ort = import_onnxruntime()
    # Nothing is executed: packed copies of the weights would double the memory and take most of the time.
    options.add_session_config_entry("session.disable_prepacking", "1")
    try:
        ort.InferenceSession(str(path), options, providers=[PROVIDER], disabled_optimizers=list(without))
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise BuildError(f"ONNX Runtime refused {path.name}: {str(error).splitlines()[0]}") from error


def _session_options(options: OpenOptions, *, unpack: bool = False) -> Any:
    """With `unpack` dequantized weights are constants, folded while the session is opened."""
    ort = import_onnxruntime()
    session_options = ort.SessionOptions()
    if unpack:
        session_options.add_session_config_entry("session.disable_quant_qdq", "1")
    session_options.log_severity_level = 3
    if options.threads is not None:
        session_options.intra_op_num_threads = max(1, options.threads // options.streams)
    elif options.streams > 1:
        session_options.intra_op_num_threads = 1
    return session_options


def _session(path: Path, options: Any) -> Any:
    ort = import_onnxruntime()
    try:
        return ort.InferenceSession(str(path), options, providers=[PROVIDER])
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise BundleError(
            f"expected {path} to open in ONNX Runtime {ort.__version__}, found: {str(error).splitlines()[0]}; "
            "the build is damaged or made by a newer version, export it again"
        ) from error


def _profiled_operators(path: Path, signature: Signature, options: Any) -> dict[str, str]:
    """Node name to operator, as the profiler saw them in one run on zeros at batch 1."""
    import tempfile

    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = _session(path, options)
        shapes = {spec.name: [dim if isinstance(dim, int) else 1 for dim in spec.shape] for spec in signature.inputs}
        session.run(None, {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in signature.inputs})
        events = json.loads(Path(session.end_profiling()).read_text())
    return {
        event["name"].removesuffix("_kernel_time"): event["args"]["op_name"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }


def _layers(operators: dict[str, str], *, int8: bool) -> Iterable[ExecutedLayer]:
    for node, operator in operators.items():
        if node.startswith(f"{PREPROCESSING}."):  # no layer: its weights are computed
            continue
        if operator in INT8_OPERATORS:
            yield ExecutedLayer(name=_layer_name(node), requested="int8", executed="int8", kernel=operator)
        elif operator in FLOAT_OPERATORS:
            # In an int8 build a float layer fed by a dequantized weight was asked for in int8.
            asked = "int8" if int8 and f"{_layer_name(node)}.weight.dequantize" in operators else "float32"
            yield ExecutedLayer(name=_layer_name(node), requested=asked, executed="float32", kernel=operator)


def _weight_only(layers: Iterable[ExecutedLayer], stored: frozenset[str]) -> Iterable[ExecutedLayer]:
    for layer in layers:
        asked = "int8w" if layer.name in stored else layer.requested
        yield ExecutedLayer(name=layer.name, requested=asked, executed=layer.executed, kernel=layer.kernel)


def _module(parameter: str) -> str:
    """`fc1.weight` → `fc1`; of a recurrent layer, whose node has its number: `rnn.weight_ih_l0` → `rnn.l0`."""
    return parameter.removesuffix(".weight").replace("weight_ih_", "").replace("weight_hh_", "")


def _layer_name(node: str) -> str:
    """Fusions append to the node's name: `blocks.0.attn.qkv/MatMulAddFusion`, `…_quant`, `…_nchwc`."""
    return node.partition("/")[0].removesuffix("_quant").removesuffix("_nchwc")


def import_onnxruntime(target: str = name) -> Any:
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise missing_package("onnxruntime", "onnxruntime", f"the target {target}") from error
    return onnxruntime
