"""The shape of the code: who imports whom, how large a room may grow, and what starts without the heavy packages."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "edgevit"
MODULES = sorted(PACKAGE.rglob("*.py"))

HEAVY = (
    "ai_edge_litert",
    "coremltools",
    "dask",
    "distributed",
    "executorch",
    "jinja2",
    "joblib",
    "matplotlib",
    "nncf",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "openvino",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorrt",
    "tensorrt_rtx_bindings",
    "timm",
    "tokenizers",
    "torch",
    "transformers",
)
NEEDS_TORCH = {
    **{
        f"edgevit.sources.huggingface.{name}": "its classes are torch modules; it is imported only where one is made"
        for name in ("image_modules", "text_modules", "writer_modules")
    },
    **{
        f"edgevit.zoo.{name}": "it makes or runs torch modules; it is imported only where one is made"
        for name in ("vit", "transformer", "recurrent", "sharing", "initialize", "generate")
    },
}
ON_THE_DEVICE = ("edgevit.runtime.", "edgevit.bundle.", "edgevit.preprocess.", "edgevit.targets.", "edgevit.files.")

IMPORT_EACH = """
import importlib, json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{name} is not installed on this device", name=name)

blocked, modules = json.loads(sys.stdin.read())
sys.meta_path.insert(0, Blocker())
failures = {}
for module in modules:
    try:
        importlib.import_module(module)
    except ImportError as error:
        failures[module] = str(error)
print(json.dumps([failures, sorted(name for name in blocked if name in sys.modules)]))
"""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def import_each(modules: list[str], blocked: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Imports modules in a fresh interpreter without `blocked`: the errors by module, and what got in all the same."""
    result = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH],
        input=json.dumps([blocked, modules]),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert result.returncode == 0, result.stderr
    failures, loaded = json.loads(result.stdout)
    return failures, loaded


# ------------------------------------------------------------------------------------------------ imports


def test_the_import_contracts_are_kept() -> None:
    executable = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [executable, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_module_imports_without_the_heavy_packages() -> None:
    failures, loaded = import_each([module_name(path) for path in MODULES], HEAVY)
    assert loaded == []
    assert failures.keys() - NEEDS_TORCH.keys() == set(), failures


def test_the_exceptions_still_need_what_they_are_excepted_for() -> None:
    failures, _ = import_each(list(NEEDS_TORCH), ("torch",))
    assert failures.keys() == NEEDS_TORCH.keys()


def test_what_runs_on_a_device_is_never_an_exception() -> None:
    assert not [name for name in NEEDS_TORCH if f"{name}.".startswith(ON_THE_DEVICE)]
    assert {module_name(path).split(".")[1] for path in MODULES if "." in module_name(path)} >= {
        name.split(".")[1] for name in ON_THE_DEVICE
    }


def test_the_opening_side_brings_in_nothing_of_the_building_side() -> None:
    modules = [name for name in map(module_name, MODULES) if f"{name}.".startswith(ON_THE_DEVICE)]
    building = ("edgevit.graph", "edgevit.quantize", "edgevit.sources", "edgevit.zoo")
    code = f"import importlib, sys\nfor name in {modules}: importlib.import_module(name)\nprint([*sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "'edgevit.targets.openvino'" in loaded
    assert not [name for name in building if f"'{name}" in loaded]


def test_the_blocker_blocks() -> None:
    failures, _ = import_each(["json", "numpy"], ("numpy",))
    assert failures.keys() == {"numpy"}


# --------------------------------------------------------------------------------------------------- size


def test_rooms_stay_small() -> None:
    problems = []
    for path in MODULES:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines >= 400:
            problems.append(f"{path} has {lines} lines: split it by what its parts are about")
        for function in functions(path):
            size = (function.end_lineno or 0) - function.lineno + 1
            if size >= 70 and path.parent.name != "cli":  # a command's declaration has a line per option
                problems.append(f"{path}:{function.lineno} {function.name} has {size} lines: give its steps names")
    assert problems == []


def test_parameters_are_few_and_named() -> None:
    """`edgevit.cli` is free to have one per option: that is how the command line is declared."""
    problems = []
    for path in MODULES:
        for function in functions(path):
            where = f"{path}:{function.lineno} {function.name}"
            arguments = function.args
            if arguments.kwarg is not None:
                problems.append(f"{where} takes **{arguments.kwarg.arg}: name the parameters")
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > 6 and path.parent.name != "cli":
                problems.append(f"{where} takes {count} parameters, at most 6: make a frozen options value")
    assert problems == []


def test_names_say_what_is_inside() -> None:
    empty = {"util", "utils", "helper", "helpers", "manager", "managers", "handler", "handlers", "misc", "common"}
    words = {
        path: path.relative_to(PACKAGE).with_suffix("").as_posix().replace("_", "/").split("/") for path in MODULES
    }
    assert [f"{path}: name it after what it holds" for path in MODULES if empty & set(words[path])] == []


def test_annotations_cost_nothing_at_import() -> None:
    future = "from __future__ import annotations"
    missing = [path for path in MODULES if functions(path) and future not in path.read_text(encoding="utf-8")]
    assert [f"{path}: add `{future}`" for path in missing] == []
