"""`edgevit sweep`: bundles over seeds and targets, resumed, spread, and every failure by its name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from edgevit.bundle import open_bundle
from edgevit.cli.sweeping import status
from edgevit.errors import InputError
from edgevit.pipeline.sweeps import SweepOptions, planned
from edgevit.types import SweepCell, SweepReport

Command = Callable[..., Any]

RECIPE = """
model = "zoo:digits-vit"
calibration.samples = 16
evaluation.samples = 400
plan.ranges = "min-max"
plan.weights = "min-max"
plan.equalize = []
plan.bias_correction = false
parity.layers = 0
parity.budget = 2
"""
ARGUMENTS = ("--seeds", "0,1", "-t", "onnxruntime:int8", "-t", "openvino:float32")
CELLS = [
    "small/onnxruntime-int8/seed-0",
    "small/onnxruntime-int8/seed-1",
    "small/openvino-float32/any-seed",
]


def document(result: Any) -> SweepReport:
    assert result.status == 0, result.err
    return msgspec.json.decode(result.out.encode(), type=SweepReport)


@pytest.fixture(scope="module")
def swept(once: Callable[..., Path], edgevit: Command) -> Path:
    """A sweep by two processes: `out`, what it printed, and its recipe. Nothing of it is to be changed."""

    def make(place: Path) -> None:
        (place / "small.toml").write_text(RECIPE)
        finished = edgevit("sweep", place / "small.toml", place / "out", *ARGUMENTS, "--jobs", 2)
        assert finished.status == 0, finished.err
        (place / "streams.json").write_text(json.dumps([finished.out, finished.err]))

    return once("sweep", make)


def test_every_seed_and_target_is_a_bundle_and_the_table_has_their_spread(swept: Path) -> None:
    out, err = json.loads((swept / "streams.json").read_text())
    report = msgspec.json.decode((swept / "out" / "sweep.json").read_bytes(), type=SweepReport)
    assert [cell.name for cell in report.cells] == CELLS
    for cell in report.cells:
        manifest = open_bundle(swept / "out" / cell.name, check="hashes").manifest
        assert [build.name for build in manifest.builds] == [cell.build]
        assert (manifest.calibration.seed if manifest.calibration else None) == cell.seed
        assert f"{cell.name}: passed" in err
    one, other = (cell.rung.closeness.sqnr_db for cell in report.cells[:2])  # type: ignore[union-attr]
    assert one != other, "each seed calibrates on other samples"
    line = report.lines[0]
    assert (line.bundles, line.wanted, line.passed) == (2, 2, 2)
    assert line.sqnr_db is not None and line.sqnr_db.deviation is not None
    assert line.sqnr_db.mean == pytest.approx((one + other) / 2)
    assert line.sqnr_db.deviation == pytest.approx(abs(one - other) / 2**0.5)
    assert report.lines[1].sqnr_db is not None and report.lines[1].sqnr_db.deviation is None
    shown = next(row for row in out.splitlines() if "onnxruntime-int8" in row)
    assert f"{line.sqnr_db.mean:.1f} ± {line.sqnr_db.deviation:.1f}" in shown
    page = (swept / "out" / "sweep.html").read_text()
    assert all(f'<a href="{name}/report.html">' in page for name in CELLS)


def test_what_is_finished_is_kept_and_what_is_missing_is_made(swept: Path, tmp_path: Path, inside: Command) -> None:
    shutil.copytree(swept / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / CELLS[1])
    before = msgspec.json.decode((swept / "out" / "sweep.json").read_bytes(), type=SweepReport)
    report = document(inside("sweep", swept / "small.toml", tmp_path / "out", *ARGUMENTS, "--json"))
    assert [cell.state for cell in report.cells] == ["kept", "made", "kept"]
    assert report.lines == before.lines, "the same numbers in one process as in two"
    # Interrupted between a bundle's last step and anything after it: what is there is whole, and known by its record.
    (tmp_path / "out" / "sweep.json").unlink()
    report = document(inside("sweep", swept / "small.toml", tmp_path / "out", *ARGUMENTS, "--json"))
    assert {cell.state for cell in report.cells} == {"kept"}
    assert (tmp_path / "out" / "sweep.json").exists()


def test_a_cluster_makes_the_same_bundles(swept: Path, tmp_path: Path, inside: Command, dask_cluster: Any) -> None:
    arguments = ("-t", "openvino:float32", "--cluster", dask_cluster.address)
    report = document(inside("sweep", swept / "small.toml", tmp_path / "out", *arguments, "--json"))
    before = msgspec.json.decode((swept / "out" / "sweep.json").read_bytes(), type=SweepReport)
    assert [cell.state for cell in report.cells] == ["made"]
    assert report.cells[0].rung == before.cells[2].rung


def test_another_recipe_does_not_take_a_bundle_for_its_own(swept: Path, tmp_path: Path, inside: Command) -> None:
    shutil.copytree(swept / "out", tmp_path / "out")
    (tmp_path / "small.toml").write_text(RECIPE.replace("= 16", "= 17"))
    (tmp_path / "broken.toml").write_text(RECIPE + "calibration.set = 'nowhere'\n")
    recipes = [tmp_path / "small.toml", tmp_path / "broken.toml"]
    result = inside("sweep", *recipes, tmp_path / "out", "-t", "onnxruntime:int8")
    assert result.status == 2
    lines = [line for line in result.err.splitlines() if line.startswith("edgevit")]
    assert len(lines) == 2
    assert "small/onnxruntime-int8/seed-0: expected nothing at" in lines[0] and "--force" in lines[0]
    assert f"broken/onnxruntime-int8/seed-0: {tmp_path / 'nowhere'}: expected a folder of images" in lines[1]
    assert "0 of 1" in result.out
    assert (tmp_path / "out" / CELLS[0] / "manifest.json").read_bytes() == (
        swept / "out" / CELLS[0] / "manifest.json"
    ).read_bytes()


def test_control_c_leaves_whole_bundles_and_no_process(start: Command, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(RECIPE)
    arguments = ["sweep", tmp_path / "small.toml", tmp_path / "out", "--seeds", "0,1,2", "--jobs", 2]
    process = start(*arguments, "-t", "onnxruntime:int8", start_new_session=True)
    # Both processes are at work when each has its first finished stage.
    while len(list(tmp_path.glob("out/small/*/.seed-*/lower-*"))) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    others = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith(("small/", "sweep"))]
    assert lines == ["edgevit: interrupted; finished bundles are kept, run the same command again to go on"]
    assert len(others) >= 2 and not psutil.wait_procs(others, timeout=20)[1]
    for bundle in (tmp_path / "out").rglob("manifest.json"):
        open_bundle(bundle.parent, check="hashes")


# ------------------------------------------------------------------------------------------------ the rest


def test_the_exit_status_is_that_of_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    cell = SweepCell(name="a/b/seed-0", recipe="a", build="b", seed=0, state="made")
    lost = msgspec.structs.replace(cell, out_of_budget=("simulated int8", "b"))
    absent = msgspec.structs.replace(cell, state="failed", error="expected a card, found none", exit_status=3)
    assert status(SweepReport(path="out", lines=(), cells=(cell,))) == 0
    assert status(SweepReport(path="out", lines=(), cells=(cell, absent))) == 3
    assert status(SweepReport(path="out", lines=(), cells=(absent, lost, cell))) == 1
    assert capsys.readouterr().err.splitlines()[-3:] == [
        "edgevit: a/b/seed-0: expected a card, found none",
        "edgevit: a/b/seed-0: simulated int8 is out of its parity budget; see out/a/b/seed-0/report.html",
        "edgevit: a/b/seed-0: b is out of its parity budget; see out/a/b/seed-0/report.html",
    ]


def test_what_makes_no_sense_is_found_before_any_work(tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(RECIPE)
    (tmp_path / "more").mkdir()
    shutil.copy(recipe, tmp_path / "more")
    for recipes, options, words in (
        ([recipe, tmp_path / "more" / "small.toml"], SweepOptions(), "expected recipes of different names"),
        ([recipe], SweepOptions(targets=("nothing:int8",)), "nothing"),
        ([recipe], SweepOptions(seeds=()), "expected seeds of at least 0"),
        ([tmp_path / "none.toml"], SweepOptions(), "expected a recipe at"),
    ):
        with pytest.raises(InputError, match=words):
            planned(recipes, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()
