"""Pages that translate and classify texts: whole phrases typed into them give what Python's `predict` gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import edgevit
from edgevit.targets.browser.chromium import find_browser

pytestmark = pytest.mark.skipif(
    find_browser() is None or shutil.which("npm") is None,
    reason="no browser or no npm here, so no page was built and executed; sudo apt-get install chromium npm",
)

RECIPE = """
model = "zoo:phrases-transformer"
targets = ["web:float32", "web:int8", "onnxruntime:float32"]
plan.equalize = []
plan.ranges = "min-max"
plan.weights = "min-max"
plan.bias_correction = false
calibration.samples = 16
evaluation.samples = 24
parity.layers = 0
bench.enabled = false
"""
PHRASES = [
    "am Dienstag, dem 3. März",
    "um halb vier",
    "im Ma\u0308rz",
    "  am\n Freitag ",
    "drei Kilogramm",
    "am 12. Mai ☃",
]
"""One with its accent apart, one of two lines, one with a letter that has no token."""


@pytest.fixture(scope="module")
def phrases(once: Callable[..., Path], edgevit: Callable[..., Any]) -> Path:
    """`zoo:phrases-transformer` for the web in both precisions; not to be changed."""

    def make(place: Path) -> None:
        (place / "recipe.toml").write_text(RECIPE)
        done = edgevit("export", "zoo:phrases-transformer", place / "out", "--recipe", place / "recipe.toml")
        if "expected npm to fetch" in done.err:
            pytest.skip(f"no build was made, for npm reaches no registry from here: {done.complaint}")
        assert done.status == 0, done.err

    return once("web-phrases", make) / "out"


@pytest.fixture
def kinds(
    phrases: Path, text_bundle: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """A bundle with a tiny classifier, and the page of its build of ONNX Runtime, which is the web's too."""
    from edgevit.bundle import open_bundle
    from edgevit.targets import web
    from edgevit.targets.browser.package import FILES
    from edgevit.types import FloatModel

    bundle = text_bundle("kinds")
    monkeypatch.setattr(
        web, "fetch_runtime", lambda out: [shutil.copy(phrases / "web-float32" / name, out / name) for name in FILES]
    )
    manifest = open_bundle(bundle).manifest
    model = FloatModel(
        name="tiny-kinds", module=None, signature=manifest.signature, task=manifest.task, labels=manifest.labels,
        preprocess=manifest.preprocess, trained=False, files={"tokenizer.json": bundle / "tokenizer.json"},
    )  # fmt: skip
    shutil.copytree(bundle / "onnxruntime-float32", tmp_path / "page")
    web.complete(model, {"": manifest.signature}, tmp_path / "page")
    return bundle, tmp_path / "page"


# --------------------------------------------------------------------------------------- in the session


def test_both_precisions_are_executed_and_proven(phrases: Path) -> None:
    report = json.loads((phrases / "report.json").read_text(encoding="utf-8"))
    rungs = {rung["name"]: rung for rung in report["parity"]["rungs"]}
    for name, floor in (("web-float32", 80), ("web-int8", 15)):
        assert rungs[name]["verdict"] in ("passed", "inconclusive"), rungs[name]["reason"]
        assert rungs[name]["closeness"]["sqnr_db"] > floor
    assert rungs["web-float32"]["tokens"]["agreement"] == 100.0
    builds = json.loads((phrases / "manifest.json").read_text(encoding="utf-8"))["builds"]
    golden = {f"{build['target']}-{build['precision']}": build["golden_sqnr_db"] for build in builds}
    assert golden["web-float32"] > 80 and golden["web-int8"] > 15
    assert [part["name"] for part in builds[0]["parts"]] == ["encoder", "decoder"]


def test_the_commands_take_it_as_any_other_target(phrases: Path, inside: Callable[..., Any], tmp_path: Path) -> None:
    web = ("--target", "web:float32")
    pairs = [("um drei Uhr", "at three o'clock"), (PHRASES[0], "on Tuesday, March 3")]
    (tmp_path / "few.jsonl").write_text("".join(json.dumps({"text": a, "target": b}) + "\n" for a, b in pairs))
    assert inside("run", phrases, *web, PHRASES[0]).out == f"{PHRASES[0]}: on Tuesday, March 3\n"
    verified = inside("verify", phrases)
    assert verified.status == 0 and "web-int8" in verified.out
    quick = ("--seconds", 0.05, "--rounds", 1, "--cold-starts", 0, "--tokens", 4, "--threads", 1)
    measured = inside("bench", phrases, *web, *quick, "--json")
    assert measured.status == 0, measured.err
    (entry,) = json.loads(measured.out)["entries"]
    assert entry["target"] == "web" and entry["generation"]["next_token"]["p50"] > 0
    compared = inside("parity", phrases, *web, "--evaluation", tmp_path / "few.jsonl")
    assert compared.status == 0 and "web-float32" in compared.out


def test_a_loop_in_the_page_goes_on_with_the_rows_that_are_asked_for(phrases: Path) -> None:
    """Texts of different lengths end at different steps; beams are put in another order at each."""
    with edgevit.load(phrases, "web:float32") as page, edgevit.load(phrases, "onnxruntime:float32") as native:
        assert [one.text for one in page.predict(PHRASES)] == [one.text for one in native.predict(PHRASES)]
        beams = [[one.tokens for one in model.predict(PHRASES, beams=3)] for model in (page, native)]
        assert beams[0] == beams[1]
        assert "".join(page.stream(PHRASES[0])) == native.predict(PHRASES[0]).text


