"""A recipe says everything an export needs, and every mistake in one is found before any work."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edgevit.errors import RecipeError
from edgevit.recipe import Recipe, check_recipe, read_recipe
from edgevit.sets import open_set
from edgevit.targets import parse_target


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, 'model = "zoo:digits-vit"'))
    assert recipe == Recipe(model="zoo:digits-vit")
    assert recipe.targets == ("openvino:float32", "openvino:int8")
    check_recipe(recipe)


EVERYTHING = """
model = "package.module:factory"
weights = "/weights.pt"
labels = ["a", "b"]
targets = ["onnxruntime:int8"]
when_available = ["openvino:bfloat16"]
preprocess = { size = [8, 6], mean = [0.5], std = [0.5], mode = "L", resize = "exact", interpolation = "bilinear" }
options."onnxruntime:int8" = { optimize = "no" }
trace = { batch = 2, max_batch = 3, image_size = [8, 6] }
calibration = { set = "/c", samples = 5, seed = 1, batch = 2 }
evaluation = { set = "/e", samples = 7, batch = 2 }
parity = { budget = 1.5, layers = 0, golden = 1 }
bench = { enabled = false, batch_sizes = [1, 8], threads = [1], seconds = 0.5, rounds = 2, cold_starts = 0 }

[plan]
file = "/plan.toml"
ranges = "mse"
weights = "min-max"
equalize = []
bias_correction = false
skip = ["head.*"]
cpu = "any"
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, EVERYTHING))
    check_recipe(recipe)
    default = Recipe(model="another")
    for name in ("weights", "labels", "targets", "when_available", "preprocess", "options"):
        assert getattr(recipe, name) != getattr(default, name), name
    for section in ("trace", "calibration", "evaluation", "plan", "parity", "bench"):
        values, defaults = getattr(recipe, section), getattr(default, section)
        for name in values.__struct_fields__:
            assert getattr(values, name) != getattr(defaults, name), f"{section}.{name}"


def test_relative_paths_are_found_from_the_recipe(tmp_path: Path) -> None:
    text = """
    model = "zoo:digits-vit"
    weights = "mine: the best.safetensors"
    calibration.set = "photos"
    evaluation.set = "zoo:digits-vit:evaluation"
    plan.file = "/somewhere/plan.toml"
    """
    recipe = read_recipe(written(tmp_path, text))
    assert recipe.weights == str(tmp_path / "mine: the best.safetensors")
    assert recipe.calibration.set == str(tmp_path / "photos")
    assert recipe.evaluation.set == "zoo:digits-vit:evaluation"
    assert recipe.plan.file == "/somewhere/plan.toml"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "object missing required field model"),
        ("model = 1", "expected str, got int in model"),
        ("model = 'a'\nspeed = 1", r"expected a key of a recipe \(model, weights, .*\), found 'speed'"),
        ("model = 'a'\n[bench]\nround = 1", r"expected a key of \[bench\] \(enabled, .*\), found 'round'"),
        ("model = 'a'\n[bench]\nseconds = 'x'", "expected float, got str in bench.seconds"),
        ("model = 'a'\n[plan]\ncpu = 'x'", "expected plan.cpu as one of any, auto, vnni, found 'x'"),
        ("model = 'a'\n[plan]\nequalize = ['norm', 'x']", r"plan.equalize\[1\] as one of multiply, norm, values"),
        ("model = 'a'\n[trace]\nimage_size = [1, 2, 3]", "expected array of length 2, got 3 in trace.image_size"),
        ("model = 'a'\n[preprocess]\nsize = [8, 8]", "missing required field mean in preprocess"),
        ("model = 'a'\n[options]\nopenvino = 3", r"expected object, got int in options"),
        ("model = ", "expected TOML, found an error: "),
        ("\ud800", "expected TOML"),
    ],
)
def test_a_wrong_recipe_names_the_file_and_the_key(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(RecipeError, match=expected) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file or directory; check the path"):
        read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(RecipeError, match="Is a directory"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"calibration": {"samples": 0}}, "calibration.samples of at least 1, found 0"),
        ({"calibration": {"batch": 0}}, "calibration.batch of at least 1"),
        ({"calibration": {"seed": -1}}, "calibration.seed of at least 0"),
        ({"evaluation": {"samples": -5}}, "evaluation.samples of at least 1"),
        ({"evaluation": {"batch": 0}}, "evaluation.batch of at least 1"),
        ({"parity": {"golden": 0}}, "parity.golden of at least 1"),
        ({"parity": {"layers": -1}}, "parity.layers of at least 0"),
        ({"parity": {"budget": 0}}, "parity.budget above 0 and below 100 points, found 0"),
        ({"parity": {"budget": 100}}, "parity.budget above 0 and below 100 points, found 100"),
        ({"parity": {"budget": float("nan")}}, "parity.budget above 0 and below 100 points, found nan"),
        ({"trace": {"batch": 0}}, "trace.batch of at least 1"),
        ({"trace": {"max_batch": 0}}, "trace.max_batch of at least 1"),
        ({"trace": {"image_size": [0, 16]}}, "image size of 1 to 4096 pixels a side, found 0"),
        ({"trace": {"image_size": [16, 10**9]}}, "image size of 1 to 4096 pixels a side, found 1000000000"),
        ({"targets": []}, "at least one target, found none"),
        (
            {"options": {"onnxruntime:int8": {}}},
            "options of targets that are built, found options for onnxruntime:int8",
        ),
    ],
)
def test_values_that_make_no_sense(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(RecipeError, match=expected):
        check_recipe(msgspec.convert({"model": "zoo:digits-vit", **changes}, Recipe))


# ------------------------------------------------------------------------------- what lies in the repository


def recipes(repository: Path) -> list[Path]:
    return sorted((repository / "export").glob("*.toml"))


def test_every_recipe_of_the_repository_is_right(repository: Path) -> None:
    found = recipes(repository)
    assert repository / "export" / "digits-vit.toml" in found
    for path in found:
        recipe = read_recipe(path)
        check_recipe(recipe)
        for text in (*recipe.targets, *recipe.when_available):
            parse_target(text)
        for spec in filter(None, (recipe.calibration.set, recipe.evaluation.set)):
            assert len(open_set(spec)) > 0, path.name


def test_every_set_of_the_repository_opens_and_its_images_decode(repository: Path) -> None:
    found = sorted((repository / "calibration").glob("*.toml"))
    assert len(found) >= 4
    for path in found:
        samples = open_set(path)
        assert len(samples) > 0
        assert min(samples.samples[0].image().size) >= 1, path.name


def test_every_published_model_of_texts_has_a_recipe(repository: Path) -> None:
    from edgevit.zoo import sequence_names

    models = {read_recipe(path).model for path in recipes(repository)}
    assert {f"zoo:{name}" for name in sequence_names()} <= models
