from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest

from edgevit.errors import UnavailableError
from edgevit.report.data import ReportData
from edgevit.report.html import render_html
from edgevit.types import LayerParity

HOSTILE = "\"><script>alert('x')</script>&<img src=http://evil.example/x onerror=alert(1)>{{ 7*7 }}\x1b[31m\u202e"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The elements and the visible text of a page; fails when a tag is closed that was not open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html(data: ReportData, pictures: dict[str, bytes]) -> str:
    return render_html(data, pictures)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def untrained_page(untrained: ReportData, pictures: dict[str, bytes]) -> Page:
    return Page(render_html(untrained, pictures))


def test_the_same_data_gives_the_same_bytes(data: ReportData, pictures: dict[str, bytes], html: str) -> None:
    assert render_html(data, pictures) == html


def test_the_page_needs_nothing_but_itself(html: str, page: Page) -> None:
    assert "http" not in re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html)
    assert "@import" not in html and "url(" not in re.sub(r"url\(#[a-z]+-\d+\)", "", html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "base", "form"}
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith("data:image/png;" if tag == "img" else "#")
    policy = next(meta["content"] for meta in page.named("meta") if "http-equiv" in meta)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_every_section_is_there(page: Page) -> None:
    sections = [attributes.get("id") for attributes in page.named("section")]
    assert sections == ["summary", "plots", "ladder", "layers", "samples", "measurements", "plan", "origin"]
    assert len(page.named("svg")) == 4


def test_every_build_is_listed_with_its_verdict_and_files(data: ReportData, page: Page) -> None:
    for build in data.builds:
        assert build.name in page.text
        for file in build.files:
            assert file.path in page.text and file.sha256 in page.text
    for word in ("passed", "failed", "inconclusive", "built, not executed", "worth it", "not worth it"):
        assert word in page.words
    assert data.command in page.text
    assert "disjoint from evaluation yes" in page.text


def test_a_build_that_was_not_executed_is_never_marked_as_passed(html: str) -> None:
    summary = html[html.index('<section id="summary"') : html.index("</section>")]
    rows = re.findall(r"<tr role=\"row\">.*?</tr>", summary, flags=re.DOTALL)
    idle = [row for row in rows if "tensorrt-rtx-int8" in row]
    assert len(idle) == 1
    assert "built, not executed" in idle[0] and 'class="value idle"' in idle[0]
    assert "passed" not in idle[0] and "good" not in idle[0]


def test_tables_and_pictures_can_be_read_aloud(page: Page) -> None:
    headers = page.named("th")
    assert {attributes["scope"] for attributes in headers} == {"col", "row"}
    assert all(attributes.get("aria-label") for attributes in page.named("svg"))
    images = page.named("img")
    assert [attributes["alt"] for attributes in images] == [
        "Sample digit-0812, truth 3",
        "Sample digit-0077, truth 7",
    ]
    assert "no picture" in page.text
    assert ("html", {"lang": "en"}) in page.elements
    headings = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(headings))


def test_the_page_has_a_light_and_a_dark_theme_and_fits_a_phone(html: str, page: Page) -> None:
    assert "@media (prefers-color-scheme: dark)" in html
    assert "@media (max-width: 44rem)" in html
    assert any(meta.get("name") == "viewport" for meta in page.named("meta"))
    # Every colour that a plot asks for is set for both themes.
    asked = set(re.findall(r"var\(--([\w-]+), #", html))
    light, dark = html.split("@media (prefers-color-scheme: dark)")[:2]
    for name in asked:
        assert f"--{name}:" in light and f"--{name}:" in dark.split("* { box-sizing")[0]


def test_worst_samples_show_what_each_side_says(page: Page) -> None:
    assert "digit-0812 truth 3 reference 3 Q/DQ simulated 3 0.77" in page.text
    assert "onnxruntime-int8w 8 1.7" in page.text


