"""Plans as TOML: an exact round trip, and errors that lead to the line."""

from __future__ import annotations

import tomllib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgevit.errors import OutputError, PlanError
from edgevit.quantize.plan_file import format_plan, parse_plan, read_plan, write_plan
from edgevit.types import LayerPlan, QuantPlan, SkippedLayer

positive = st.floats(2.0**-126, 2.0**127, width=32)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
plans = st.builds(
    QuantPlan,
    model=st.text(max_size=8),
    model_digest=st.text("0123456789abcdef", max_size=8),
    statistics_digest=st.text("0123456789abcdef", max_size=8),
    samples=st.integers(0, 10**6),
    seed=st.integers(0, 2**32),
    safe_without_vnni=st.booleans(),
    layers=st.lists(
        st.builds(
            LayerPlan,
            name=st.text(min_size=1, max_size=12),
            kind=st.sampled_from(["linear", "conv"]),
            input_scale=positive,
            weight_scale=st.lists(positive, min_size=1, max_size=4).map(tuple),
            output_scale=st.none() | positive,
            input_method=st.text(max_size=4),
            weight_method=st.text(max_size=4),
            equalization=st.lists(positive, max_size=3).map(tuple),
            equalization_into=st.text(max_size=4),
            bias_correction=st.lists(numbers, max_size=3).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    skipped=st.lists(st.builds(SkippedLayer, name=st.text(max_size=6), reason=st.text(max_size=9)), max_size=2).map(
        tuple
    ),
)

LAYER = LayerPlan(
    name="blocks.0.attn.qkv.weight",
    kind="linear",
    input_scale=0.5,
    weight_scale=(0.25, 0.125),
    equalization=(2.0, 0.5, 1.0),
    equalization_into="blocks.0.norm1",
    bias_correction=(-0.5, 0.0),
)
PLAN = QuantPlan(
    model="zoo:digits-vit",
    model_digest="ab",
    layers=(LAYER, msgspec.structs.replace(LAYER, name="blocks.0.attn.proj.weight")),
    skipped=(SkippedLayer(name="head.weight", reason="too sensitive: 3 dB"),),
)


@settings(max_examples=60)
@given(plans)
def test_a_plan_survives_its_file(plan):
    text = format_plan(plan)
    assert parse_plan(text, "plan.toml") == plan
    assert format_plan(parse_plan(text, "plan.toml")) == text


@settings(max_examples=40)
@given(st.lists(st.integers(0x00800000, 0x7F7FFFFF), min_size=1, max_size=20))
def test_every_float32_is_written_exactly(patterns):
    scales = np.array(patterns, np.uint32).view(np.float32)
    plan = msgspec.structs.replace(PLAN, layers=(msgspec.structs.replace(LAYER, weight_scale=tuple(scales.tolist())),))
    back = np.array(parse_plan(format_plan(plan), "p").layers[0].weight_scale, np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), patterns)


def test_numbers_mean_float32_and_stay_short():
    text = format_plan(PLAN).replace("input_scale = 0.5", "input_scale = 0.1")
    plan = parse_plan(text, "plan.toml")
    assert plan.layers[0].input_scale == float(np.float32(0.1))
    assert "input_scale = 0.1\n" in format_plan(plan)


def test_the_file_is_readable(tmp_path):
    path = tmp_path / "plan.toml"
    write_plan(PLAN, path)
    text = path.read_text()
    comments = "".join(line for line in text.splitlines() if line.startswith("#"))
    for field in (*LayerPlan.__struct_fields__, *QuantPlan.__struct_fields__):
        assert field in comments or field in ("name", "layers"), f"{field} is not explained"
    assert "weight_scale = [0.25, 0.125]\n" in text
    assert text.count("[[layer]]\n") == 2
    assert "output_scale =" not in text
    assert read_plan(path) == PLAN
    assert tomllib.loads(text)["skipped"] == [{"name": "head.weight", "reason": "too sensitive: 3 dB"}]
    assert [item.name for item in tmp_path.iterdir()] == ["plan.toml"]


@pytest.mark.parametrize(
    "array",
    ["[0.25,0.125]", "[ 0.25, 0.125, ]", "[+0.25, 1.25E-1] # mine", "[\n  0.25,\n  0.125,\n]", "[2_5e-2, 0.125]"],
)
def test_hand_written_arrays_of_any_form_are_read(array):
    text = format_plan(PLAN).replace("[0.25, 0.125]", array)
    assert parse_plan(text, "plan.toml") == PLAN


def test_what_looks_like_an_array_inside_a_string_stays_text():
    text = format_plan(PLAN).replace('"too sensitive: 3 dB"', '"""\nweight_scale = [1.0]\n0e000000"""')
    assert parse_plan(text, "plan.toml").skipped[0].reason == "weight_scale = [1.0]\n0e000000"
    with pytest.raises(PlanError, match="input_scale"):
        parse_plan(format_plan(PLAN).replace("input_scale = 0.5", "input_scale = 0e000000"), "plan.toml")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("input_scale = 0.5", "inputscale = 0.5", ["unknown key 'inputscale'"]),
        ("input_scale = 0.5", 'input_scale = "0.5"', ["key 'input_scale'", "Expected `float`, got `str`"]),
        ("input_scale = 0.5", "input_scale = true", ["key 'input_scale'", "got `bool`"]),
        ("input_scale = 0.5", "input_scale = 0.0", ["blocks.0.attn.proj.weight", "positive", "input_scale, got 0.0"]),
        ("input_scale = 0.5", "input_scale = -1e-3", ["positive", "got -0.001"]),
        ("input_scale = 0.5", "input_scale = nan", ["positive", "got nan"]),
        ("input_scale = 0.5", "input_scale = 1e39", ["positive", "got 1e+39"]),
        ("input_scale = 0.5", "input_scale = 1e-60", ["positive", "got 1e-60"]),
        ("input_scale = 0.5", "input_scale = 0.5\noutput_scale = 0", ["positive", "output_scale"]),
        ("weight_scale = [0.25, 0.125]", "weight_scale = [0.25, -1.0]", ["weight_scale, got -1.0 at position 1"]),
        ("weight_scale = [0.25, 0.125]", "weight_scale = [0.25, inf]", ["weight_scale, got inf"]),
        ("weight_scale = [0.25, 0.125]", "weight_scale = []", ["weight_scale", "got none"]),
        ("weight_scale = [0.25, 0.125]", 'weight_scale = [0.25, "a"]', ["key 'weight_scale'", "got `str`"]),
        ("equalization = [2.0, 0.5, 1.0]", "equalization = [2.0, 0.0, 1.0]", ["equalization, got 0.0"]),
        ("bias_correction = [-0.5, 0.0]", "bias_correction = [-0.5, inf]", ["finite", "bias_correction, got inf"]),
        ('kind = "linear"', 'kind = "lstm"', ["expected 'linear', 'conv', 'embedding' or 'recurrent', got 'lstm'"]),
        ('kind = "linear"\n', "", ["missing required field `kind`"]),
    ],
)
def test_a_mistake_in_the_second_layer_is_found_there(tmp_path, old, new, expected):
    first, second = format_plan(PLAN).rsplit("[[layer]]", 1)
    path = tmp_path / "mine.toml"
    path.write_text(first + "[[layer]]" + second.replace(old, new, 1))
    with pytest.raises(PlanError) as caught:
        read_plan(path)
    message = str(caught.value)
    for part in (*expected, "mine.toml, line "):
        assert part in message
    assert "\n" not in message
    line = path.read_text().splitlines()[int(message.split("line ")[1].split(":")[0]) - 1]
    assert line == "[[layer]]" or line == new.split("\n")[-1]
    headers = [number for number, line in enumerate(path.read_text().splitlines(), 1) if line == "[[layer]]"]
    assert int(message.split("line ")[1].split(":")[0]) >= headers[1]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("schema = 1\n", "", "expected 'schema = 1', got None"),
        ("schema = 1\n", "schema = true\n", "expected 'schema = 1', got True"),
        ("schema = 1\n", "schema = 2\nfancy = 3\n", "schema 1 or older, got 2: upgrade edgevit"),
        ("samples = 0", "sample = 0", "line .*unknown key 'sample'"),
        ("samples = 0", 'samples = "many"', "key 'samples'.*got `str`"),
        ("samples = 0", "samples = 0\nlayers = []", r"unknown key 'layers': write one \[\[layer\]\]"),
        ("reason", "because", r"in \[\[skipped\]\]: unknown key 'because'|missing required field `reason`"),
        ("samples = 0", "samples = ", "syntax error.*line"),
        ("[[skipped]]", "[[skip]]", "unknown key 'skip'"),
    ],
)
def test_a_mistake_elsewhere_is_named(old, new, expected):
    comments, keys = format_plan(PLAN).split("\nschema = ", 1)
    text = comments + ("\nschema = " + keys).replace(old, new, 1)
    with pytest.raises(PlanError, match=expected):
        parse_plan(text, "plan.toml")


def test_a_layer_that_is_no_table_is_named():
    with pytest.raises(PlanError, match=r"line 4.*key 'layer'.*one \[\[layer\]\] table"):
        parse_plan('schema = 1\nmodel = "m"\nmodel_digest = ""\nlayer = 3\n', "plan.toml")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(PlanError, match=r"none\.toml: expected a quantization plan"):
        read_plan(tmp_path / "none.toml")
    with pytest.raises(PlanError, match="could not read it"):
        read_plan(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match=r"binary\.toml.*UTF-8"):
        read_plan(tmp_path / "binary.toml")


def test_an_impossible_plan_is_never_written(tmp_path):
    path = tmp_path / "plan.toml"
    write_plan(PLAN, path)
    bad = msgspec.structs.replace(PLAN, layers=(msgspec.structs.replace(LAYER, weight_scale=(1.0, float("nan"))),))
    with pytest.raises(PlanError, match=r"blocks\.0\.attn\.qkv\.weight.*nan at position 1"):
        write_plan(bad, path)
    assert read_plan(path) == PLAN
    with pytest.raises(OutputError):
        write_plan(PLAN, path / "below-a-file.toml")
