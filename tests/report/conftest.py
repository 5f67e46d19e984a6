"""A report as an export of a small classifier leaves it: seven builds in every verdict, one not executed here."""

from __future__ import annotations

import io

import msgspec
import numpy as np
import pytest

from edgevit.report.data import CalibrationFacts, ReportData, StageCost, summarize_plan
from edgevit.types import (
    BenchEntry,
    BenchReport,
    Build,
    BuildFile,
    Closeness,
    ColdStart,
    Engine,
    Execution,
    Flips,
    Interval,
    Latency,
    LayerParity,
    LayerPlan,
    Machine,
    ParityReport,
    QuantPlan,
    Ratio,
    Rung,
    Signature,
    SkippedLayer,
    TaskComparison,
    TensorSpec,
    WorstSample,
)

MACHINE = Machine(
    cpu="AMD EPYC 7713 64-Core Processor",
    architecture="x86_64",
    cores=2,
    memory_bytes=16_700_000_000,
    instruction_sets=("avx2", "fma"),
    os="Linux 6.1 (Debian 12)",
    python="3.11.2",
    packages={"edgevit": "0.1.0", "openvino": "2026.4.1", "onnxruntime": "1.31.0", "torch": "2.13.0", "onnx": "1.23.0"},
)
SIGNATURE = Signature(
    inputs=(TensorSpec(name="pixel_values", dtype="float32", shape=("batch", 1, 48, 48)),),
    outputs=(TensorSpec(name="logits", dtype="float32", shape=("batch", 10)),),
)
REFERENCE = 97.22
# target, precision, bytes, p50 ms, accuracy difference, agreement, SQNR, verdict
BUILDS = (
    ("openvino", "float32", 2_740_000, 0.412, 0.0, 100.0, 118.4, "passed"),
    ("openvino", "bfloat16", 1_390_000, 0.431, 0.0, 99.72, 41.8, "passed"),
    ("openvino", "int8", 812_000, 0.236, -0.14, 99.44, 31.2, "passed"),
    ("onnxruntime", "float32", 2_731_000, 0.518, 0.0, 100.0, 121.0, "passed"),
    ("onnxruntime", "int8", 790_000, 0.334, -0.28, 98.89, 28.7, "inconclusive"),
    ("onnxruntime", "int8w", 744_000, 0.551, -2.36, 94.30, 14.1, "failed"),
    ("tensorrt-rtx", "int8", 1_204_000, None, None, None, None, "not executed"),
)
_SEEN = "accuracy -0.14 points on 360 samples (lost 2, gained 1), 95 % interval -0.42 to +0.14"
REASONS = {
    "passed": f"{_SEEN}: even the lower end is within the budget of 0.5 points",
    "inconclusive": f"{_SEEN}: too few samples for the budget of 0.5 points; at these rates 1450 would decide",
    "failed": "accuracy -2.36 points on 360 samples (lost 9, gained 1), 95 % interval -3.46 to -1.26: "
    "even the upper end is beyond the budget of 0.5 points",
    "not executed": "no NVIDIA driver on this machine",
}


def interval(low: float, high: float) -> Interval:
    return Interval(low=low, high=high, level=0.95)


