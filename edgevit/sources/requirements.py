"""The optional packages that sources need, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from edgevit.errors import missing_package

if TYPE_CHECKING:
    from types import ModuleType


def require(package: str, purpose: str, extra: str = "export") -> ModuleType:
    """The imported package. Raises UnavailableError that names `purpose` and the extra when it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise missing_package(package, extra, purpose) from error
