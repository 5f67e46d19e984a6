"""What a report of a model of texts shows besides: corpus scores, accuracy by length, the worst texts as texts."""

from __future__ import annotations

import msgspec
import pytest

from edgevit.report import at_terminal
from edgevit.report.data import ReportData
from edgevit.report.html import render_html
from edgevit.report.markdown import render_markdown
from edgevit.report.texts import accuracy_by_length, lengths_table, translations_table, worst_table
from edgevit.types import CorpusScore, Interval, LengthBin, Rung, TokenAgreement, WorstSample

LEVEL = 0.95
WORST = WorstSample(
    name="<b>am</b> 3. März", score=0.7, reference="on March 3", build="on May 3", truth="on the 3rd of March"
)


def of_texts(rung: Rung, loss: float) -> Rung:
    if rung.verdict == "not executed":
        return rung
    score = CorpusScore(
        metric="BLEU",
        reference=91.25,
        build=91.25 - loss,
        difference=-loss,
        interval=Interval(low=-loss - 0.5, high=-loss + 0.5, level=LEVEL),
    )
    bins = [(1, 4, 200, 99.0), (5, 8, 100, 95.0), (9, 12, 60, 71.5)]
    return msgspec.structs.replace(
        rung,
        scores=(score, msgspec.structs.replace(score, metric="chrF")),
        tokens=TokenAgreement(tokens=4321, agreement=99.5),
        lengths=tuple(
            LengthBin(low=low, high=high, answers=count, reference=right, build=right - loss, agreement=99.0)
            for low, high, count, right in bins
        ),
        worst=(WORST,),
        task=None if rung.task is None else msgspec.structs.replace(rung.task, metric="exact match"),
    )


@pytest.fixture
def texts(data: ReportData) -> ReportData:
    parity = data.parity
    assert parity is not None
    rungs = tuple(of_texts(rung, 0.25 * place) for place, rung in enumerate(parity.rungs))
    return msgspec.structs.replace(
        data, task="translation", parity=msgspec.structs.replace(parity, rungs=rungs), model="zoo:phrases-transformer"
    )


def test_corpus_scores_have_their_difference_and_interval(texts: ReportData) -> None:
    assert texts.parity is not None
    table = translations_table(texts.parity)
    assert table is not None
    assert [column.title for column in table.columns] == ["compared", "BLEU", "chrF", "next token"]
    second = table.rows[1]
    assert (second[1].text, second[1].note) == ("91.00", "−0.25 [−0.75, +0.25]")
    assert (second[3].text, second[3].note) == ("99.50", "of 4\u202f321 tokens")
    assert "The float reference has BLEU 91.25, chrF 91.25" in table.caption
    assert "95 % interval" in table.caption


def test_accuracy_by_length_has_the_reference_and_every_rung(texts: ReportData) -> None:
    assert texts.parity is not None
    table = lengths_table(texts.parity)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["1 to 4", "5 to 8", "9 to 12"]
    assert [cell.text for cell in table.rows[2][:5]] == ["9 to 12", "60", "71.50", "71.50", "71.25"]
    assert table.caption == "Percent exact match, by how many tokens the text has."
    plot = accuracy_by_length(texts.parity)
    assert plot is not None
    assert "reference" in plot.svg
    assert "71.5 % at 9 to 12" in plot.description


def test_the_worst_texts_are_a_table(texts: ReportData) -> None:
    table = worst_table(texts)
    assert table is not None
    assert [column.title for column in table.columns] == ["text", "truth", "reference", "compared", "it says", "KL"]
    first, second = table.rows[:2]
    assert [cell.text for cell in first[:3]] == ["<b>am</b> 3. März", "on the 3rd of March", "on March 3"]
    assert (first[4].text, first[4].tone) == ("on May 3", "bad")
    assert second[0].text == ""


def test_the_page_and_the_markdown_show_them(texts: ReportData) -> None:
    page = render_html(texts)
    for words in ("Worst texts", "By the length of the text", "Translations", "exact match by length"):
        assert words in page, words
    assert "&lt;b&gt;am" in page
    assert "no picture" not in page
    markdown = render_markdown(texts)
    assert "| 9 to 12 | 60 |" in markdown
    assert "BLEU" in markdown


def test_images_have_none_of_it(data: ReportData) -> None:
    page, markdown = render_html(data), render_markdown(data)
    for words in ("Worst texts", "By the length", "BLEU"):
        assert words not in page
        assert words not in markdown
    assert "Worst samples" in page


def test_the_terminal_has_bleu_beside_exact_match(texts: ReportData) -> None:
    assert texts.parity is not None
    titles = [column.title for column in at_terminal.ladder(texts.parity).columns]
    assert titles[:5] == ["compared", "verdict", "exact", "Δ", "agree"]
    assert {"BLEU", "chrF", "next"} <= set(titles)
    assert "BLEU" in [column.title for column in at_terminal.summary(texts).columns]


def test_an_untrained_model_has_no_score_and_no_text(texts: ReportData) -> None:
    untrained = msgspec.structs.replace(texts, trained=False)
    page = render_html(untrained)
    for words in ("91.25", "exact match", "on May 3", "By the length", "Worst texts"):
        assert words not in page, words
    assert untrained.parity is not None
    assert translations_table(untrained.parity) is None
    assert lengths_table(untrained.parity) is None
    assert accuracy_by_length(untrained.parity) is None


def test_without_labels_agreement_is_shown(texts: ReportData) -> None:
    assert texts.parity is not None
    rungs = tuple(
        msgspec.structs.replace(
            rung,
            labelled=False,
            task=None,
            flips=None,
            scores=(),
            lengths=tuple(msgspec.structs.replace(one, reference=None, build=None) for one in rung.lengths),
        )
        for rung in texts.parity.rungs
    )
    parity = msgspec.structs.replace(texts.parity, rungs=rungs)
    table = lengths_table(parity)
    assert table is not None
    assert table.rows[0][2].text == "99.00"
    assert "agreement with the reference" in table.caption
    plot = accuracy_by_length(parity)
    assert plot is not None
    assert plot.title == "agreement by length"
