"""OpenVINO on the CPU: IR in float32, float16-compressed, bfloat16 execution and int8 from Q/DQ.

Facts this file answers to: the CPU plugin runs float32 models in bfloat16 by itself where the processor can, so the
precision is always stated; a request serves one caller at a time, so a session keeps a pool of them.
"""

from __future__ import annotations

import functools
import queue
import threading
from typing import TYPE_CHECKING, Any

from edgevit.errors import BuildError, BundleError, InputError, UnavailableError, missing_package
from edgevit.targets.base import Availability, ClosedSession, OpenOptions
from edgevit.targets.execution import int8_execution
from edgevit.targets.installed import installed_version
from edgevit.targets.openvino_loop import OpenvinoLoop, Ports
from edgevit.targets.processor import best_instruction_set, instruction_sets
from edgevit.types import PIXELS, PREPROCESSING, Engine, ExecutedLayer, Execution

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import BuildSource
    from edgevit.types import Arrays, Build, OnnxModel, Precision, TensorSpec

name = "openvino"
precisions: tuple[Precision, ...] = ("float32", "float16", "bfloat16", "int8", "int8d", "int8w")
pixels = True

IR = "model.xml"
BLOB = "model.blob"
WEIGHTS = "weights.onnx"
"""The graph with int8 weights, while it is being converted."""
HINTS = {"float32": "f32", "float16": "f32", "bfloat16": "bf16", "int8": "auto", "int8d": "f32", "int8w": "f32"}
"""What float layers execute in. A float16 IR is float32 arithmetic on smaller files on x86-64.

The layers that stay float in an int8 build run in bfloat16 where the processor executes it: a ViT-B then takes 0.86 of
the time, its attention half, and 0.3 dB of its 29 dB (2 cores with AMX, 2026.4.1). Parity is measured with it.
"""
GROUPS = {"int8d": 32}
"""Input channels that share a scale where inputs are quantized as they come; 0 elsewhere. Without being asked OpenVINO
does so to every weight-only model, in groups of 32: one decoding step of `zoo:transformer-base` takes 2.2 ms, in float
arithmetic 2.4, in float32 4.8. Under the bfloat16 hint it does not, and takes 2.4 (2 cores with AMX, 2026.4.1)."""
WEIGHT_ONLY = ("int8d", "int8w")
DYNAMIC_ON = ("avx_vnni", "avx512_vnni", "amx_int8")
"""Instructions with which OpenVINO's CPU plugin quantizes inputs as they come; without them it computes in float."""
LAYER_TYPES = ("MatMul", "Convolution", "GroupConvolution")
NARROW = ("i8", "u8", "i4", "u4")


def availability() -> Availability:
    found = installed_version("openvino")
    if found is None:
        fix = "pip install 'edgevit[openvino]'"
        return Availability(build=False, run=False, build_fix=fix, run_fix=fix)
    return Availability(build=True, run=True, version=found)


