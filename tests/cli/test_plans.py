"""`--plan FILE`: a plan is used as it stands; one that fits nothing, or ruins the model, is seen to do so."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgevit as package
from edgevit.errors import BundleError
from edgevit.quantize.plan_file import read_plan, write_plan
from edgevit.types import QuantPlan, SkippedLayer

Command = Callable[..., Any]
HEAD, FC2 = "head.weight", "blocks.2.mlp.fc2.weight"


@pytest.fixture
def with_plan(inside: Command, digits: Any, tmp_path: Path) -> Command:
    """(plan, arguments …) -> the export under that plan, from the finished stages that do not depend on it."""

    def export(plan: QuantPlan, *arguments: object) -> Any:
        write_plan(plan, tmp_path / "mine.toml")
        out = digits.resumed_at(tmp_path / "out", "calibrate", "plan", "quantize", "build")
        return inside(
            "export", "zoo:digits-vit", out, "--recipe", digits.recipe, "--plan", tmp_path / "mine.toml", *arguments
        )

    return export


@pytest.fixture
def plan(digits: Any) -> QuantPlan:
    return read_plan(digits.bundle / "plan.toml")


def without(plan: QuantPlan, *names: str) -> QuantPlan:
    moved = tuple(SkippedLayer(name=name, reason="by hand") for name in names)
    kept = tuple(layer for layer in plan.layers if layer.name not in names)
    return msgspec.structs.replace(plan, layers=kept, skipped=(*plan.skipped, *moved))


def test_an_edited_plan_decides_what_runs_in_int8(
    with_plan: Command, inside: Command, plan: QuantPlan, tmp_path: Path
) -> None:
    edited = without(plan, HEAD, FC2)
    result = with_plan(edited)
    assert result.status == 0, result.err
    assert "calibrating" not in result.err and "planning" not in result.err
    assert read_plan(tmp_path / "out" / "plan.toml") == edited
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    for build in manifest["builds"]:
        if build["precision"] != "int8":
            continue
        executed = {layer["name"]: layer for layer in build["execution"]["layers"]}
        for name in (HEAD, FC2):
            layer = executed[name.removesuffix(".weight")]
            floats = {"bf16": "bfloat16"}.get(build["options"].get("float_layers", ""), "float32")
            assert (layer["requested"], layer["executed"]) == ("float32", floats), build["target"]
        other = executed["blocks.1.mlp.fc2"]
        assert (other["requested"], other["executed"]) == ("int8", "int8")
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert {layer["name"]: layer["reason"] for layer in report["plan"]["skipped"]} == {HEAD: "by hand", FC2: "by hand"}
    table = {layer["name"]: layer for layer in report["parity"]["layers"]}
    assert not table[HEAD]["quantized"] and table[HEAD]["reason"] == "by hand"
    assert f"{HEAD}: float, by hand" in inside("inspect", tmp_path / "out" / "plan.toml").out


def test_a_ruined_plan_is_written_marked_and_never_chosen(
    with_plan: Command, inside: Command, plan: QuantPlan, tmp_path: Path, repository: Path
) -> None:
    layers = tuple(
        msgspec.structs.replace(layer, input_scale=layer.input_scale * 200) if layer.name == FC2 else layer
        for layer in plan.layers
    )
    layers = tuple(
        msgspec.structs.replace(layer, input_scale=layer.input_scale * 200) if "qkv" in layer.name else layer
        for layer in layers
    )
    result = with_plan(msgspec.structs.replace(plan, layers=layers), "-t", "openvino:int8", "-t", "onnxruntime:int8")
    out = tmp_path / "out"
    assert result.status == 1
    complaints = [line for line in result.err.splitlines() if line.startswith("edgevit: ")]
    assert [line.split()[1] for line in complaints] == ["simulated", "openvino-int8", "onnxruntime-int8"]
    assert all("is out of its parity budget; see " in line for line in complaints)
    assert re.search(r"^openvino-int8 +failed", result.out, re.MULTILINE)
    assert "points lost at best, 0.5 allowed" in " ".join(result.out.split())
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert {build["verdict"] for build in manifest["builds"]} == {"failed"}
    report = json.loads((out / "report.json").read_bytes())
    assert report["parity"]["first_divergent_layer"] == "blocks.0.attn.qkv.weight"

    with pytest.raises(BundleError, match=r"found only failed ones \(openvino-int8, onnxruntime-int8\)"):
        package.load(out)
    with package.load(out, "openvino:int8") as model:
        assert model.build.verdict == "failed"
    image = next((repository / "calibration" / "samples").glob("*.png"))
    assert inside("run", out, image).status == 1
    verified = inside("verify", out)
    assert verified.status == 1
    assert "out of its parity budget where it was made" in verified.out
    assert inside("parity", out).status == 1


def test_a_failed_export_as_json_has_the_same_status(with_plan: Command, plan: QuantPlan) -> None:
    layers = tuple(msgspec.structs.replace(layer, input_scale=layer.input_scale * 300) for layer in plan.layers)
    result = with_plan(msgspec.structs.replace(plan, layers=layers), "-t", "onnxruntime:int8", "--json")
    assert result.status == 1
    found = json.loads(result.out)
    assert found["failed"] == ["simulated int8", "onnxruntime-int8"]
    assert found["manifest"]["builds"][0]["verdict"] == "failed"


def changed(plan: QuantPlan, of: str, **changes: Any) -> QuantPlan:
    layers = tuple(msgspec.structs.replace(layer, **changes) if layer.name == of else layer for layer in plan.layers)
    return msgspec.structs.replace(plan, layers=layers)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda plan: changed(plan, HEAD, name="heads.weight"), "got 'heads.weight': did you mean 'head.weight'?"),
        (lambda plan: changed(plan, HEAD, weight_scale=(0.1,) * 3), "expected 10 numbers in weight_scale"),
        (
            lambda plan: msgspec.structs.replace(
                changed(plan, HEAD, weight_scale=(0.1,) * 1000), model="vit-tiny-224", model_digest="0" * 64
            ),
            "was made for another model (vit-tiny-224) and does not fit",
        ),
        (lambda plan: without(plan, *(layer.name for layer in plan.layers)), "at least one int8 layer, found none"),
        (
            lambda plan: msgspec.structs.replace(plan, skipped=(SkippedLayer(name=HEAD, reason="twice"),)),
            "is both a [[layer]] and [[skipped]]",
        ),
    ],
    ids=["renamed", "shape", "other model", "nothing", "twice"],
)
def test_a_plan_that_does_not_fit(
    with_plan: Command, plan: QuantPlan, tmp_path: Path, edit: Callable[[QuantPlan], QuantPlan], expected: str
) -> None:
    result = with_plan(edit(plan))
    assert (result.status, result.out) == (2, "")
    assert expected in result.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("schema = 9", "upgrade edgevit"),
        ("input_scale = -1.0", "expected positive, finite float32 numbers in input_scale, got -1.0"),
        ("input_scale = nan", "expected positive, finite float32 numbers in input_scale, got nan"),
        ("input_scael = 0.1", "unknown key 'input_scael'"),
        ("input_scale = ", "syntax error"),
    ],
)
def test_a_plan_with_a_mistake_is_refused_before_any_work(
    inside: Command, digits: Any, tmp_path: Path, line: str, expected: str
) -> None:
    text = (digits.bundle / "plan.toml").read_text()
    key = line.partition(" ")[0].replace("scael", "scale")
    text = re.sub(rf"^{key} = .*$", line, text, count=1, flags=re.MULTILINE)
    (tmp_path / "mine.toml").write_text(text)
    result = inside("export", "zoo:digits-vit", tmp_path / "out", "--plan", tmp_path / "mine.toml")
    assert (result.status, result.out) == (2, "")
    assert expected in result.complaint
    assert len(result.err.splitlines()) == 1


def test_the_plan_of_the_bundle_is_readable(digits: Any) -> None:
    text = (digits.bundle / "plan.toml").read_text(encoding="utf-8")
    found = tomllib.loads(text)
    assert text.startswith("# Quantization plan")
    assert {layer["name"] for layer in found["layer"]} >= {HEAD, FC2, "patch_embed.proj.weight"}
