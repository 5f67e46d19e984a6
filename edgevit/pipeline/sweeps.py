"""Sweeps: exports over recipes, targets and seeds as tasks, one bundle each, and what they come to together."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from edgevit import __version__
from edgevit.bundle import MANIFEST
from edgevit.cluster import Workers, opened
from edgevit.errors import EdgevitError, InputError, OutputError
from edgevit.files import write_atomic
from edgevit.parity.ladder import out_of_budget
from edgevit.pipeline.exporting import ExportOptions, export
from edgevit.pipeline.stages import PLANNED
from edgevit.pipeline.workbench import digest_of
from edgevit.progress import Progress, Silent
from edgevit.recipe import Recipe, check_recipe, read_recipe
from edgevit.report import read_report
from edgevit.report.sweep import sweep_lines, write_sweep
from edgevit.targets import parse_target
from edgevit.types import SweepCell, SweepReport

if TYPE_CHECKING:
    from collections.abc import Sequence

UNSEEDED = "any-seed"
"""The folder of a build that is not calibrated: it is the same for every seed, and made once."""


class SweepOptions(msgspec.Struct, frozen=True, kw_only=True):
    seeds: tuple[int, ...] = (0,)
    """Of the calibration samples; they win over a recipe's."""
    targets: tuple[str, ...] = ()
    """In place of every recipe's own."""
    force: bool = False
    """Make what is finished again, and replace what another recipe has made."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """A task: one bundle."""

    cell: SweepCell
    recipe: Recipe
    root: str = ""
    force: bool = False
    command: str = ""
    """Makes the same bundle alone; for its report."""


class _Record(msgspec.Struct, frozen=True):
    """What stands beside a bundle, as SEED.json."""

    made_by: str
    """Digest over edgevit's version and the recipe."""


def sweep(
    recipes: Sequence[str | Path],
    out: str | Path,
    options: SweepOptions | None = None,
    progress: Progress | None = None,
    workers: Workers | None = None,
) -> SweepReport:
    """Makes a bundle OUT/RECIPE/BUILD/SEED for every recipe, target and seed, and OUT/sweep.html and sweep.json.

    Nothing is measured: bundles are made beside each other. What an earlier sweep has finished by the same recipe is
    kept. One that fails is in the report with its error, and the others go on. Raises InputError for recipes and
    options that make no sense, OutputError, and UnavailableError for processes or a cluster that cannot be had.
    """
    options, progress, root = options or SweepOptions(), progress or Silent(), Path(out).absolute()
    if (root / MANIFEST).exists():
        raise OutputError(f"expected a directory of bundles at {str(out)!r}, found a bundle; choose another output")
    tasks = planned(recipes, root, options)
    cells: list[SweepCell | None] = [None] * len(tasks)
    with opened(workers or Workers(), progress) as pool, progress.task("sweep", len(tasks)) as advance:
        advance(0, f"{pool.slots} at a time")

        def finished(place: int, cell: SweepCell) -> None:
            cells[place] = cell
            advance(sum(one is not None for one in cells), cell.name)
            progress.note(f"{cell.name}: {outcome(cell)}")

        found = tuple(pool.each(made, tasks, finished))
    report = SweepReport(path=str(out), lines=sweep_lines(found), cells=found)
    write_sweep(report, root)
    return report


def planned(recipes: Sequence[str | Path], root: Path, options: SweepOptions) -> list[Planned]:
    """The bundles to make, in the order of recipes, targets and seeds. Raises InputError before any work begins."""
    if not options.seeds or min(options.seeds) < 0:
        raise InputError(f"expected seeds of at least 0, found {list(options.seeds)}; correct --seeds")
    names: dict[str, Path] = {}
    tasks: dict[str, Planned] = {}
    for path in map(Path, recipes):
        if path.stem in names:
            raise InputError(
                f"expected recipes of different names, found {names[path.stem]} and {path}: their bundles would be in "
                "one directory; rename one"
            )
        names[path.stem] = path
        recipe = read_recipe(path.absolute())
        for text in options.targets or recipe.targets:
            for task in _of_target(recipe, path, text, options):
                tasks.setdefault(task.cell.name, msgspec.structs.replace(task, root=str(root)))
    return list(tasks.values())


