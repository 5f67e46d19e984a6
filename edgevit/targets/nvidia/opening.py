"""From a build's directory to a session: the right engine for this card and version, compiled again if asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edgevit.errors import BundleError, UnavailableError
from edgevit.files import sha256, write_atomic
from edgevit.targets.nvidia.device import probe
from edgevit.targets.nvidia.engine_file import check_loadable, read_header
from edgevit.targets.nvidia.files import ENGINE, LAYERS, ONNX
from edgevit.targets.nvidia.network import NetworkOptions, build_engine
from edgevit.targets.nvidia.profiles import stored_profile
from edgevit.targets.nvidia.session import NvidiaSession, Opened
from edgevit.types import Engine, Execution

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import OpenOptions
    from edgevit.targets.nvidia.device import DeviceState
    from edgevit.targets.nvidia.interface import Cuda, LoadedEngine
    from edgevit.types import Build


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """The packages and the card that a build is opened with."""

    name: str
    version: str
    extra: str
    nvidia: Any
    """The module `tensorrt_rtx_bindings` or `tensorrt`."""
    device: DeviceState


def open_rtx(nvidia: Any, directory: Path, build: Build, options: OpenOptions) -> NvidiaSession:
    """Raises UnavailableError for another version or card (unless `options.rebuild`), BundleError for a damaged one."""
    runtime = Runtime(
        name=build.target, version=nvidia.__version__, extra="tensorrt-rtx", nvidia=nvidia, device=probe()
    )
    try:
        check_loadable(read_header(directory / ENGINE), runtime.version, runtime.device.architecture, build.name)
        engine = (directory / ENGINE).read_bytes()
    except UnavailableError:
        if not options.rebuild:
            raise
        engine = rebuilt(runtime, directory, build, options)
    return open_engine(runtime, engine, directory, build, options)


def open_full(nvidia: Any, directory: Path, build: Build, options: OpenOptions) -> NvidiaSession:
    """The full TensorRT's: an engine is for one version and one card, both recorded where it was compiled."""
    runtime = Runtime(name=build.target, version=nvidia.__version__, extra="tensorrt", nvidia=nvidia, device=probe())
    made = (build.engine.version, build.options.get("gpu", ""))
    found = (runtime.version, runtime.device.architecture)
    if made == found:
        engine = (directory / ENGINE).read_bytes()
    elif options.rebuild:
        engine = rebuilt(runtime, directory, build, options)
    else:
        raise UnavailableError(
            f"expected TensorRT {made[0]} on {made[1] or 'the card it was compiled for'} for {build.name}, found "
            f"{found[0]} on {found[1]}; run: edgevit build BUNDLE --again, or open it with rebuild=True"
        )
    return open_engine(runtime, engine, directory, build, options)


def open_engine(runtime: Runtime, engine: bytes, directory: Path, build: Build, options: OpenOptions) -> NvidiaSession:
    """A session over a serialized engine on this machine's card."""
    from edgevit.targets.nvidia.cuda_runtime import CudaRuntime
    from edgevit.targets.nvidia.engine import DeserializedEngine

    cuda: Cuda = CudaRuntime(runtime.extra)
    cache = None if options.cache_dir is None else options.cache_dir / f"{_key(runtime, directory)}.runtime-cache"
    loaded: LoadedEngine = DeserializedEngine(runtime.nvidia, engine, build.name, cache)
    return NvidiaSession(cuda, loaded, describe(runtime, directory, build, options))


def describe(runtime: Runtime, directory: Path, build: Build, options: OpenOptions) -> Opened:
    """What the session says about itself, from the build's options and its table of layers."""
    layers = directory / LAYERS
    execution = (
        msgspec.json.decode(layers.read_bytes(), type=Execution)
        if layers.exists()
        else Execution(precision=build.precision, provider="", instruction_set="")
    )
    profile = stored_profile(build)
    first = build.signature.inputs[0].shape[0] if build.signature.inputs[0].shape else 0
    return Opened(
        build=build,
        engine=Engine(name=runtime.name, version=runtime.version, device=runtime.device.name),
        execution=execution,
        max_batch=profile.dimensions[first].max if isinstance(first, str) else None,
        streams=options.streams,
    )


def rebuilt(runtime: Runtime, directory: Path, build: Build, options: OpenOptions) -> bytes:
    """The engine compiled for this card from the build's ONNX; kept in `options.cache_dir` where there is one."""
    path = directory / ONNX
    if not path.exists():
        raise BundleError(f"expected {path} to compile the build again from, found nothing there; export it again")
    kept = None if options.cache_dir is None else options.cache_dir / f"{_key(runtime, directory)}.engine"
    if kept is not None and kept.exists():
        return kept.read_bytes()
    network = NetworkOptions(
        profile=stored_profile(build),
        architectures=(runtime.device.architecture,) if runtime.name == "tensorrt-rtx" else (),
        tf32=build.options.get("tf32") == "yes",
    )
    engine = build_engine(runtime.nvidia, path, build.signature, network).engine
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(kept, engine)
    return engine


def _key(runtime: Runtime, directory: Path) -> str:
    """Names a cached file by what it was made from and for."""
    source = directory / ONNX
    digest = sha256(source if source.exists() else directory / ENGINE)
    return f"{digest[:16]}-{runtime.name}-{runtime.version}-{runtime.device.architecture}"
