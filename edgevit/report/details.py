"""The tables below the summary: measurements, ladder, layers, samples, plan, files, costs, machine."""

from __future__ import annotations

from edgevit.report import formats
from edgevit.report.data import CalibrationFacts, PlanSummary, StageCost, without_accuracy
from edgevit.report.facts import margin_reason
from edgevit.report.rows import (
    VERDICT,
    VERDICT_TONES,
    VERDICT_WORDS,
    Cell,
    Column,
    Table,
    agreement_cell,
    task_cell,
    used,
)
from edgevit.types import BenchEntry, BenchReport, Build, ColdStart, Machine, ParityReport, Rung

_WIDE = 120


def bench_table(bench: BenchReport) -> Table:
    """One row per build and setting; times in milliseconds, throughput in items per second."""
    entries = bench.entries
    places = formats.places_for(entry.latency.p50 for entry in entries)
    unit = formats.size_unit([entry.peak_memory_bytes for entry in entries])

    def numbers(values: list[float]) -> list[Cell]:
        return [Cell(formats.number(value, places)) for value in values]

    columns = [
        (Column("build", align="left", kind="name"), [Cell(formats.clean(entry.name, 80)) for entry in entries]),
        (Column("batch"), [Cell(str(entry.batch_size)) for entry in entries]),
        (Column("threads"), [Cell(str(entry.threads)) for entry in entries]),
        (Column("streams"), [Cell(str(entry.streams)) for entry in entries]),
        (Column("p50", "ms"), numbers([entry.latency.p50 for entry in entries])),
        (Column("ratio", "×"), [_ratio(entry) for entry in entries]),
        (Column("p90", "ms"), numbers([entry.latency.p90 for entry in entries])),
        (Column("p99", "ms"), numbers([entry.latency.p99 for entry in entries])),
        (Column("drift", "%"), [_drift(entry) for entry in entries]),
        (Column("throughput", "items/s"), [Cell(_rate(entry.throughput)) for entry in entries]),
        (Column("cold start", "ms"), [_cold(entry.cold_start) for entry in entries]),
        (Column("cached", "ms"), [_cached(entry.cold_start) for entry in entries]),
        (Column("peak memory", unit.name), [Cell(formats.size(entry.peak_memory_bytes, unit)) for entry in entries]),
        (Column("calls"), [Cell(formats.number(_calls(entry), 0)) for entry in entries]),
    ]
    caption = (
        f"Each build in its own process, {formats.count(bench.rounds, 'interleaved round')}, "
        f"{formats.duration(bench.seconds)} per build and setting. Ratios are of medians, to the float32 build; "
        "cold start is from the start of the process to the first result, cached with the engine's compile cache warm."
        + images_caption(bench)
        + drift_caption(bench)
    )
    return used("measurements", caption, columns)


def images_caption(bench: BenchReport) -> str:
    """Which builds do their own preprocessing, on images of which size."""
    sizes = {entry.image_size for entry in bench.entries if entry.image_size is not None}
    if not sizes:
        return ""
    inside = dict.fromkeys(formats.clean(entry.name, 80) for entry in bench.entries if entry.image_size is not None)
    given = " or ".join(f"{height} x {width}" for height, width in sorted(sizes))
    return f" {', '.join(inside)}: raw images of {given} pixels, their preprocessing is in every figure."


def drift_caption(bench: BenchReport) -> str:
    if not any(entry.drift is not None for entry in bench.entries):
        return ""
    return " drift: the last third of the rounds against the first, ! where it is more than they scatter."


def drift_text(entry: BenchEntry) -> str:
    """By how many percent it became slower over the rounds, marked where that is more than their scatter."""
    return "" if entry.drift is None else f"{100 * entry.drift:+.0f}{' !' if entry.drifted else ''}"


def _drift(entry: BenchEntry) -> Cell:
    """With what clock and temperature did meanwhile."""
    if entry.drift is None:
        return Cell()
    notes = []
    if entry.conditions is not None:
        first, last = entry.conditions.first, entry.conditions.last
        for before, after, unit in (
            (first.clock_mhz, last.clock_mhz, "MHz"),
            (first.temperature_c, last.temperature_c, "°C"),
        ):
            if before is not None and after is not None:
                notes.append(f"{before:.0f} → {after:.0f} {unit}")
    return Cell(drift_text(entry), ", ".join(notes), "warn" if entry.drifted else "")


def _rate(value: float) -> str:
    return formats.number(value, 0 if value >= 100 else 1)


def _calls(entry: BenchEntry) -> int:
    return entry.latency.calls or len(entry.latency.samples)


def _cold(cold: ColdStart | None) -> Cell:
    if cold is None:
        return Cell()
    return Cell(formats.number(cold.first_ms, 0))


