from __future__ import annotations

import re
import sys

import msgspec
import pytest

from edgevit.errors import UnavailableError
from edgevit.report.data import ReportData
from edgevit.report.layer_plot import layer_sqnr
from edgevit.report.plots import accuracy_against_latency, latency_distributions, plots, sizes
from edgevit.report.svg import Plot
from edgevit.report.thread_plot import latency_by_threads
from edgevit.types import LayerParity


@pytest.fixture(scope="module")
def drawn(data: ReportData) -> tuple[Plot, ...]:
    layers = layer_sqnr(data.parity) if data.parity else None
    assert layers is not None
    return (*plots(data), layers)


def box(plot: Plot | None) -> tuple[float, float]:
    assert plot is not None
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', plot.svg)
    assert found is not None
    return float(found[1]), float(found[2])


def test_there_is_one_plot_of_each_kind(drawn: tuple[Plot, ...]) -> None:
    assert [plot.name for plot in drawn] == ["accuracy", "latency", "size", "layers"]


def test_the_same_data_gives_the_same_bytes(data: ReportData, drawn: tuple[Plot, ...]) -> None:
    assert plots(data) == drawn[:3]


def test_an_svg_needs_nothing_from_outside_and_its_ids_are_its_own(drawn: tuple[Plot, ...]) -> None:
    seen: list[str] = []
    for plot in drawn:
        assert plot.svg.startswith('<svg role="img" aria-label="')
        assert plot.svg.endswith("</svg>")
        assert "http" not in plot.svg and "<metadata" not in plot.svg and "<!--" not in plot.svg
        ids = re.findall(r'\sid="([^"]+)"', plot.svg)
        assert all(name.startswith(f"{plot.name}-") for name in ids)
        assert set(re.findall(r"#([a-z]+-\d+)", plot.svg)) == set(ids)
        seen += ids
    assert len(seen) == len(set(seen)) > 0


def test_colours_follow_the_theme_of_the_page(drawn: tuple[Plot, ...]) -> None:
    for plot in drawn:
        assert "var(--ink, #1f2329)" in plot.svg
        assert not re.search(r"(?<!, )#[0-9a-f]{6}\b", plot.svg)


def test_each_build_is_named_in_text_and_described(data: ReportData, drawn: tuple[Plot, ...]) -> None:
    accuracy, latency, size, _ = drawn
    for build in data.builds:
        assert f">{build.name}<" in size.svg and build.name in size.description
        if build.verdict != "not executed":
            assert f">{build.name}<" in accuracy.svg and f">{build.name}<" in latency.svg
            assert build.name in accuracy.description
    assert "tensorrt-rtx-int8" not in accuracy.svg + latency.svg
    assert "openvino-int8: 97.08 % at 0.23 ms" in accuracy.description


def test_axes_carry_their_units(drawn: tuple[Plot, ...]) -> None:
    accuracy, latency, size, layers = (plot.svg for plot in drawn)
    assert ">top-1, %<" in accuracy and ">latency p50, ms at batch 1, 2 threads, 1 stream<" in accuracy
    assert ">latency, ms, at batch 1" in latency
    assert ">size on disk, MB<" in size
    assert ">SQNR, dB (higher is closer to float)<" in layers


def test_a_build_that_was_not_executed_is_dashed_in_the_sizes(data: ReportData, drawn: tuple[Plot, ...]) -> None:
    assert "Dashed: built, not executed here." in drawn[2].note
    executed = sizes(msgspec.structs.replace(data, builds=data.builds[:-1]))
    assert executed is not None
    assert "Dashed" not in executed.note and "stroke-dasharray" not in executed.svg
    assert "stroke-dasharray" in drawn[2].svg


def test_an_untrained_model_has_no_plot_of_accuracy(untrained: ReportData) -> None:
    assert accuracy_against_latency(untrained) is None
    assert [plot.name for plot in plots(untrained)] == ["latency", "size"]


def test_without_labels_agreement_takes_the_place_of_accuracy(data: ReportData) -> None:
    assert data.parity is not None
    rungs = tuple(msgspec.structs.replace(rung, task=None, flips=None) for rung in data.parity.rungs)
    plot = accuracy_against_latency(
        msgspec.structs.replace(data, parity=msgspec.structs.replace(data.parity, rungs=rungs))
    )
    assert plot is not None
    assert plot.title == "agreement against latency"
    assert ">agreement, %<" in plot.svg and "float reference" not in plot.svg


def test_parts_that_were_not_made_leave_no_empty_plot(data: ReportData) -> None:
    assert [plot.name for plot in plots(msgspec.structs.replace(data, bench=None))] == ["size"]
    assert [plot.name for plot in plots(msgspec.structs.replace(data, parity=None))] == ["latency", "size"]
    assert plots(msgspec.structs.replace(data, builds=(), bench=None)) == ()
    assert data.parity is not None
    assert layer_sqnr(msgspec.structs.replace(data.parity, layers=())) is None