# ------------------------------------------------------------------------------------------- in the page


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_phrases_typed_into_the_page_are_translated_as_in_python(phrases: Path, precision: str) -> None:
    from real_page import RealPage

    with edgevit.load(phrases, f"web:{precision}") as model:
        expected = model.predict(PHRASES)
    if precision == "float32":
        with edgevit.load(phrases, "onnxruntime:float32") as native:
            assert [one.text for one in native.predict(PHRASES)] == [one.text for one in expected]
    with RealPage(phrases / f"web-{precision}") as page:
        assert page.text("title") == "phrases-transformer" and page.text("go") == "Translate"
        for phrase, one in zip(PHRASES, expected, strict=True):
            assert page.type(phrase) == one.text, phrase
            assert ("unknown to the vocabulary" in page.text("state")) == bool(one.notes), one.notes
        assert page.type("   ") == ""
        assert page.text("state") == "This text cannot be read: there is no word in it"
        assert "96 at most" in (page.type("am Dienstag " * 60), page.text("state"))[1]
        assert page.type(PHRASES[0]) == expected[0].text, "the page lives on"
        own = [one for one in page.requested if not one.startswith(("data:", "blob:"))]
        assert own and all(one.startswith(page.address) for one in own), page.requested


def test_beams_of_the_page_are_pythons(phrases: Path, tmp_path: Path) -> None:
    from real_page import RealPage

    shutil.copytree(phrases / "web-float32", tmp_path / "page")
    description = json.loads((tmp_path / "page" / "model.json").read_text(encoding="utf-8"))
    description["generation"] |= {"beams": 4, "length_penalty": 0.6}
    (tmp_path / "page" / "model.json").write_text(json.dumps(description))
    with edgevit.load(phrases, "onnxruntime:float32") as native:
        expected = [one.text for one in native.predict(PHRASES, beams=4, length_penalty=0.6)]
    with RealPage(tmp_path / "page") as page:
        assert [page.type(phrase) for phrase in PHRASES] == expected


def test_a_page_of_classes_shows_the_labels_of_python(kinds: tuple[Path, Path]) -> None:
    from real_page import RealPage
    from text_models import TEXTS

    bundle, folder = kinds
    with edgevit.load(bundle, "onnxruntime") as model:
        expected = model.predict(TEXTS)
    assert len({one.label for one in expected}) > 1
    with RealPage(folder) as page:
        assert page.text("go") == "Classify"
        for text, one in zip(TEXTS, expected, strict=True):
            assert page.type(text) == one.label
            rows = page.run("[...document.querySelectorAll('#labels tr')].map((row) => row.innerText.split('\\t'))")
            assert [tuple(row) for row in rows] == [(label, f"{100 * score:.1f} %") for label, score in one.top]


def test_a_folder_that_is_not_whole_is_said_on_the_page(phrases: Path, tmp_path: Path) -> None:
    from real_page import RealPage

    shutil.copytree(phrases / "web-float32", tmp_path / "page")
    (tmp_path / "page" / "target-tokenizer.json").unlink()
    with RealPage(tmp_path / "page") as page:
        assert "target-tokenizer.json must lie beside this page" in page.text("state")
        assert page.run("document.getElementById('go').disabled")


def test_every_field_of_the_page_has_a_name(repository: Path) -> None:
    """For people who do not see it: labels, a language, a heading, and messages that are read out."""
    page = repository / "edgevit" / "targets" / "browser" / "page" / "texts" / "index.html"
    tags: list[tuple[str, dict[str, str | None]]] = []

    class Read(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            tags.append((tag, dict(attributes)))

    Read().feed(page.read_text(encoding="utf-8"))
    named = {attributes["id"]: (tag, attributes) for tag, attributes in tags if "id" in attributes}
    labelled = {attributes["for"] for tag, attributes in tags if tag == "label"}
    for tag, attributes in tags:
        if tag in ("textarea", "input", "select"):
            assert attributes["id"] in labelled
        for reference in ("aria-describedby", "aria-labelledby", "for"):
            assert attributes.get(reference, "text") in named
    assert dict(tags)["html"]["lang"] == "en" and "main" in dict(tags) and "h1" in dict(tags)
    assert named["state"][1]["role"] == "status" and named["result"][0] == "output"


# -------------------------------------------------------------------------------------- what is refused


def test_a_task_without_a_page_is_one_line_before_any_work(edgevit: Callable[..., Any], tmp_path: Path) -> None:
    done = edgevit("export", "zoo:tags-gru", tmp_path / "out", "--target", "web:float32")
    assert done.status == 2
    assert "for web, which has a page for these, found tags-gru for token-classification" in done.complaint
    assert "tracing" not in done.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"normalizer": {"type": "Nmt"}}, "(normalizer: Sequence, NFC, "),
        ({"decoder": {"type": "CTC"}}, "found CTC in "),
        (
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": r"\w+"}}]}},
            r"found '\\w+' in the pre_tokenizer of ",
        ),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "(?i:a)"}, "content": ""}}, "found '(?i:a)' in the"),
    ],
)
def test_a_tokenizer_that_the_page_does_not_know(
    tokenizer_file: Path, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    from edgevit.errors import InputError
    from edgevit.targets.browser.tokenizers import check_tokenizer

    content = json.loads(tokenizer_file.read_text(encoding="utf-8"))
    check_tokenizer(tokenizer_file, "web")
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
    with pytest.raises(InputError, match="build onnxruntime") as caught:
        check_tokenizer(tmp_path / "tokenizer.json", "web")
    assert words in str(caught.value) and "\n" not in str(caught.value)
