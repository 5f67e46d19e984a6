"""Functions that Python code of the user's defines, found by `package.module:name`."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from edgevit.errors import InputError


def names_function(text: str) -> bool:
    """Whether `text` has the form `package.module:name`; `zoo:` is edgevit's own."""
    module, colon, name = text.partition(":")
    parts = (*module.split("."), name)
    return bool(colon) and module != "zoo" and all(part.isidentifier() for part in parts)


def find_function(spec: str) -> Callable[[], object]:
    """The function. Raises InputError where module or name do not exist; what importing raises comes through."""
    module_name, _, name = spec.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise InputError(
            f"expected a Python module '{module_name}' for {spec}, found none in {Path.cwd()} or among the installed "
            "packages; run in the directory that holds it"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        found = "nothing of that name" if function is None else type(function).__name__
        raise InputError(f"expected a function '{name}' in {module_name} for {spec}, found {found}; correct the name")
    return function  # type: ignore[no-any-return]


@contextlib.contextmanager
def current_directory_first() -> Iterator[None]:
    """The console script's own directory is first on `sys.path`, so a module in the current one would not be found."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