def layers(count: int) -> tuple[LayerParity, ...]:
    return tuple(LayerParity(name=f"blocks.{i}.mlp.fc1.weight", sqnr_db=40.0 - 0.2 * i) for i in range(count))


def test_many_layers_get_the_height_they_need(data: ReportData) -> None:
    assert data.parity is not None
    few = layer_sqnr(msgspec.structs.replace(data.parity, layers=layers(12)))
    many = layer_sqnr(msgspec.structs.replace(data.parity, layers=layers(96)))
    assert box(many)[0] == box(few)[0]
    # Every row keeps more room than its 7-point name needs.
    assert (box(many)[1] - box(few)[1]) / 84 > 9
    assert many is not None
    assert all(f">blocks.{i}.mlp.fc1.weight<" in many.svg for i in range(96))


def test_the_first_divergent_layer_is_pointed_at(drawn: tuple[Plot, ...]) -> None:
    assert drawn[3].svg.count(">first divergent<") == 1
    assert "First divergent: blocks.2.mlp.fc2.weight." in drawn[3].description


def test_an_exact_layer_does_not_flatten_the_others(data: ReportData) -> None:
    assert data.parity is not None
    exact = LayerParity(name="exact", sqnr_db=300.0, own_sqnr_db=300.0)
    plot = layer_sqnr(msgspec.structs.replace(data.parity, layers=(*layers(3), exact), first_divergent_layer=None))
    assert plot is not None
    assert ">∞<" in plot.svg and ">40<" in plot.svg and ">100<" not in plot.svg
    assert plot.description.endswith("None diverges.")


def test_hostile_names_stay_text(data: ReportData) -> None:
    name = '<script>alert(1)</script>$\\frac{$ & " #1f2329'
    hostile = msgspec.structs.replace(data.builds[0], target=name)
    plot = sizes(msgspec.structs.replace(data, builds=(hostile,)))
    assert plot is not None
    assert "<script" not in plot.svg
    assert "&lt;script" in plot.svg
    assert "&quot;" in plot.svg.split(">")[0]


def test_a_wide_range_of_latencies_is_drawn_on_a_logarithmic_axis(data: ReportData) -> None:
    assert data.bench is not None
    entries = list(data.bench.entries[:2])
    slow = msgspec.structs.replace(entries[1].latency, p50=40.0, p99=44.0, samples=(39.0, 40.0, 44.0))
    entries[1] = msgspec.structs.replace(entries[1], latency=slow)
    wide = msgspec.structs.replace(data, bench=msgspec.structs.replace(data.bench, entries=tuple(entries)))
    for plot in (accuracy_against_latency(wide), latency_distributions(wide)):
        assert plot is not None and "10" in plot.svg
    plot = latency_distributions(wide)
    assert plot is not None and ">40.000<" in plot.svg and ">44.000<" in plot.svg


def test_equal_samples_are_drawn_too(data: ReportData) -> None:
    assert data.bench is not None
    latency = msgspec.structs.replace(data.bench.entries[0].latency, p50=1.0, p90=1.0, p99=1.0, samples=(1.0,) * 50)
    entry = msgspec.structs.replace(data.bench.entries[0], latency=latency)
    flat = msgspec.structs.replace(data, bench=msgspec.structs.replace(data.bench, entries=(entry,)))
    assert latency_distributions(flat) is not None


def test_the_callers_own_matplotlib_settings_are_neither_used_nor_changed(data: ReportData) -> None:
    import matplotlib

    before = sizes(data)
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        kept = dict(matplotlib.rcParams)
        assert sizes(data) == before
        assert dict(matplotlib.rcParams) == kept


def test_a_missing_matplotlib_names_its_extra(data: ReportData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UnavailableError, match=r"matplotlib.*edgevit\[report\]"):
        sizes(data)


def test_latency_over_threads_has_a_line_per_build_and_a_tick_per_count(data: ReportData) -> None:
    assert data.bench is not None
    assert latency_by_threads(data.bench) is None and latency_by_threads(None) is None
    swept = tuple(
        msgspec.structs.replace(
            entry,
            threads=threads,
            latency=msgspec.structs.replace(entry.latency, p50=entry.latency.p50 / threads),
        )
        for entry in data.bench.entries
        for threads in (4, 1, 2)
    )
    plot = latency_by_threads(msgspec.structs.replace(data.bench, entries=swept))
    assert plot is not None and plot.name == "threads"
    smallest = min(entry.batch_size for entry in swept)
    names = {entry.name for entry in swept if entry.batch_size == smallest}
    for name in names:
        assert f"{name}: " in plot.description and f">{name}<" in plot.svg
    assert plot.description.count("with 4") == plot.description.count("with 1,") == len(names)
    assert [f">{count}</text>" in plot.svg for count in (1, 2, 3, 4)] == [True, True, False, True]
    with_plot = plots(msgspec.structs.replace(data, bench=msgspec.structs.replace(data.bench, entries=swept)))
    assert [one.name for one in with_plot] == ["accuracy", "latency", "threads", "size"]
