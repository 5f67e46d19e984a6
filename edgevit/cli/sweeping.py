"""`edgevit sweep`: many exports, and what they come to together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgevit.cli.application import app, command, complain
from edgevit.cli.measuring import counts
from edgevit.cli.options import Cluster, Debug, Jobs, Json, Targets

if TYPE_CHECKING:
    from edgevit.terminal import Terminal
    from edgevit.types import SweepReport


@app.command(
    epilog="Examples: `edgevit sweep export/digits-vit.toml out --seeds 0,1,2,3,4 -t openvino:int8 --jobs 2`; again "
    "after an interruption, and only what is missing is made"
)
def sweep(
    recipes: Annotated[list[Path], typer.Argument(metavar="RECIPE...", help="Recipes of export/.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Gets OUT/RECIPE/TARGET-PRECISION/SEED, a bundle each.")],
    seeds: Annotated[
        list[str] | None,
        typer.Option("--seeds", metavar="N,…", help="Seeds of the calibration samples: 0,1,2. Without them 0."),
    ] = None,
    target: Targets = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also make what is finished, and replace bundles of other recipes.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Export every RECIPE for every target (-t wins over its own) and seed, a bundle each; nothing is measured."""

    def work(terminal: Terminal) -> int:
        from edgevit.cluster import workers_of
        from edgevit.pipeline import SweepOptions
        from edgevit.pipeline import sweep as make

        options = SweepOptions(seeds=counts(seeds or ("0",), "--seeds"), targets=tuple(target or ()), force=force)
        report = make(recipes, out, options, terminal.progress, workers_of(jobs, cluster))
        terminal.swept(report)
        return status(report)

    command(work, json, debug, "finished bundles are kept, run the same command again to go on")


def status(report: SweepReport) -> int:
    """Names every failure; the exit status is 1 where a build is out of its budget, else that of an error."""
    statuses = []
    for cell in report.cells:
        if cell.error:
            complain(f"{cell.name}: {cell.error}")
            statuses.append(cell.exit_status)
        for name in cell.out_of_budget:
            complain(f"{cell.name}: {name} is out of its parity budget; see {report.path}/{cell.name}/report.html")
            statuses.append(1)
    return min(statuses, default=0)
