"""Runs benchmark suites, prints what they find and records it.

python benchmarks/run.py                    every suite, recorded in benchmarks/results and README.md
python benchmarks/run.py peers seeds        some of them
python benchmarks/run.py --smoke            whether they work: a tiny model, seconds, nothing recorded
python benchmarks/run.py peers --quick --model vit-base-224
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the checkout that the suites belong to, installed or not

import record  # noqa: E402
from front import update_front  # noqa: E402
from processes import StepError  # noqa: E402

from edgevit.errors import EdgevitError  # noqa: E402
from edgevit.measure import describe_machine  # noqa: E402

SUITES = ("peers", "seeds", "overhead", "memory", "exports", "sequences", "phrases", "checkpoints", "nvidia", "mobile")
BY_NAME = ("arm",)
"""Run only where they are asked for: they want what not every machine has."""


def main(arguments: list[str] | None = None) -> int:
    """Exit status 0 when every suite ran, whatever it found: a missed figure is a finding, not a failure.

    A suite that could not run is reported, the others still run, and the exit status is 1.
    """
    chosen = _parser().parse_args(arguments)
    shortened = "smoke" if chosen.smoke else "quick" if chosen.quick or chosen.model else ""
    folder = chosen.results or (None if shortened else record.RESULTS)
    status = 0
    for suite in chosen.suites or SUITES:
        try:
            with tempfile.TemporaryDirectory(prefix="edgevit-bench-", dir=chosen.work) as work:
                result = _run(suite, shortened, chosen, Path(work))
        except (EdgevitError, StepError) as error:
            print(f"{suite}: {error}", file=sys.stderr)
            status = 1
            continue
        print(f"{suite}, {result.seconds:.0f} s\n\n{record.plain(result)}", flush=True)
        if folder is not None:
            print(f"Recorded in {record.write_result(result, folder)}", file=sys.stderr)
    if folder == record.RESULTS:
        results = record.read_results(folder)
        record.update_readme(results)
        update_front(results)
    return status


def _run(suite: str, shortened: str, chosen: argparse.Namespace, work: Path) -> record.Result:
    began = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def say(line: str) -> None:
        print(f"[{time.perf_counter() - began:6.0f} s] {suite}: {line}", file=sys.stderr, flush=True)

    options = record.Options(
        work=work,
        smoke=shortened == "smoke",
        quick=shortened == "quick",
        models=tuple(chosen.model),
        bundles=chosen.bundles and chosen.bundles.resolve(),
        optimum=chosen.optimum,
        olive=chosen.olive,
        quantizer=chosen.quantizer,
        say=say,
    )
    findings = importlib.import_module(suite).main(options)
    return record.Result(
        suite=suite,
        started=started,
        seconds=time.perf_counter() - began,
        shortened=shortened,
        machine=describe_machine(),
        findings=findings,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}, all by default; or {BY_NAME[0]}"
    )
    parser.add_argument("--smoke", action="store_true", help="only show that the suites work")
    parser.add_argument("--quick", action="store_true", help="fewer repeats; not recorded")
    parser.add_argument("--model", action="append", default=[], help="a model of the zoo instead of the suite's own")
    parser.add_argument("--results", type=Path, help="record here instead")
    parser.add_argument(
        "--optimum", type=Path, help="of sequences, checkpoints: a Python that has optimum-intel (optimum_intel.py)"
    )
    parser.add_argument("--olive", type=Path, help="of checkpoints: a Python that has Olive (checkpoint_peers.py)")
    parser.add_argument("--bundles", type=Path, help="of texts and mobile: made here, and used again by a later run")
    parser.add_argument(
        "--quantizer", type=Path, help="of mobile: a Python that has ai-edge-quantizer (edge_quantizer.py)"
    )
    parser.add_argument("--work", type=Path, help="where temporary files go; several gigabytes")
    original = parser.parse_args

    def checked(arguments: list[str] | None = None) -> argparse.Namespace:
        found = original(arguments)
        unknown = [suite for suite in found.suites if suite not in (*SUITES, *BY_NAME)]
        if unknown:
            parser.error(f"expected suites among {', '.join((*SUITES, *BY_NAME))}, found {', '.join(unknown)}")
        return found

    parser.parse_args = checked  # type: ignore[method-assign, assignment]
    return parser


if __name__ == "__main__":
    sys.exit(main())