def _cached(cold: ColdStart | None) -> Cell:
    return Cell() if cold is None else Cell(formats.number(cold.cached_ms, 0))


def _ratio(entry: BenchEntry) -> Cell:
    if entry.ratio is None:
        return Cell()
    return Cell(f"{formats.number(entry.ratio.value)} {formats.interval(entry.ratio.interval)}")


def ladder_table(parity: ParityReport) -> Table:
    """One row per rung, from the float ONNX to the last build, each against the float reference."""
    shown = parity if parity.trained else without_accuracy(parity)
    rungs = shown.rungs
    metric = next((rung.task.metric for rung in rungs if rung.task), "top-1")
    close = [rung.closeness for rung in rungs]
    columns = [
        (Column("compared", align="left", kind="name"), [Cell(formats.clean(rung.name, 80)) for rung in rungs]),
        (VERDICT, [_rung_verdict(rung, shown.budget_points) for rung in rungs]),
        (Column(formats.clean(metric), "%"), [task_cell(rung) for rung in rungs]),
        (Column("agreement", "%"), [agreement_cell(rung) for rung in rungs]),
        (Column("McNemar", "p"), [_mcnemar(rung) for rung in rungs]),
        (Column("SQNR", "dB"), [Cell() if c is None else Cell(formats.decibels(c.sqnr_db)) for c in close]),
        (
            Column("cosine"),
            [Cell() if c is None else Cell(_cosine(c.cosine_mean), f"lowest {_cosine(c.cosine_min)}") for c in close],
        ),
        (
            Column("KL", "nats"),
            [
                Cell()
                if c is None or c.kl_mean is None
                else Cell(formats.small(c.kl_mean), f"highest {formats.small(c.kl_max)}")
                for c in close
            ],
        ),
        (Column("own preprocessing", "levels"), [preprocessing_cell(rung) for rung in rungs]),
        (Column("largest error"), [Cell() if c is None else Cell(formats.small(c.max_abs_error)) for c in close]),
        (Column("samples"), [Cell(formats.number(rung.samples, 0)) if rung.samples else Cell() for rung in rungs]),
    ]
    return used("ladder", _ladder_caption(shown), columns)


def preprocessing_cell(rung: Rung) -> Cell:
    """How far what a build makes of raw pixels is from the ordinary preprocessing."""
    found = rung.preprocessing
    if found is None:
        return Cell()
    largest = f"mean {formats.small(found.mean)} on {formats.count(found.images, 'image')}"
    return Cell(formats.number(found.largest, 1), largest)


def _ladder_caption(parity: ParityReport) -> str:
    if not parity.trained:
        return "Numerical closeness to the float reference; on random weights it says nothing about accuracy."
    return (
        f"Every stage against the float reference in {formats.clean(parity.reference)}, "
        f"on {formats.clean(parity.set, _WIDE)}. "
        "The first row that falls away is where the damage is done."
    )


def _rung_verdict(rung: Rung, budget: float) -> Cell:
    # Nine rows that all say why they passed would bury the one that says why it did not.
    reason = "" if rung.verdict == "passed" else formats.clean(margin_reason(rung, budget) or rung.reason)
    return Cell(VERDICT_WORDS[rung.verdict], reason, VERDICT_TONES[rung.verdict])


def _mcnemar(rung: Rung) -> Cell:
    return Cell() if rung.flips is None else Cell(formats.small(rung.flips.mcnemar_p))


def _cosine(value: float) -> str:
    return formats.number(value, 5)


def layers_table(parity: ParityReport) -> Table:
    """One row per layer in the order of the graph; the first divergent one is marked."""
    first = parity.first_divergent_layer
    layers = parity.layers
    columns = [
        (
            Column("layer", align="left", kind="code"),
            [
                Cell(
                    formats.clean(layer.name, _WIDE),
                    "first divergent" if layer.name == first else "",
                    "bad" if layer.name == first else "",
                )
                for layer in layers
            ],
        ),
        (
            Column("runs in", align="left"),
            [Cell("int8" if layer.quantized else "float", formats.clean(layer.reason)) for layer in layers],
        ),
        (Column("SQNR of its output", "dB"), [Cell(formats.decibels(layer.sqnr_db)) for layer in layers]),
        (Column("quantized alone", "dB"), [Cell(formats.decibels(layer.own_sqnr_db)) for layer in layers]),
    ]
    return used("layers", "", columns)