def build(target: str, precision: str, size: int, verdict: str) -> Build:
    executed = verdict != "not executed"
    int8 = precision == "int8"
    return Build(
        target=target,
        precision=precision,
        files=(
            BuildFile(path=f"{target}-{precision}/model.bin", size=size - 90_000, sha256="3f" * 32),
            BuildFile(path=f"{target}-{precision}/model.xml", size=90_000, sha256="a7" * 32),
        ),
        signature=SIGNATURE,
        engine=Engine(
            name={"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}.get(target, "TensorRT-RTX"), version="2026.4.1"
        ),
        machine=MACHINE,
        execution=Execution(
            precision=precision,
            provider="CPU",
            instruction_set="avx2",
            quantized_requested=50 if int8 else 0,
            quantized_executed=(49 if target == "onnxruntime" else 50) if int8 else 0,
        )
        if executed
        else None,
        verdict=verdict,
        reason=REASONS[verdict],
    )


def rung(name: str, row: tuple, target: str = "", precision: str = "") -> Rung:
    difference, agreement, sqnr, verdict = row
    if verdict == "not executed":
        return Rung(
            name=name,
            target=target,
            precision=precision,
            samples=0,
            labelled=True,
            verdict=verdict,
            reason=REASONS[verdict],
        )
    spread = 0.28 if difference > -1 else 1.1
    return Rung(
        name=name,
        target=target,
        precision=precision,
        samples=360,
        labelled=True,
        task=TaskComparison(
            metric="top-1",
            reference=REFERENCE,
            build=REFERENCE + difference,
            difference=difference,
            interval=interval(difference - spread, difference + spread),
        ),
        agreement=agreement,
        flips=Flips(lost=round(-difference * 3.6) + 1, gained=1, changed=0, mcnemar_p=0.625),
        closeness=Closeness(
            sqnr_db=sqnr,
            cosine_mean=1 - 10 ** (-sqnr / 10),
            cosine_min=1 - 8 * 10 ** (-sqnr / 10),
            kl_mean=10 ** (-sqnr / 10),
            kl_max=30 * 10 ** (-sqnr / 10),
            max_abs_error=10 ** (-sqnr / 20),
        ),
        worst=()
        if sqnr > 100
        else (
            WorstSample(
                name="digit-0812", score=0.81 * 30 / sqnr, reference="3", build="8" if sqnr < 30 else "3", truth="3"
            ),
            WorstSample(name="digit-0077", score=0.44 * 30 / sqnr, reference="1", build="1", truth="7"),
            WorstSample(
                name="digit-1203", score=0.21 * 30 / sqnr, reference="9", build="5" if sqnr < 20 else "9", truth="9"
            ),
        ),
        verdict=verdict,
        reason=REASONS[verdict],
        samples_needed=1450 if verdict == "inconclusive" else None,
    )


def layer_names(depth: int) -> list[str]:
    parts = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    return ["patch_embed.proj.weight", *(f"blocks.{i}.{p}.weight" for i in range(depth) for p in parts), "head.weight"]


def make_layers(depth: int) -> tuple[LayerParity, ...]:
    generator = np.random.default_rng(5)
    names = layer_names(depth)
    return tuple(
        LayerParity(
            name=name,
            sqnr_db=float(48 - 16 * i / len(names) - (13 if i == 12 else 0) + generator.normal(0, 1.5)),
            own_sqnr_db=float(46 + generator.normal(0, 3)),
            quantized="head" not in name,
            reason="kept in float: sensitive" if "head" in name else "",
        )
        for i, name in enumerate(names)
    )


def make_parity(depth: int = 4) -> ParityReport:
    rungs = [
        rung("ONNX float32", (0.0, 100.0, 124.0, "passed")),
        rung("Q/DQ simulated", (-0.14, 99.44, 31.4, "passed")),
    ]
    rungs += [rung(f"{t}-{p}", (d, a, s, v), t, p) for t, p, _, _, d, a, s, v in BUILDS]
    return ParityReport(
        model="zoo:digits-vit",
        model_digest="9c" * 32,
        set="digits-evaluation",
        set_digest="11" * 32,
        budget_points=0.5,
        rungs=tuple(rungs),
        layers=make_layers(depth),
        first_divergent_layer=layer_names(depth)[12],
    )


def make_entry(target: str, precision: str, size: int, p50: float, batch: int = 1) -> BenchEntry:
    generator = np.random.default_rng(int(p50 * 1000) + batch)
    samples = p50 * batch**0.8 * (0.93 + generator.gamma(2.0, 0.035, 400) + 0.4 * (generator.random(400) > 0.985))
    p50s = {"openvino": 0.412, "onnxruntime": 0.518}
    middle, p90, p99 = np.percentile(samples, [50, 90, 99]).tolist()
    ratio = p50 / p50s[target]
    float32 = precision == "float32"
    return BenchEntry(
        target=target,
        precision=precision,
        batch_size=batch,
        threads=2,
        latency=Latency(p50=middle, p90=p90, p99=p99, mean=float(samples.mean()), samples=tuple(samples.tolist())),
        throughput=1000 * batch / middle * 1.4,
        streams=1,
        cold_start=ColdStart(first_ms=210 + 400 * p50, cached_ms=120 + 90 * p50) if batch == 1 else None,
        peak_memory_bytes=96_000_000 + size * 6,
        size_bytes=size,
        executed_precision=precision,
        ratio=None
        if float32
        else Ratio(value=ratio, interval=interval(ratio * 0.98, ratio * 1.025), baseline=f"{target}-float32"),
        verdict="" if float32 else "worth it" if ratio < 0.98 else "not worth it",
    )


def make_bench() -> BenchReport:
    measured = [(t, p, size, p50) for t, p, size, p50, *_ in BUILDS if p50 is not None]
    return BenchReport(
        model="zoo:digits-vit",
        machine=MACHINE,
        seconds=5.0,
        rounds=10,
        entries=tuple(make_entry(*row, batch=batch) for batch in (1, 8) for row in measured),
        not_executed={"tensorrt-rtx-int8": REASONS["not executed"]},
        started="2026-01-05T10:00:00Z",
    )


def make_plan(depth: int = 4) -> QuantPlan:
    names = layer_names(depth)
    return QuantPlan(
        model="zoo:digits-vit",
        model_digest="9c" * 32,
        layers=tuple(
            LayerPlan(
                name=name,
                kind="conv" if "patch" in name else "linear",
                input_scale=0.03,
                weight_scale=(0.01, 0.02),
                input_method="percentile 99.99" if i % 3 else "mse",
                weight_method="mse",
                equalization=(1.0, 2.0) if "fc2" in name else (),
                bias_correction=(0.1,),
            )
            for i, name in enumerate(names[:-1])
        ),
        skipped=(SkippedLayer(name="head.weight", reason="sensitive: alone it costs 22 dB"),),
    )


def make_data(depth: int = 4) -> ReportData:
    return ReportData(
        model="zoo:digits-vit",
        digest="9c41d07e" * 8,
        task="image-classification",
        trained=True,
        created="2026-01-05T10:02:11Z",
        machine=MACHINE,
        builds=tuple(build(t, p, size, v) for t, p, size, *_, v in BUILDS),
        command="edgevit export zoo:digits-vit OUT --target openvino:int8 --target onnxruntime:int8",
        parity=make_parity(depth),
        bench=make_bench(),
        plan=summarize_plan(make_plan(depth)),
        calibration=CalibrationFacts(
            set="digits-calibration", samples=128, seed=0, classes_seen=10, classes=10, disjoint=True
        ),
        stages=(
            StageCost(stage="capture", seconds=3.91, peak_bytes=612_000_000),
            StageCost(stage="calibrate", seconds=1.24, peak_bytes=588_000_000),
            StageCost(stage="plan", seconds=2.8, peak_bytes=630_000_000),
            StageCost(stage="build", seconds=6.02, peak_bytes=741_000_000),
            StageCost(stage="parity", seconds=4.4, peak_bytes=655_000_000),
            StageCost(stage="measure", seconds=65.1, peak_bytes=210_000_000),
        ),
        warnings=("1 of 50 layers asked for int8 runs in float32 in onnxruntime-int8: head.weight",),
    )


def make_pictures() -> dict[str, bytes]:
    from PIL import Image, ImageDraw

    pictures = {}
    for name, text in (("digit-0812", "3"), ("digit-0077", "7")):
        image = Image.new("L", (48, 48))
        ImageDraw.Draw(image).text((12, 2), text, fill=255, font_size=38)
        out = io.BytesIO()
        image.save(out, format="PNG")
        pictures[name] = out.getvalue()
    return pictures


@pytest.fixture(scope="session")
def data() -> ReportData:
    return make_data()


@pytest.fixture(scope="session")
def untrained(data: ReportData) -> ReportData:
    """The same figures as of a trained model, handed to the report of an untrained one."""
    return msgspec.structs.replace(data, trained=False, model="zoo:vit-base-224")


@pytest.fixture(scope="session")
def pictures() -> dict[str, bytes]:
    return make_pictures()