def why_not(precision: Precision) -> str:
    """bfloat16 needs a processor that executes it; everything else runs wherever OpenVINO does."""
    if precision != "bfloat16" or "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return ""
    found = best_instruction_set(instruction_sets())
    return f"expected a processor that executes bfloat16, found {found}; build float32 or int8 here"


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.xml and model.bin; with the option `blob=yes` also a blob locked to this device and version.

    Option `float_layers` = f32 | bf16 | auto: what the layers that are not int8 execute in; `auto`, the default of
    int8, is bfloat16 where this processor executes it. What was chosen here is what every device is asked for, so
    that a build which was proved in float32 never runs in less.
    """
    ov = _openvino()
    _check_options(options)
    model = _graph_of(source, precision, out)
    core = _core()
    hint = options.get("float_layers", HINTS[precision])
    if model.signature.inputs[0].name == PIXELS:
        check_pixels(precision, options)
        hint = "f32"
    if hint == "auto":
        hint = "f32" if why_not("bfloat16") else "bf16"
    if hint == "bf16" and why_not("bfloat16"):
        raise UnavailableError(f"openvino:{precision} with bfloat16: {why_not('bfloat16')}")
    try:
        converted = core.read_model(str(model.path))
        ov.save_model(converted, str(out / IR), compress_to_fp16=precision == "float16")
    except RuntimeError as error:
        raise BuildError(f"OpenVINO refused {model.path.name}: {_first_line(error)}") from error
    finally:
        for part in out.glob(f"{WEIGHTS}*"):
            part.unlink()
    used = {"float_layers": hint}
    if options.get("blob") == "yes":
        compiled = core.compile_model(str(out / IR), "CPU", _properties(hint, OpenOptions(), precision))
        (out / BLOB).write_bytes(compiled.export_model().getvalue())
        used["blob"] = "yes"
    return used


def check_pixels(precision: Precision, options: dict[str, str]) -> None:
    """Raises InputError for bfloat16: the resize would run in it too, and pixels be five levels off (2026.4.1)."""
    if options.get("float_layers", HINTS[precision]) == "bf16":
        raise InputError(
            f"expected float layers in float32 for openvino:{precision} with input=pixels, found bfloat16, which would "
            "round the pixels; build float32 or int8, or leave the preprocessing to the application (input=array)"
        )


def _graph_of(source: BuildSource, precision: Precision, out: Path) -> OnnxModel:
    """What is to be converted; for weight-only precisions it is written into `out`, from the plan's weight scales."""
    wanted = source.plan if precision in WEIGHT_ONLY else source.quantized if precision == "int8" else source.onnx
    if wanted is None:
        raise BuildError(f"expected a quantized graph for openvino:{precision}, found none; calibrate first")
    if precision not in WEIGHT_ONLY or source.plan is None:
        return source.quantized if precision == "int8" and source.quantized is not None else source.onnx
    from edgevit.quantize.write_onnx import WEIGHTS_ALONE, write_quantized

    return write_quantized(source.onnx, source.plan, out / WEIGHTS, WEIGHTS_ALONE)


def open(directory: Path, build: Build, options: OpenOptions) -> OpenvinoSession:
    """Opens a build of this target; the blob is used where it fits this device, the IR otherwise."""
    return OpenvinoSession(directory, build, options)