def plan_table(plan: PlanSummary) -> Table:
    """The plan in counts."""
    total = plan.quantized + len(plan.skipped)
    facts = [
        ("layers in int8", f"{plan.quantized} of {total}", _counted(plan.kinds)),
        ("activation ranges", _counted(plan.input_methods) or formats.NOTHING, ""),
        ("weight ranges", _counted(plan.weight_methods) or formats.NOTHING, ""),
        ("equalized", str(plan.equalized), ""),
        ("bias corrected", str(plan.bias_corrected), ""),
        ("safe without VNNI", "yes" if plan.safe_without_vnni else "no", ""),
    ]
    return _pairs("plan", [(name, Cell(text, note)) for name, text, note in facts])


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{formats.number(number, 0)} {formats.clean(word, 60)}" for word, number in counts.items())


def skipped_table(plan: PlanSummary) -> Table:
    """Layers left in float, grouped by reason."""
    groups: dict[str, list[str]] = {}
    for layer in plan.skipped:
        groups.setdefault(layer.reason, []).append(formats.clean(layer.name, _WIDE))
    columns = [
        (Column("reason", align="left"), [Cell(formats.clean(reason)) for reason in groups]),
        (Column("layers"), [Cell(str(len(names))) for names in groups.values()]),
        (Column("names", align="left", kind="code"), [Cell(", ".join(names)) for names in groups.values()]),
    ]
    return used("skipped", "", columns)


def calibration_table(calibration: CalibrationFacts) -> Table:
    """The set the ranges come from, its coverage, and whether it is disjoint from the evaluation set."""
    disjoint = {
        True: Cell("yes", "no sample in common, by content hash", "good"),
        False: Cell("no", "samples in common: accuracy here is too kind", "bad"),
        None: Cell("not checked", "", "warn"),
    }[calibration.disjoint]
    rows = [
        ("set", Cell(formats.clean(calibration.set, _WIDE))),
        ("samples", Cell(formats.number(calibration.samples, 0), f"seed {calibration.seed}")),
    ]
    if calibration.classes_seen is not None:
        of = "" if calibration.classes is None else f" of {formats.number(calibration.classes, 0)}"
        rows.append(("classes seen", Cell(f"{formats.number(calibration.classes_seen, 0)}{of}")))
    return _pairs("calibration", [*rows, ("disjoint from evaluation", disjoint)])


def files_table(builds: tuple[Build, ...]) -> Table:
    """Every file of every build with its size and SHA-256."""
    files = [(build, file) for build in builds for file in build.files]
    columns = [
        (Column("file", align="left", kind="code"), [Cell(formats.clean(file.path, _WIDE)) for _, file in files]),
        (Column("size"), [Cell(formats.size(file.size)) for _, file in files]),
        (Column("SHA-256", align="left", kind="code"), [Cell(formats.clean(file.sha256, 64)) for _, file in files]),
    ]
    return used("files", "", columns)


def stages_table(stages: tuple[StageCost, ...]) -> Table:
    """What each stage of the export cost, and the sum."""
    unit = formats.size_unit([stage.peak_bytes for stage in stages])
    names = [Cell(formats.clean(stage.stage, 80)) for stage in stages]
    times = [Cell(formats.number(stage.seconds, 2)) for stage in stages]
    peaks = [Cell(formats.size(stage.peak_bytes, unit)) if stage.peak_bytes else Cell() for stage in stages]
    if len(stages) > 1:
        names.append(Cell("all stages"))
        times.append(Cell(formats.number(sum(stage.seconds for stage in stages), 2)))
        peaks.append(Cell(formats.size(max(stage.peak_bytes for stage in stages), unit)))
    columns = [
        (Column("stage", align="left"), names),
        (Column("time", "s"), times),
        (Column("peak memory", unit.name), peaks),
    ]
    return used("costs", "", columns)


def machine_table(machine: Machine) -> Table:
    rows = [
        (
            "processor",
            Cell(
                formats.clean(machine.cpu),
                f"{formats.count(machine.cores, 'core')}, {formats.clean(machine.architecture, 40)}",
            ),
        ),
        ("instruction sets", Cell(formats.clean(", ".join(machine.instruction_sets)) or formats.NOTHING)),
        ("memory", Cell(formats.size(machine.memory_bytes))),
        ("graphics processor", Cell(formats.clean(machine.gpu) if machine.gpu else "none")),
        ("system", Cell(formats.clean(machine.os))),
        ("Python", Cell(formats.clean(machine.python))),
    ]
    if machine.packages:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(machine.packages.items()))
        rows.append(("packages", Cell(formats.clean(packages, 2000))))
    return _pairs("machine", rows)


def _pairs(name: str, rows: list[tuple[str, Cell]]) -> Table:
    columns = (Column("", align="left"), Column("", align="left"))
    return Table(name=name, columns=columns, rows=tuple((Cell(key), cell) for key, cell in rows))
