"""ExecuTorch with XNNPACK, for Android and iOS: a `.pte` in float32, int8 from the plan, int8 and
4-bit weights with dynamic inputs.

Facts this file answers to: a program is lowered from torch, not from ONNX, so the float model is loaded again; static
int8 kernels need an output scale; what XNNPACK does not take runs in portable kernels, silently, so the delegated share
is counted and can be demanded; memory is planned for the largest batch and the longest texts, and every size up to them
runs, a cache that grows by a token a step as well, from none on; the runtime is in the same wheel, so parity is
executed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.errors import BuildError, InputError
from edgevit.targets.delegation import check_share, least_share, write_delegation
from edgevit.targets.installed import installed_version, with_exporter
from edgevit.targets.torch_source import check_no_recurrence, has_past, longest_lengths, torch_module
from edgevit.targets.xnnpack.lengths import LENGTHS, written_lengths
from edgevit.targets.xnnpack.session import PROGRAM, ExecutorchSession, import_executorch

if TYPE_CHECKING:
    from pathlib import Path

    from edgevit.targets.base import Availability, BuildSource, OpenOptions
    from edgevit.types import Build, Precision

name = "executorch"
precisions: tuple[Precision, ...] = ("float32", "int8", "int8d", "int4d")

PLANNED = ("int8", "int4d")
"""int4d takes the plan's equalization; its four-bit codes have scales of their own."""
UNROLLED = "it has no such operator, and unrolled steps have one length"
INSTALL = "pip install 'edgevit[executorch]'"
OPTIONS = (
    "max_batch=N, the most samples memory is planned for; or batch=N, the only number it will take; "
    "min_delegated=0…1, of multiply-accumulates"
)


def availability() -> Availability:
    found = installed_version("executorch") if installed_version("torch") else None
    return with_exporter(found, INSTALL)


def why_not(precision: Precision) -> str:
    """XNNPACK has kernels for every processor that ExecuTorch runs on."""
    return ""


def build(source: BuildSource, precision: Precision, options: dict[str, str], out: Path) -> dict[str, str]:
    """Writes model.pte and delegation.json: what of it XNNPACK executes, and why not the rest.

    Raises BuildError where ExecuTorch refuses the model or delegates less than `min_delegated`, InputError for a model
    that did not come from PyTorch, has a recurrent layer or lengths of which nobody knows the largest.
    """
    batch = _batch(source, options)
    least = _least(options)
    import_executorch()
    if precision in PLANNED and source.plan is None:
        raise BuildError(f"expected a plan for {name}:{precision}, found none; calibrate first")
    model = torch_module(source, name, ", or build ort-mobile")
    check_no_recurrence(model, name, UNROLLED)
    longest = longest_lengths(model, name)

    from edgevit.graph.capture import CaptureOptions
    from edgevit.targets.xnnpack.lower import lower

    traced = CaptureOptions(batch=batch.fixed, max_batch=batch.largest, longest=longest)
    lowered = lower(model, source, precision, traced)
    delegation = lowered.delegation
    check_share(delegation, least, f"{name}:{precision}")
    (out / PROGRAM).write_bytes(lowered.program)
    write_delegation(delegation, out)
    taken = {"max_batch": str(batch.largest)} if batch.fixed is None else {"batch": str(batch.fixed)}
    used = {"backend": delegation.delegate, **taken, "delegated": delegation.summary()}
    if delegation.fallbacks:
        used["fell_back"] = delegation.listed_fallbacks()
    return used | ({LENGTHS: written_lengths(longest)} if longest else {})


def open(directory: Path, build: Build, options: OpenOptions) -> ExecutorchSession:
    """Opens a build of this target. Raises BundleError for what is truncated, foreign or of another schema."""
    return ExecutorchSession(directory, build, options)


class _Batch(msgspec.Struct, frozen=True, kw_only=True):
    fixed: int | None
    """The only one, or None."""
    largest: int


def _batch(source: BuildSource, options: dict[str, str]) -> _Batch:
    """Raises InputError for options that are unknown, make no sense or contradict how the model was traced."""
    from edgevit.graph.capture import MAX_BATCH

    unknown = sorted(set(options) - {"max_batch", "batch", "min_delegated"})
    if unknown:
        raise InputError(f"expected options of {name} ({OPTIONS}), found {unknown[0]}={options[unknown[0]]}")
    if {"batch", "max_batch"} <= set(options):
        raise InputError(f"expected options of {name} ({OPTIONS}), found both; leave one out")
    for key, least in (("batch", 1), ("max_batch", 2)):
        given = options.get(key, str(least))
        if not given.isdecimal() or int(given) < least:
            raise InputError(f"expected options of {name} ({OPTIONS}), found {key}={given}; give at least {least}")
    first = source.onnx.signature.inputs[0].shape[0]
    if not isinstance(first, int):
        decodes = any(has_past(signature) for signature in (source.onnx.signature, *source.others))
        if decodes and options.get("batch", "1") != "1":
            raise InputError(
                f"expected batch=1 or max_batch=N for {name} of a decoder, whose rows end one by one, found "
                f"batch={options['batch']}"
            )
        fixed = int(options["batch"]) if "batch" in options else None
        return _Batch(fixed=fixed, largest=fixed or int(options.get("max_batch", MAX_BATCH)))
    if options.get("batch", str(first)) != str(first) or "max_batch" in options:
        given = f"batch={options['batch']}" if "batch" in options else f"max_batch={options['max_batch']}"
        raise InputError(f"expected the batch {first} that the model was traced with for {name}, found {given}")
    return _Batch(fixed=first, largest=first)


def _least(options: dict[str, str]) -> float:
    least = options.get("min_delegated", "0")
    share = least_share(least)
    if share is None:
        raise InputError(f"expected options of {name} ({OPTIONS}), found min_delegated={least}")
    return share
