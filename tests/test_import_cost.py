"""`import edgevit` costs nothing, and each step loads only what it uses; no test here measures a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

THIRD_PARTY = (
    "PIL",
    "click",
    "jinja2",
    "matplotlib",
    "msgspec",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "psutil",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "tokenizers",
    "torch",
    "typer",
)
ENGINES_AND_CONVERTERS = set(THIRD_PARTY) - {"PIL", "click", "msgspec", "numpy", "psutil", "rich", "typer"}


def loaded_by(code: str, repository: Path) -> set[str]:
    """The third-party packages that are in `sys.modules` after `code`."""
    program = f"{code}\nimport sys; print(*sorted(set({THIRD_PARTY!r}) & set(sys.modules)), sep='\\n', file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True)
    return set(result.stderr.split())


def test_import_edgevit_loads_nothing_of_others(repository: Path) -> None:
    assert loaded_by("import edgevit", repository) == set()


def test_nor_does_it_load_its_own_parts(repository: Path) -> None:
    code = "import edgevit, sys; print([name for name in sys.modules if name.startswith('edgevit.')])"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_looking_at_it_loads_nothing_either(repository: Path) -> None:
    assert (
        loaded_by("import edgevit; dir(edgevit); edgevit.__version__; hasattr(edgevit, 'nothing')", repository) == set()
    )


@pytest.mark.parametrize(
    "code",
    [
        "import edgevit; edgevit.load; edgevit.Model",
        "import edgevit; edgevit.Recipe; edgevit.EdgevitError",
        "import edgevit; edgevit.export; edgevit.bench; edgevit.parity; edgevit.verify; edgevit.doctor",
        "import edgevit.cli",
        "import edgevit.terminal, edgevit.report",
        "import sys; sys.argv = ['edgevit', '--version']\nimport edgevit.cli\n"
        "try: edgevit.cli.main()\nexcept SystemExit: pass",
    ],
)
def test_names_and_the_command_line_load_no_engine(repository: Path, code: str) -> None:
    assert loaded_by(code, repository) & ENGINES_AND_CONVERTERS == set()


def test_loading_a_model_needs_neither_the_command_line_nor_a_converter(repository: Path) -> None:
    found = loaded_by("import edgevit; edgevit.load", repository)
    assert found <= {"PIL", "msgspec", "numpy"}


def test_every_public_name_is_there(repository: Path) -> None:
    import edgevit

    for name in edgevit.__all__:
        assert getattr(edgevit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgevit.nothing  # noqa: B018 - asking for it is the test
