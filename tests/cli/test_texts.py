"""Models of texts from the command line to the report: translation, recurrent models, classes, and bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
model = "zoo:{model}"
targets = [{targets}]
calibration.samples = 24
evaluation.samples = {samples}
parity.layers = 2
bench.enabled = false
"""


def by_recipe(
    once: Callable[..., Path], edgevit: Callable[..., Any], repository: Path, model: str, samples: int
) -> Path:
    """The model's own recipe of `export/`, run as it is written but for how much is looked at."""
    text = (repository / "export" / f"{model}.toml").read_text(encoding="utf-8")
    for old, new in (
        ("samples = 256", "samples = 24"),
        ("[parity]", f"[evaluation]\nsamples = {samples}\n\n[parity]\nlayers = 2"),
        ("[bench]", "[bench]\nenabled = false"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(text, encoding="utf-8")
        finished = edgevit("export", f"zoo:{model}", place / "out", "--recipe", place / "recipe.toml")
        assert finished.status == 0, finished.err
        (place / "out.txt").write_text(finished.out)

    return once(f"{model}-recipe", make)


@pytest.fixture(scope="module")
def phrases(once: Callable[..., Path], edgevit: Callable[..., Any], repository: Path) -> Path:
    """`zoo:phrases-transformer`, exported once; not to be changed."""
    return by_recipe(once, edgevit, repository, "phrases-transformer", 96)


def rungs(bundle: Path) -> dict[str, Any]:
    report = json.loads((bundle / "report.json").read_text(encoding="utf-8"))
    return {rung["name"]: rung for rung in report["parity"]["rungs"]}


# ---------------------------------------------------------------------------------------------- translation


def test_a_translator_goes_from_the_zoo_to_a_proven_bundle(phrases: Path) -> None:
    bundle, found = phrases / "out", rungs(phrases / "out")
    assert list(found) == [
        "onnx float32",
        "simulated int8",
        "openvino-float32",
        "openvino-int8",
        "onnxruntime-float32",
        "onnxruntime-int8",
        "onnxruntime-int8d",
    ]
    for rung in found.values():
        assert rung["task"]["metric"] == "exact match"
        assert rung["task"]["reference"] > 80
        assert rung["verdict"] in ("passed", "inconclusive"), rung["reason"]
        assert [score["metric"] for score in rung["scores"]] == ["BLEU", "chrF"]
        assert rung["closeness"]["kl_mean"] is not None
        assert sum(one["answers"] for one in rung["lengths"]) == 96
        assert rung["tokens"]["tokens"] > 96
    for part in ("encoder", "decoder"):
        assert (bundle / "openvino-int8" / part / "model.xml").exists()
    assert "exact" in (phrases / "out.txt").read_text()


def test_float_builds_write_what_torch_writes_token_for_token(phrases: Path) -> None:
    found = rungs(phrases / "out")
    for name in ("onnx float32", "openvino-float32", "onnxruntime-float32"):
        assert found[name]["agreement"] == 100.0, name
        assert found[name]["tokens"]["agreement"] == 100.0, name
        assert found[name]["closeness"]["sqnr_db"] > 80, name


def test_one_plan_has_the_layers_of_both_parts(phrases: Path) -> None:
    from edgevit.quantize.plan_file import read_plan

    plan = read_plan(phrases / "out" / "plan.toml")
    names = [layer.name for layer in plan.layers]
    assert plan.samples == 24
    for start in ("encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.cross_attn"):
        assert any(name.startswith(start) for name in names), start
    report = json.loads((phrases / "out" / "report.json").read_text(encoding="utf-8"))
    # A table that is only looked up multiplies nothing, and has no line of its own among the layers.
    multiplied = {layer.name for layer in plan.layers if layer.kind != "embedding"}
    assert {layer["name"] for layer in report["parity"]["layers"]} >= multiplied


def test_the_report_shows_texts_and_no_pictures(phrases: Path) -> None:
    page = (phrases / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("Worst texts", "By the length of the text", "BLEU", "chrF", "tokens read"):
        assert words in page, words
    assert "no picture" not in page
    assert "<img" not in page
    markdown = (phrases / "out" / "report.md").read_text(encoding="utf-8")
    assert "exact match" in markdown
    assert "tokens read" in markdown


def test_a_plan_can_be_handed_in_again(phrases: Path, edgevit: Callable[..., Any], tmp_path: Path) -> None:
    recipe = RECIPE.format(model="phrases-transformer", targets='"onnxruntime:int8"', samples=16)
    (tmp_path / "recipe.toml").write_text(recipe)
    plan = phrases / "out" / "plan.toml"
    arguments = ("zoo:phrases-transformer", tmp_path / "out", "--recipe", tmp_path / "recipe.toml", "--plan", plan)
    finished = edgevit("export", *arguments)
    assert finished.status == 0, finished.err
    from edgevit.quantize.plan_file import read_plan

    assert read_plan(tmp_path / "out" / "plan.toml") == read_plan(plan)
    assert rungs(tmp_path / "out")["onnxruntime-int8"]["closeness"]["sqnr_db"] > 20


# ---------------------------------------------------------------------------------- what is done with a bundle


def test_texts_are_translated(phrases: Path, inside: Callable[..., Any]) -> None:
    finished = inside("run", phrases / "out", "am Dienstag", "im März", "am Dienstag, dem 3. März")
    assert finished.status == 0, finished.err
    first, second, third = finished.out.splitlines()
    assert third.endswith(": on Tuesday, March 3")
    assert first.startswith("am Dienstag: ")
    assert "Tuesday" in first
    assert "March" in second


def test_lines_of_standard_input_are_translated(phrases: Path, edgevit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_bytes("am Dienstag\nim März\n\n".encode())
    with (tmp_path / "lines.txt").open("rb") as lines:
        finished = edgevit("run", phrases / "out", "-", "--beams", "2", "--json", stdin=lines)
    assert finished.status == 0, finished.err
    found = json.loads(finished.out)
    assert [one["input"] for one in found] == ["am Dienstag", "im März"]
    assert "Tuesday" in found[0]["result"]["text"]


def test_the_stored_reference_judges_again_without_torch(phrases: Path, edgevit: Callable[..., Any]) -> None:
    finished = edgevit("parity", phrases / "out", "--target", "openvino", "--json", without=("torch",))
    assert finished.status == 0, finished.err
    again = {rung["name"]: rung for rung in json.loads(finished.out)["rungs"]}
    for name, rung in rungs(phrases / "out").items():
        if name.startswith("openvino-"):
            assert again[name]["task"] == rung["task"]
            assert again[name]["scores"] == rung["scores"]


def test_texts_without_translations_are_compared_with_the_reference_and_the_verdict_says_so(
    phrases: Path, inside: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "texts.txt").write_text("am Dienstag\nim März\ndrei Euro\n", encoding="utf-8")
    finished = inside("parity", phrases / "out", "--evaluation", tmp_path / "texts.txt", "--json")
    assert finished.status == 0, finished.err
    found = json.loads(finished.out)["rungs"]
    assert {rung["labelled"] for rung in found} == {False}
    assert all("no labels, so the reference's answers stand in for the truth" in rung["reason"] for rung in found)
    assert all(rung["scores"] == [] for rung in found)


def one_report_in_shares(bundle: Path, monkeypatch: pytest.MonkeyPatch, evaluation: str | None = None) -> None:
    """Shares of the samples, put together, give what one pass gives: of texts each has its own rows and padding."""
    from edgevit.bundle import open_bundle
    from edgevit.cluster.pool import Here
    from edgevit.pipeline import shares
    from edgevit.pipeline.proof import build_rungs, comparison
    from edgevit.pipeline.stand_in import bundle_evaluation, bundle_samples
    from edgevit.progress import Silent

    opened = open_bundle(bundle)
    manifest = opened.manifest
    output = manifest.signature.outputs[0].name
    options = comparison(manifest.task, manifest.trained, manifest.budget_points, manifest.labels, output)
    builds = opened.builds("openvino")
    whole = build_rungs(opened, bundle_evaluation(opened, evaluation, Silent()), options, Silent(), builds)
    shared = shares.Shared(bundle_samples(opened, evaluation), evaluation, builds, options)
    monkeypatch.setattr(shares, "FEWEST", 32)
    monkeypatch.setattr(shares, "MOST", 32)
    assert len(shares.cut(opened, shared, 1, Silent())) > 1
    assert shares.shared_rungs(opened, shared, Here(), Silent()) == whole


def test_shares_of_translations_give_the_same_report(
    phrases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_report_in_shares(phrases / "out", monkeypatch)
    (tmp_path / "texts.txt").write_text("".join(f"am {day}. März\n" for day in range(1, 60)), encoding="utf-8")
    one_report_in_shares(phrases / "out", monkeypatch, str(tmp_path / "texts.txt"))


def test_it_verifies_and_says_what_it_is(phrases: Path, inside: Callable[..., Any]) -> None:
    finished = inside("verify", phrases / "out")
    assert finished.status == 0, finished.out
    assert finished.out.count("passed") == 5
    finished = inside("inspect", phrases / "out")
    assert finished.status == 0
    assert "translation" in finished.out
    assert "tokens of tokenizer.json" in finished.out


BENCH = ("bench", "--seconds", "0.1", "--rounds", "2", "--cold-starts", "0", "--threads", "1")


def test_writing_is_measured_as_asked_and_compared_with_an_earlier_measurement(
    phrases: Path, edgevit: Callable[..., Any], tmp_path: Path
) -> None:
    how = ("--target", "onnxruntime", "--tokens", "6", "--source-length", "5", "--beams", "2", "--without-cache")
    finished = edgevit(*BENCH, phrases / "out", *how, "--json")
    assert finished.status == 0, finished.err
    (tmp_path / "old.json").write_text(finished.out)
    entries = json.loads(finished.out)["entries"]
    assert len(entries) == 3
    for entry in entries:
        times = entry["generation"]
        assert (times["source_length"], times["tokens"], len(times["by_place"])) == (5, 6, 6)
        assert [rate["beams"] for rate in times["rates"]] == [1, 2]
        assert times["without_cache"] > 0
    finished = edgevit(*BENCH, phrases / "out", *how, "--compare", tmp_path / "old.json")
    assert finished.status == 0, finished.err
    assert "Writing 6 tokens for a source of 5" in " ".join(finished.out.split())
    assert finished.out.count("6 tokens: ") == 3
    assert finished.out.count("× for a further token") == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tokens", "1"], "expected tokens of at least 2"),
        (["--tokens", "-7"], "expected tokens of at least 2"),
        (["--tokens", "5000"], "expected tokens of at most"),
        (["--source-length", "0"], "expected source_length of at least 1"),
        (["--source-length", "5000"], "expected source_length of at most"),
        (["--beams", "0"], "expected beams of at least 1"),
    ],
)
def test_a_measurement_that_makes_no_sense(
    phrases: Path, inside: Callable[..., Any], arguments: list[str], expected: str
) -> None:
    finished = inside("bench", phrases / "out", *arguments)
    assert finished.status == 2
    assert expected in finished.complaint


# --------------------------------------------------------------------------------------------- one graph


@pytest.mark.parametrize(
    ("model", "metric", "shown"),
    [
        ("tags-rnn", "token accuracy", "Dienstag/weekday"),
        ("tags-lstm", "token accuracy", "Dienstag/weekday"),
        ("tags-gru", "token accuracy", "Dienstag/weekday"),
        ("kinds-transformer", "top-1 accuracy", "weekday "),
    ],
)
def test_models_of_one_graph(
    once: Callable[..., Path],
    edgevit: Callable[..., Any],
    inside: Callable[..., Any],
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    metric: str,
    shown: str,
) -> None:
    place = by_recipe(once, edgevit, repository, model, 200)
    found = rungs(place / "out")
    built = {"openvino-float32", "openvino-int8", "onnxruntime-float32", "onnxruntime-int8"}
    assert found.keys() == {"onnx float32", "simulated int8", *built} | (
        {"openvino-int8w", "onnxruntime-int8w"} if model.startswith("tags-") else set()
    )
    for name, rung in found.items():
        assert rung["agreement"] == 100.0 or "int8" in name, name
        assert rung["task"]["metric"] == metric
        assert rung["task"]["reference"] > 90
        assert rung["verdict"] in ("passed", "inconclusive"), rung["reason"]
        assert rung["samples"] == 200
        assert rung["lengths"]
    finished = inside("run", place / "out", "am Dienstag")
    assert finished.status == 0, finished.err
    assert shown in finished.out
    assert inside("verify", place / "out").status == 0
    assert inside("parity", place / "out").status == 0
    one_report_in_shares(place / "out", monkeypatch)
    finished = inside("bench", place / "out", "--tokens", "5")
    assert finished.status == 2
    assert "expected a model that writes text for tokens" in finished.complaint


@pytest.mark.parametrize("model", ["phrases-lstm", "phrases-gru"])
def test_a_recurrent_translator(
    once: Callable[..., Path], edgevit: Callable[..., Any], inside: Callable[..., Any], repository: Path, model: str
) -> None:
    place = by_recipe(once, edgevit, repository, model, 48)
    found = rungs(place / "out")
    for name in ("onnx float32", "openvino-float32", "onnxruntime-float32"):
        assert found[name]["agreement"] == 100.0, name
        assert found[name]["tokens"]["agreement"] == 100.0, name
    for engine in ("openvino", "onnxruntime"):
        for precision in ("int8", "int8w"):
            rung = found[f"{engine}-{precision}"]
            assert rung["verdict"] in ("passed", "inconclusive"), rung["reason"]
            assert rung["tokens"]["agreement"] > 95
            assert rung["closeness"]["sqnr_db"] < 80, "nothing was quantized"
    finished = inside("run", place / "out", "am Dienstag, dem 3. März")
    assert finished.status == 0, finished.err
    assert "Tuesday, March 3" in finished.out
    assert inside("verify", place / "out").status == 0


# --------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["", "am Dienstag"], "expected a text with at least one word, found ''"),
        (["   "], "expected a text with at least one word"),
        (["Dienstag " * 200], "tokens, found"),
        (["am Dienstag", "--beams", "0"], "expected beams of at least 1, found 0"),
        (["am Dienstag", "--max-length", "-3"], "expected max_length from 1 to"),
        (["am Dienstag", "--max-length", "100000"], "expected max_length from 1 to"),
        (["am \udcff Dienstag"], "lone surrogate"),
    ],
)
def test_a_text_that_cannot_be_translated(
    phrases: Path, inside: Callable[..., Any], arguments: list[str], expected: str
) -> None:
    finished = inside("run", phrases / "out", *arguments)
    assert finished.status == 2
    assert expected in finished.complaint


def test_bytes_that_are_no_utf8(phrases: Path, edgevit: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes("am Dienstag\nim März\n".encode("latin-1"))
    with (tmp_path / "latin1.txt").open("rb") as lines:
        finished = edgevit("run", phrases / "out", "-", stdin=lines)
    assert finished.status == 2
    assert "expected UTF-8, found byte 0xe4 at 4" in finished.complaint
    finished = edgevit("parity", phrases / "out", "--evaluation", tmp_path / "latin1.txt")
    assert finished.status == 2
    assert "1 of 2 texts cannot be read; first 'latin1, line 2': expected UTF-8" in finished.complaint


MIXED = "вторник Dienstag 火曜日 الثلاثاء mardi 🗓 Dienstag\n"


def test_bytes_of_many_languages_are_a_text_and_broken_ones_are_a_line(
    phrases: Path, edgevit: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "mixed.txt").write_bytes(MIXED.encode() * 2)
    with (tmp_path / "mixed.txt").open("rb") as lines:
        finished = edgevit("run", phrases / "out", "-", "--json", stdin=lines)
    assert finished.status == 0, finished.err
    found = json.loads(finished.out)
    assert [one["input"] for one in found] == [MIXED.strip()] * 2
    assert all("unknown to the vocabulary" in " ".join(one["result"]["notes"]) for one in found)
    # The same bytes without one in the middle of a character.
    whole = MIXED.encode()
    place = whole.index("火".encode()) + 1
    (tmp_path / "broken.txt").write_bytes(whole[:place] + whole[place + 1 :])
    with (tmp_path / "broken.txt").open("rb") as lines:
        finished = edgevit("run", phrases / "out", "-", stdin=lines)
    assert finished.status == 2
    assert f"expected UTF-8, found byte 0xe7 at {place - 1}" in finished.complaint


def test_a_checkpoint_of_another_vocabulary(inside: Callable[..., Any], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from edgevit.zoo.catalog import CHECKPOINTS

    state = load_file(CHECKPOINTS / "phrases-transformer" / "model.safetensors")
    state["encoder.embed.weight"] = state["encoder.embed.weight"][:200].clone()
    save_file(state, tmp_path / "cut.safetensors")
    finished = inside("export", "zoo:phrases-transformer", tmp_path / "out", "--weights", tmp_path / "cut.safetensors")
    assert finished.status == 2
    assert "encoder.embed.weight" in finished.complaint and "200" in finished.complaint
    assert not (tmp_path / "out").exists()


def test_a_bundle_with_the_vocabulary_of_another_model(
    phrases: Path, inside: Callable[..., Any], tmp_path: Path
) -> None:
    """The target's words in place of the source's, as if the wrong file had been copied to the device."""
    shutil.copytree(phrases / "out", tmp_path / "out")
    shutil.copy(tmp_path / "out" / "target-tokenizer.json", tmp_path / "out" / "tokenizer.json")
    for command in (("run", tmp_path / "out", "am Dienstag"), ("verify", tmp_path / "out")):
        finished = inside(*command)
        assert finished.status == 1, command[0]
        assert "tokenizer.json" in finished.out + finished.err


@pytest.mark.parametrize("command", ["bench", "parity", "verify", "inspect"])
def test_what_a_model_of_texts_can_be_asked_ends_well(phrases: Path, inside: Callable[..., Any], command: str) -> None:
    quick = ("--seconds", "0.1", "--rounds", "1", "--cold-starts", "0", "--target", "onnxruntime:int8d")
    finished = inside(command, phrases / "out", *(quick if command == "bench" else ()), "--json")
    assert finished.status == 0, finished.err
    assert json.loads(finished.out)


def test_unknown_characters_and_other_languages_are_noted(phrases: Path, inside: Callable[..., Any]) -> None:
    finished = inside("run", phrases / "out", "am Dienstag ☃ 日本")
    assert finished.status == 0, finished.err
    assert "note: " in finished.out
    assert "unknown to the vocabulary" in finished.out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"text": "am Dienstag", "label": "x"}\n', "expected the column 'target', which translation is judged by"),
        ('{"source": "am Dienstag", "target": ""}\n', "expected a target for 'am Dienstag', found an empty one"),
        (
            '{"source": "a", "target": "b"}\n{"source": "c"}\n',
            "expected the columns target, text as in the rows before",
        ),
        ("", "expected at least one text"),
    ],
)
def test_a_set_that_does_not_fit(
    phrases: Path, inside: Callable[..., Any], tmp_path: Path, content: str, expected: str
) -> None:
    (tmp_path / "set.jsonl").write_text(content, encoding="utf-8")
    finished = inside("parity", phrases / "out", "--evaluation", tmp_path / "set.jsonl")
    assert finished.status == 2
    assert expected in finished.complaint


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--batch-size", "4"], "expected a dynamic batch for phrases-transformer"),
        (["--image-size", "64"], "expected no image preprocessing and no image size for phrases-transformer"),
        (["--evaluation", "zoo:digits-vit:evaluation"], "expected a set of texts for translation, found one of images"),
        (["--calibration", "zoo:phrases:evaluation"], "texts of the calibration set"),
        (["--weights", "edgevit/zoo/checkpoints/tags-gru/model.safetensors"], "expected"),
    ],
)
def test_an_export_that_makes_no_sense(
    inside: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    repository: Path,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(repository)
    finished = inside("export", "zoo:phrases-transformer", tmp_path / "out", *arguments)
    assert finished.status == 2
    assert expected in finished.complaint
    assert not (tmp_path / "out").exists()
