"""GPU architectures by compute capability, and what each can execute."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.errors import InputError

if TYPE_CHECKING:
    from edgevit.types import Precision

RTX = {
    "sm75": "Turing: RTX 20, T4",
    "sm80": "Ampere: A100, A30",
    "sm86": "Ampere: RTX 30, A10, A40",
    "sm89": "Ada: RTX 40, L4, L40",
    "sm120": "Blackwell: RTX 50",
    "sm121": "Blackwell: GB10",
}
"""Those that TensorRT-RTX 1.7 compiles for without a GPU, in the order of the bits in an engine's header."""
DEFAULT = ("sm80", "sm86", "sm89", "sm120")
"""TensorRT-RTX's own default. Turing has to be asked for: it has neither a float32 GEMM nor an int8 patch embedding
there, and an engine for several cards does on all of them what the weakest can."""


LEAST = {"float8": 89, "int4w": 80, "bfloat16": 80}
"""The first compute capability that executes it: on older ones the builder answers `model contains HW-specific
datatypes: fp8_e4m3`, or `int4`."""


def default_architectures(precision: Precision) -> tuple[str, ...]:
    """Those of `DEFAULT` that execute a precision."""
    return tuple(name for name in DEFAULT if capability(name) >= LEAST.get(precision, 0))


def capability(architecture: str) -> int:
    """`sm89` as 89."""
    return int(architecture.removeprefix("sm"))


def parse_architectures(text: str) -> tuple[str, ...]:
    """`sm75,sm86` as a tuple in the order of `RTX`, without repeats; raises InputError that lists the choices."""
    wanted = [part.strip().lower() for part in text.split(",") if part.strip()]
    unknown = [name for name in wanted if name not in RTX]
    if unknown or not wanted:
        choices = ", ".join(f"{name} ({cards})" for name, cards in RTX.items())
        raise InputError(
            f"expected gpu as a list of architectures like sm86,sm89, found {', '.join(unknown) or 'nothing'} in "
            f"{text!r}; choose from: {choices}"
        )
    return tuple(name for name in RTX if name in wanted)


def check_precision(precision: Precision, floats: str, architectures: tuple[str, ...]) -> None:
    """Raises InputError for a precision that one of the architectures cannot execute, naming it and the way out.

    `floats` is what the layers that are not int8 compute in.
    """
    check_card(precision, architectures)
    if "sm75" not in architectures:
        return
    if floats in ("float32", "bfloat16"):
        instead = "int8 with float_layers=float16" if precision == "int8" else "float16"
        raise InputError(
            f"expected float16 layers for sm75 (Turing's tensor cores have no {floats} GEMM in TensorRT-RTX), found "
            f"{precision} with {floats} layers; build {instead} "
            "or leave sm75 out of gpu"
        )


def check_card(precision: Precision, architectures: tuple[str, ...]) -> None:
    """Raises InputError for a precision that a card has no products for, whatever compiles it."""
    least = LEAST.get(precision, 0)
    older = [name for name in architectures if capability(name) < least]
    if older:
        raise InputError(
            f"expected cards of sm{least} or newer for {precision}, found {', '.join(older)}; leave out what is "
            "older, or build float16 or int8 for it"
        )