def test_an_untrained_model_is_marked_and_has_no_accuracy(untrained_page: Page) -> None:
    text = untrained_page.text
    assert "untrained: speed and size only." in text
    for word in ("top-1", "agreement", "accuracy -", "McNemar", "97.22", "99.44", "points", "digit-0812"):
        assert word not in text
    assert untrained_page.named("img") == []
    assert "0.57 ×" in text and "0.81" in text


def test_hostile_names_are_shown_and_nothing_else(data: ReportData, pictures: dict[str, bytes]) -> None:
    assert data.parity is not None and data.plan is not None and data.calibration is not None
    rungs = tuple(
        msgspec.structs.replace(
            rung,
            name=HOSTILE,
            reason=HOSTILE,
            target=HOSTILE if rung.target else "",
            worst=tuple(
                msgspec.structs.replace(w, reference=HOSTILE, build=HOSTILE, truth=HOSTILE) for w in rung.worst
            ),
        )
        for rung in data.parity.rungs
    )
    parity = msgspec.structs.replace(
        data.parity,
        set=HOSTILE,
        rungs=rungs,
        layers=(LayerParity(name=HOSTILE, sqnr_db=30.0, reason=HOSTILE),),
        first_divergent_layer=HOSTILE,
    )
    hostile = msgspec.structs.replace(
        data,
        model=HOSTILE,
        digest=HOSTILE,
        task=HOSTILE,
        created=HOSTILE,
        command=HOSTILE,
        warnings=(HOSTILE,),
        builds=tuple(msgspec.structs.replace(build, target=HOSTILE, reason=HOSTILE) for build in data.builds),
        machine=msgspec.structs.replace(data.machine, cpu=HOSTILE, packages={HOSTILE: HOSTILE}),
        parity=parity,
        calibration=msgspec.structs.replace(data.calibration, set=HOSTILE),
    )
    html = render_html(hostile, pictures)
    found = Page(html)
    assert not {tag for tag, _ in found.elements} & {"script", "link", "iframe"}
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in found.named("img"))
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert "{{ 7*7 }}" in found.text
    assert "\x1b" not in html and "\u202e" not in html


@pytest.mark.parametrize("part", ["bench", "parity", "plan", "calibration"])
def test_a_report_without_one_part_still_renders(data: ReportData, part: str) -> None:
    page = Page(render_html(msgspec.structs.replace(data, **{part: None})))
    assert all(build.name in page.text for build in data.builds)


def test_a_report_of_a_machine_alone_still_renders(data: ReportData) -> None:
    empty = ReportData(model="m", digest="", task="", trained=True, created="", machine=data.machine, builds=())
    assert "No builds" in Page(render_html(empty)).text


def test_another_measuring_machine_is_described_as_well(data: ReportData, page: Page) -> None:
    assert data.bench is not None
    device = msgspec.structs.replace(data.machine, cpu="Cortex-A76")
    moved = msgspec.structs.replace(data, bench=msgspec.structs.replace(data.bench, machine=device))
    text = Page(render_html(moved)).text
    assert "Cortex-A76" in text and "EPYC" in text and "Machine that measured it" in text
    assert "Machine that measured it" not in page.text


def test_warnings_of_engines_and_measurements_are_shown_once(data: ReportData) -> None:
    assert data.bench is not None and data.builds[0].execution is not None
    execution = msgspec.structs.replace(data.builds[0].execution, warnings=("saturates without VNNI",))
    builds = (msgspec.structs.replace(data.builds[0], execution=execution), *data.builds[1:])
    bench = msgspec.structs.replace(data.bench, warnings=("latency drifted by +9%", data.warnings[0]))
    text = Page(render_html(msgspec.structs.replace(data, builds=builds, bench=bench))).text
    assert "openvino-float32: saturates without VNNI" in text
    assert "latency drifted by +9%" in text
    assert text.count(data.warnings[0]) == 1


def test_a_missing_jinja2_names_its_extra(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UnavailableError, match=r"jinja2.*edgevit\[report\]"):
        render_html(data)
