"""What an engine was given, what it made of it, and where."""

from __future__ import annotations

from edgevit.types.preprocessing import PIXELS
from edgevit.types.signature import Precision, Signature, Value, Verdict


class Engine(Value, frozen=True, kw_only=True):
    """What executes a build, as it said itself."""

    name: str
    version: str
    device: str = "CPU"


class Machine(Value, frozen=True, kw_only=True):
    """The machine a build was made or measured on."""

    cpu: str
    architecture: str
    cores: int
    memory_bytes: int
    instruction_sets: tuple[str, ...]
    """Those that change numerics or speed here: avx2, avx512f, avx512_vnni, avx_vnni, avx512_bf16, amx_int8, …"""
    os: str
    python: str
    packages: dict[str, str] = {}
    gpu: str | None = None


class BuildPart(Value, frozen=True, kw_only=True):
    """One graph of a build, in the sub-directory of its name."""

    name: str
    signature: Signature


class BuildFile(Value, frozen=True, kw_only=True):
    path: str
    """Relative to the bundle, with forward slashes."""
    size: int
    sha256: str


class ExecutedLayer(Value, frozen=True, kw_only=True):
    """One layer of a compiled model: the precision asked for and the one the engine runs it in."""

    name: str
    requested: str
    executed: str
    kernel: str = ""


class Execution(Value, frozen=True, kw_only=True):
    """What an engine really does with a build."""

    precision: str
    """The precision most of the compute runs in, as the engine reports it."""
    provider: str
    instruction_set: str
    quantized_requested: int = 0
    quantized_executed: int = 0
    layers: tuple[ExecutedLayer, ...] = ()
    warnings: tuple[str, ...] = ()


class Build(Value, frozen=True, kw_only=True):
    """One build of a bundle: an engine's own files and what is known of them."""

    target: str
    precision: Precision
    files: tuple[BuildFile, ...]
    signature: Signature
    engine: Engine
    machine: Machine
    parts: tuple[BuildPart, ...] = ()
    """Empty for a build of one graph."""
    options: dict[str, str] = {}
    requires_any: tuple[str, ...] = ()
    """Instruction sets of which an x86-64 processor needs one for right results; empty when every one will do."""
    execution: Execution | None = None
    verdict: Verdict = "not executed"
    reason: str = ""
    golden_sqnr_db: float | None = None
    """SQNR of its outputs on the golden inputs where it was built; a device with the same kernels gives the same."""
    latency_ms: float | None = None
    """Median latency at batch 1 on the machine that built it, when it was measured."""
    worth: str = ""

    @property
    def name(self) -> str:
        return f"{self.target}-{self.precision}"

    @property
    def takes_pixels(self) -> bool:
        """Whether the preprocessing of images is inside."""
        return [spec.name for spec in self.signature.inputs] == [PIXELS]
