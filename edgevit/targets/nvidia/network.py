"""ONNX to a serialized engine through NVIDIA's Python API: strongly typed, one profile, everything it says collected.

`nvidia` is the module `tensorrt_rtx_bindings` or `tensorrt`; the two have the same parser, builder and network, and
only the first takes compute capabilities. A builder that fails returns None and puts the reason in its log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import BuildError
from edgevit.targets.nvidia.profiles import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.types import Signature


class NetworkOptions(msgspec.Struct, frozen=True, kw_only=True):
    profile: Profile = Profile()
    architectures: tuple[str, ...] = ()
    """Compute capabilities to compile for; empty for the full TensorRT, which builds for the card it is on."""
    tf32: bool = False
    """Whether float32 products may round their inputs to ten bits of mantissa on Ampere and later."""
    timing_cache: bytes = b""
    """Kernel timings of an earlier build on the same card; the full TensorRT only."""


class Built(msgspec.Struct, frozen=True, kw_only=True):
    engine: bytes
    log: str
    timing_cache: bytes = b""


def build_engine(nvidia: Any, path: Path, signature: Signature, options: NetworkOptions) -> Built:
    """Parses and compiles; raises BuildError with the parser's or the builder's own reason."""
    log = collecting_logger(nvidia)
    builder = nvidia.Builder(log)
    network = builder.create_network(_strongly_typed(nvidia))
    _parse(nvidia, network, log, path)
    config = builder.create_builder_config()
    config.profiling_verbosity = nvidia.ProfilingVerbosity.DETAILED
    if not options.tf32:
        config.clear_flag(nvidia.BuilderFlag.TF32)
    if options.architectures:
        config.num_compute_capabilities = len(options.architectures)
        for index, name in enumerate(options.architectures):
            config.set_compute_capability(getattr(nvidia.ComputeCapability, name.upper()), index)
    cache = None
    if not options.architectures:
        cache = config.create_timing_cache(options.timing_cache)
        config.set_timing_cache(cache, ignore_mismatch=False)
    config.add_optimization_profile(_profile(builder, signature, options.profile))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BuildError(f"TensorRT could not compile {path.name}: {first_error(log.lines)}")
    timings = b"" if cache is None else bytes(cache.serialize())
    return Built(engine=bytes(engine), log="\n".join(text for _, text in log.lines), timing_cache=timings)


def collecting_logger(nvidia: Any) -> Any:
    """A logger that keeps (severity, text) in `lines` and prints nothing."""

    class Collecting(nvidia.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            nvidia.ILogger.__init__(self)
            self.lines: list[tuple[str, str]] = []

        def log(self, severity: Any, message: str) -> None:
            self.lines.append((severity.name, message))

    return Collecting()


def _strongly_typed(nvidia: Any) -> int:
    flag = getattr(nvidia.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)  # where the flag is gone, every network is strongly typed


def _parse(nvidia: Any, network: Any, log: Any, path: Path) -> None:
    parser = nvidia.OnnxParser(network, log)
    if parser.parse_from_file(str(path)):
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    if not errors:
        raise BuildError(f"TensorRT's parser refused {path.name}: {first_error(log.lines)}")
    first = errors[0]
    where = f"{first.node_operator()} {first.node_name()}".strip()
    raise BuildError(
        f"TensorRT's parser refused {path.name} at {where or 'the model'}: {' '.join(str(first.desc()).split())}; "
        "export it with openvino or onnxruntime, or rewrite that operation"
    )


def _profile(builder: Any, signature: Signature, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    for spec in signature.inputs:
        smallest, usual, largest = profile.shapes(spec.shape)
        made.set_shape(spec.name, smallest, usual, largest)
    return made


def first_error(lines: list[tuple[str, str]]) -> str:
    errors = [text for severity, text in lines if severity in ("ERROR", "INTERNAL_ERROR")]
    reason = " ".join(errors[0].split()) if errors else "it gave no reason"
    return reason if len(reason) <= 400 else f"{reason[:400]}…"