class OpenvinoSession:
    """A compiled model and its pool of infer requests."""

    def __init__(self, directory: Path, build: Build, options: OpenOptions) -> None:
        _openvino()  # says which extra is missing before anything asks for its version
        self.signature = build.signature
        self.engine = Engine(name=name, version=availability().version, device="CPU")
        self._build = build
        self._core = _core()
        self._ir = directory / IR
        properties = _properties(_hint_here(build), options, build.precision)
        try:
            self._compiled: Any = self._compile(directory, properties)
        except RuntimeError as error:
            raise BundleError(
                f"expected {self._ir} to open in OpenVINO {self.engine.version}, found: {_first_line(error)}; "
                "the build was made by another version or is damaged, export it again"
            ) from error
        self._outputs = [spec.name for spec in build.signature.outputs]
        self._requests: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(max(1, options.streams)):
            self._requests.put(self._compiled.create_infer_request())
        self._pairs: queue.LifoQueue[Any] = queue.LifoQueue()
        """For loops; made when they are first needed."""

    def _compile(self, directory: Path, properties: dict[str, Any]) -> Any:
        blob = directory / BLOB
        if blob.exists():
            try:
                return self._core.import_model(blob.read_bytes(), "CPU", properties)
            except RuntimeError:
                # A blob is locked to device and version by design; the IR beside it is the portable form.
                return self._core.compile_model(str(self._ir), "CPU", properties)
        return self._core.compile_model(str(self._ir), "CPU", properties)

    def run(self, inputs: Arrays) -> Arrays:
        """Thread-safe; at most `streams` calls execute at the same time, others wait."""
        requests = self._requests
        self._open()
        request = requests.get()
        try:
            results = request.infer(inputs, share_inputs=True, share_outputs=False)
            return {key: results[index] for index, key in enumerate(self._outputs)}
        finally:
            requests.put(request)

    def loop(self, fed: dict[str, str], inputs: Arrays) -> OpenvinoLoop:
        """Runs again and again with the outputs `fed` as inputs, without copying them; see `targets.base.Loop`."""
        compiled = self._open()
        try:
            requests = self._pairs.get_nowait()
        except queue.Empty:
            requests = (compiled.create_infer_request(), compiled.create_infer_request())
        return OpenvinoLoop(requests, Ports(_openvino(), compiled, self._outputs), fed, inputs, self._pairs.put)

    def execution(self) -> Execution:
        """What the compiled model's runtime graph says it executes, layer by layer."""
        requested = _requested(self._core.read_model(str(self._ir)))
        executed = _executed(self._runtime_model())
        compiled = self._open()
        # A layer that the runtime graph does not show is not taken for executed as asked.
        found = {layer: executed.get(layer, ("unknown", "")) for layer in requested}
        if self._build.precision in WEIGHT_ONLY:
            asked = self._build.precision
            requested = {layer: asked if narrow == "int8" else narrow for layer, narrow in requested.items()}
        if self._dynamic():
            # The kernel has the same name whether it quantizes its inputs or not: what it was compiled for decides.
            dynamic = {layer for layer in found if requested[layer] == "int8d"}
            found = {
                layer: ("int8", kernel) if layer in dynamic else (precision, kernel)
                for layer, (precision, kernel) in found.items()
            }
        layers = tuple(
            ExecutedLayer(name=layer, requested=requested[layer], executed=precision, kernel=kernel)
            for layer, (precision, kernel) in found.items()
        )
        hint = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        floats = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(hint, hint)
        return int8_execution(layers, provider="CPU", floats=floats)

    def _dynamic(self) -> bool:
        """Whether inputs are quantized as they come: asked for, and on a processor for which OpenVINO does it."""
        group = int(self._open().get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))
        return group > 0 and any(name in DYNAMIC_ON for name in instruction_sets())

    def _runtime_model(self) -> Any:
        """After one run on zeros, of the shortest lengths: kernels for dynamic shapes are chosen in a run."""
        compiled = self._open()
        request = compiled.create_infer_request()
        # Shared, because a request with tensors of its own writes them to wherever the last request that shared had
        # its inputs, and that memory may be gone: a crash (2026.4.1). These arrays live until the model has been read.
        inputs = {spec.name: zeros(spec) for spec in self.signature.inputs}
        request.infer(inputs, share_inputs=True)
        return compiled.get_runtime_model()

    def loaded_from_cache(self) -> bool:
        """Whether the compiled model came from `OpenOptions.cache_dir`."""
        return bool(self._open().get_property("LOADED_FROM_CACHE"))

    def _open(self) -> Any:
        if self._compiled is None:
            raise ClosedSession(self._build.name)
        return self._compiled

    def close(self) -> None:
        self._compiled = None
        self._requests = queue.LifoQueue()
        self._pairs = queue.LifoQueue()


def zeros(spec: TensorSpec) -> Any:
    """An input with 1 for every dynamic dimension, all 0."""
    import numpy as np

    return np.zeros([dim if isinstance(dim, int) else 1 for dim in spec.shape], spec.dtype)


def _hint_here(build: Build) -> str:
    """The build's own choice for its float layers; float32, which is closer, on a processor without bfloat16."""
    asked = build.options.get("float_layers", HINTS[build.precision])
    if build.precision == "int8" and (asked == "auto" or (asked == "bf16" and why_not("bfloat16"))):
        return "f32"
    return asked


