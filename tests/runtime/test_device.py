"""On a device there are NumPy, Pillow and one engine: nothing that converts, trains or draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CONVERTERS = ("torch", "onnx", "onnx_ir", "onnxscript", "safetensors", "scipy", "sklearn", "matplotlib", "jinja2")

APPLICATION = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed on this device", name=name)

bundle, photo, target, blocked = json.loads(sys.stdin.read())
sys.meta_path.insert(0, Blocker())
import edgevit
with edgevit.load(bundle, target) as model:
    result = model.predict(photo)
    name = model.build.name
print(json.dumps([name, result.label, result.score, sorted(set(blocked) & set(sys.modules))]))
"""


def run_application(bundle, photo, target, blocked):
    return subprocess.run(
        [sys.executable, "-c", APPLICATION],
        input=json.dumps([str(bundle), str(photo), target, blocked]),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )


@pytest.mark.parametrize(("target", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_one_engine_is_enough(target, other, bundle, photo):
    result = run_application(bundle, photo, target, [*CONVERTERS, other])
    assert result.returncode == 0, result.stderr
    name, label, score, loaded = json.loads(result.stdout)
    assert name == f"{target}-int8"
    assert label.startswith("class ")
    assert 0 < score <= 1
    assert loaded == [], "imported although it is not there"
    assert result.stderr == ""


def test_the_blocked_engine_is_really_gone(bundle, photo):
    result = run_application(bundle, photo, "openvino", ["openvino"])
    assert result.returncode != 0
    assert "pip install 'edgevit[openvino]'" in result.stderr


WRITER = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"{name} is not installed on this device", name=name)

bundle, text, target, blocked = json.loads(sys.stdin.read())
sys.meta_path.insert(0, Blocker())
import edgevit
with edgevit.load(bundle, target) as model:
    greedy, searched = model.predict(text, beams=1), model.predict([text, text], beams=3)
    pieces = list(model.stream(text))
print(json.dumps([greedy.text, "".join(pieces), len(searched), sorted(set(blocked) & set(sys.modules))]))
"""
READER = """
import json, sys

bundle, text, target, blocked = json.loads(sys.stdin.read())
sys.modules |= dict.fromkeys(blocked)
import edgevit
with edgevit.load(bundle, target) as model:
    result = model.predict(text)
print(json.dumps([type(result).__name__, len(result.words) if hasattr(result, "words") else result.label]))
"""


def run_texts(program, bundle, text, target, blocked):
    return subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps([str(bundle), text, target, blocked]),
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )


@pytest.mark.parametrize(("target", "other"), [("openvino", "onnxruntime"), ("onnxruntime", "openvino")])
def test_one_engine_and_tokenizers_are_enough_to_write(target, other, text_bundle):
    for name in ("transformer", "lstm"):
        blocked = [*CONVERTERS, "PIL", "transformers", other]
        result = run_texts(WRITER, text_bundle(name), "am Dienstag, um drei Uhr", target, blocked)
        assert result.returncode == 0, result.stderr
        text, streamed, searched, loaded = json.loads(result.stdout)
        assert (streamed, searched) == (text, 2)
        assert loaded == [], "imported although it is not there"
        assert result.stderr == ""


def test_and_to_read(text_bundle):
    blocked = [*CONVERTERS, "PIL", "transformers", "onnxruntime"]
    for name, kind in (("kinds", "Classification"), ("tags", "Tagging")):
        result = run_texts(READER, text_bundle(name), "am Dienstag", "openvino", blocked)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)[0] == kind


def test_without_tokenizers_its_extra_is_named(text_bundle):
    result = run_texts(WRITER, text_bundle("gru"), "am", "openvino", ["tokenizers"])
    assert result.returncode != 0
    assert "pip install 'edgevit[text]'" in result.stderr
