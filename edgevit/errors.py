"""Every exception edgevit raises on purpose, and the exit status each one means.

    EdgevitError                        1   (never raised itself)
    ├── InputError                      2   something that was handed in is wrong
    │   ├── CheckpointError             2   a checkpoint is missing, truncated, foreign, unsafe or does not fit
    │   ├── SetError                    2   a calibration or evaluation set is empty, unlabelled, overlapping, corrupt
    │   ├── PreprocessError             2   one image or text cannot be turned into a tensor
    │   ├── RecipeError                 2   a recipe's key is unknown or has the wrong type
    │   ├── PlanError                   2   a quantization plan does not fit the model or a target
    │   ├── StaleError                  2   statistics or a plan belong to another model or another set
    │   └── CaptureError                2   the model cannot be traced or lowered
    ├── BundleError                     1   a bundle fails verification: checksum, missing file, path, version
    ├── BuildError                      1   a target's compiler refused the model
    ├── ParityError                     1   a build is out of its parity budget
    ├── MeasureError                    1   a measuring process died, hung or could not measure
    ├── OutputError                     2   the output exists, cannot be written, or the disk is full
    └── UnavailableError                3   the target, or a package it needs, is not on this machine

A message is one line: what was expected, what was found, where, and what to do next.
"""

from __future__ import annotations

from typing import ClassVar


class EdgevitError(Exception):
    """Base of every deliberate error; `exit_status` is what the command line returns for it."""

    exit_status: ClassVar[int] = 1


class InputError(EdgevitError):
    exit_status = 2


class CheckpointError(InputError):
    pass


class SetError(InputError):
    pass


class PreprocessError(InputError):
    pass


class RecipeError(InputError):
    pass


class PlanError(InputError):
    pass


class StaleError(InputError):
    pass


class CaptureError(InputError):
    pass


class BundleError(EdgevitError):
    exit_status = 1


class BuildError(EdgevitError):
    exit_status = 1


class ParityError(EdgevitError):
    exit_status = 1


class MeasureError(EdgevitError):
    exit_status = 1


class OutputError(EdgevitError):
    exit_status = 2


class UnavailableError(EdgevitError):
    exit_status = 3


def missing_package(package: str, extra: str, purpose: str) -> UnavailableError:
    """The one way to say that an optional package is absent: names it, its purpose and its extra."""
    return UnavailableError(
        f"{purpose} needs the package '{package}', which is not installed here; run: pip install 'edgevit[{extra}]'"
    )