def _of_target(recipe: Recipe, path: Path, text: str, options: SweepOptions) -> list[Planned]:
    target, precision = parse_target(text)
    seeded = precision in PLANNED and recipe.plan.file is None
    replace = msgspec.structs.replace
    tasks = []
    for seed in options.seeds if seeded else (None,):
        one = replace(
            recipe,
            targets=(text,),
            when_available=(),
            options={key: value for key, value in recipe.options.items() if key == text},
            calibration=recipe.calibration if seed is None else replace(recipe.calibration, seed=seed),
            bench=replace(recipe.bench, enabled=False),
        )
        check_recipe(one)
        build = f"{target}-{precision}"
        name = f"{path.stem}/{build}/{UNSEEDED if seed is None else f'seed-{seed}'}"
        cell = SweepCell(name=name, recipe=path.stem, build=build, seed=seed, state="failed")
        command = ["edgevit", "export", recipe.model, "OUT", "--recipe", str(path), "--target", text, "--no-bench"]
        command += [] if seed is None else ["--seed", str(seed)]
        tasks.append(Planned(cell=cell, recipe=one, force=options.force, command=shlex.join(command)))
    return tasks


def outcome(cell: SweepCell) -> str:
    """A bundle's end in a line."""
    if cell.error:
        return f"failed: {cell.error}"
    kept = ", finished before" if cell.state == "kept" else ""
    if cell.out_of_budget:
        return f"out of budget: {', '.join(cell.out_of_budget)}{kept}"
    return f"{'not executed' if cell.rung is None else cell.rung.verdict}{kept}"


# ------------------------------------------------------------------------------------------- where it runs


def made(task: Planned, threads: int | None) -> SweepCell:
    """Makes one bundle, or finds it finished. What goes wrong is in the cell: the others go on."""
    out = Path(task.root) / task.cell.name
    try:
        if not task.force and _finished(out, _digest(task.recipe)):
            return _described(task.cell, out, "kept")
        _make(task, out)
        return _described(task.cell, out, "made")
    except EdgevitError as error:
        return msgspec.structs.replace(task.cell, error=str(error), exit_status=error.exit_status)
    except Exception as error:  # An engine's defect with one model is no reason to lose the other bundles.
        text = f"a defect of edgevit or of an engine: {type(error).__name__}: {' '.join(str(error).split())}"
        return msgspec.structs.replace(task.cell, error=text, exit_status=1)


def _make(task: Planned, out: Path) -> None:
    """The record is written first: a bundle that an interrupted sweep has just finished is then known by it.

    Where an older bundle is replaced it comes last, because until then it is the older one that stands there.
    """
    record, note = _record(out), msgspec.json.encode(_Record(_digest(task.recipe)))
    record.parent.mkdir(parents=True, exist_ok=True)
    if out.exists():
        record.unlink(missing_ok=True)
    else:
        write_atomic(record, note)
    export(task.recipe, out, ExportOptions(force=task.force, command=task.command))
    write_atomic(record, note)


def _finished(out: Path, made_by: str) -> bool:
    """Whether the bundle is there. Raises OutputError where another recipe made it."""
    if not out.exists():
        return False
    try:
        found = msgspec.json.decode(_record(out).read_bytes(), type=_Record).made_by
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        found = ""
    if found != made_by:
        raise OutputError(
            f"expected nothing at {str(out)!r}, or a bundle that this recipe and edgevit made, found another; choose "
            "another output, or replace it with --force"
        )
    return True


def _record(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")


def _digest(recipe: Recipe) -> str:
    return digest_of({"edgevit": __version__, "recipe": msgspec.to_builtins(recipe)})


def _described(cell: SweepCell, out: Path, state: Literal["made", "kept"]) -> SweepCell:
    data = read_report(out / "report.json")
    rungs = data.parity.rungs if data.parity else ()
    return msgspec.structs.replace(
        cell,
        state=state,
        rung=next((rung for rung in rungs if rung.name == cell.build), None),
        size=sum(file.size for build in data.builds for file in build.files),
        out_of_budget=() if data.parity is None else out_of_budget(data.parity),
    )