def _properties(hint: str, options: OpenOptions, precision: Precision = "float32") -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUPS.get(precision, 0),
    }
    if options.streams > 1:
        properties["NUM_STREAMS"] = options.streams
    else:
        properties["PERFORMANCE_HINT"] = "LATENCY"
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.cache_dir is not None:
        properties["CACHE_DIR"] = str(options.cache_dir)
    return properties


def _requested(model: Any) -> dict[str, str]:
    """Layer name to int8 or float32 from the IR: int8 where the weight is stored in eight bits."""
    layers: dict[str, str] = {}
    for operation in model.get_ordered_ops():
        inside = operation.get_friendly_name().startswith(f"{PREPROCESSING}.")  # no layer: its weights are computed
        if operation.get_type_name() not in LAYER_TYPES or inside:
            continue
        weight = _constant(operation)
        if weight is not None:
            narrow = weight.get_output_element_type(0).get_type_name() in NARROW
            layers[_layer_name(weight.get_friendly_name())] = "int8" if narrow else "float32"
    return layers


def _executed(runtime: Any) -> dict[str, tuple[str, str]]:
    """Layer name to (precision, kernel) from the runtime graph.

    The layer is found through the constant it multiplies with: fusions and low-precision transformations rename the
    layer itself (`Multiply_14827`), never the weight.
    """
    found: dict[str, tuple[str, str]] = {}
    for operation in runtime.get_ops():
        if _runtime_info(operation, "layerType") not in ("FullyConnected", "Convolution", "MatMul"):
            continue
        weight = _constant(operation)
        if weight is None:
            continue
        kernel = _runtime_info(operation, "primitiveType")
        suffix = kernel.rpartition("_")[2].lower()
        precision = {"i8": "int8", "u8": "int8", "f32": "float32", "bf16": "bfloat16", "f16": "float16"}.get(
            suffix, suffix
        )
        for original in _runtime_info(weight, "originalLayersNames").split(","):
            found.setdefault(_layer_name(original), (precision, kernel))
    return found


def _constant(operation: Any) -> Any:
    """The weight constant behind input 1, through conversions, scales and transposes; None if input 1 is computed."""
    if operation.get_input_size() < 2:
        return None
    node = operation.input_value(1).get_node()
    for _ in range(8):
        if node.get_input_size() == 0:
            return node if node.get_type_name() != "Parameter" else None
        node = node.input_value(0).get_node()
    return None


def _runtime_info(operation: Any, key: str) -> str:
    info = operation.get_rt_info()
    return str(info[key].astype(str)) if key in info else ""


def _layer_name(constant: str) -> str:
    """`blocks.0.attn.qkv.weight.int8` → `blocks.0.attn.qkv`."""
    return constant.removesuffix("_compressed").removesuffix(".int8").removesuffix(".weight")


def _check_options(options: dict[str, str]) -> None:
    choices = {"blob": ("yes", "no"), "float_layers": ("f32", "bf16", "auto")}
    for key, value in options.items():
        if value not in choices.get(key, ()):
            known = "; ".join(f"{option}={'|'.join(values)}" for option, values in choices.items())
            raise InputError(f"expected options of openvino ({known}), found {key}={value}")


_OPENING = threading.Lock()


def _core() -> Any:
    """The one Core of this process, whoever asks first.

    The CPU plugin gives the thread that loads it an alternate signal stack and takes it away with the plugin. Two
    Cores that end in the order they began leave the thread with a stack that is gone, and Python handles signals on
    it: the next Ctrl-C is a segmentation fault (OpenVINO 2026.4.1).
    """
    with _OPENING:
        return _made_core()


@functools.cache
def _made_core() -> Any:
    openvino = _openvino()
    # Its table of element types is made at the first look and lets go of the GIL while it is: two threads whose first
    # calls meet there wait for each other for ever (2026.4.1). Here it is made before any thread can call.
    openvino.Type.f32.to_dtype()
    return openvino.Core()


def _openvino() -> Any:
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise missing_package("openvino", "openvino", "the target openvino") from error
    return openvino


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
