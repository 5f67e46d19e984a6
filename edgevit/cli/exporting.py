"""`edgevit export`, and how its options change a recipe."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from edgevit.cli.application import app, command, complain
from edgevit.cli.options import MODEL_FORMS, TASKS, Debug, Json, LabelMap, SetOption, Targets, Weights, sides
from edgevit.errors import InputError
from edgevit.recipe import Recipe, explained, read_recipe

if TYPE_CHECKING:
    from edgevit.terminal import Terminal


@app.command(
    epilog=(
        "Examples: `edgevit export zoo:digits-vit out -t openvino:float32 -t openvino:int8`, or with everything "
        "written down in a recipe: `edgevit export zoo:digits-vit out --recipe export/digits-vit.toml`"
    )
)
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_FORMS)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where the bundle goes; must not exist without --force.")],
    target: Targets = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe of export/; options given here win over it.")
    ] = None,
    weights: Weights = None,
    task: Annotated[str | None, typer.Option(metavar="TASK", help=f"If MODEL cannot tell: {', '.join(TASKS)}.")] = None,
    preprocess: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A preprocessor_config.json, or a TOML with size, mean and std.")
    ] = None,
    calibration: SetOption = None,
    evaluation: SetOption = None,
    label_map: LabelMap = None,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Use this quantization plan; nothing is calibrated.")
    ] = None,
    samples: Annotated[int | None, typer.Option(metavar="N", help="Calibration samples, at most.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Seed of the calibration samples.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="A fixed batch instead of a dynamic one.")] = None,
    image_size: Annotated[
        str | None, typer.Option(metavar="H[xW]", help="Another resolution; position embeddings are interpolated.")
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            metavar="array|pixels",
            help="pixels: the builds take raw uint8 images of any size and resize, crop and normalize them inside.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Layers that stay float: 'head.*'; repeatable.")
    ] = None,
    cpu: Annotated[
        str | None, typer.Option(metavar="auto|any|vnni", help="Which x86-64 processors int8 must be right on.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="SM,…", help="Cards of tensorrt-rtx builds: sm86,sm89.")] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="DIM:MIN:OPT:MAX,…", help="Sizes of tensorrt and tensorrt-rtx builds: batch:1:4:8."),
    ] = None,
    min_delegated: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Least share of the multiply-accumulates of executorch and litert builds in XNNPACK."
        ),
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="8MB: build every precision of the targets and name the best one that fits."),
    ] = None,
    budget: Annotated[float | None, typer.Option(metavar="POINTS", help="Accuracy a build may lose.")] = None,
    bench: Annotated[bool | None, typer.Option("--bench/--no-bench", help="Measure the builds, or not.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing bundle when the new one is complete.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Export MODEL to a bundle OUT: trace, calibrate, quantize, build, prove, measure."""

    def work(terminal: Terminal) -> int:
        from edgevit.pipeline import ExportOptions
        from edgevit.pipeline import export as make
        from edgevit.pipeline.finishing import with_cards, with_option, with_profile
        from edgevit.pipeline.pixels import with_input
        from edgevit.pipeline.size_budget import choose, parse_size, with_every_precision
        from edgevit.targets.delegation import REPORTING

        wanted = _overridden(
            read_recipe(recipe) if recipe else Recipe(model=model),
            {
                "model": model,
                "weights": _text(weights),
                "task": task,
                "preprocess": _preprocess(preprocess),
                "targets": tuple(target) if target else None,
                "when_available": () if target else None,
                "calibration.set": calibration,
                "calibration.samples": samples,
                "calibration.seed": seed,
                "evaluation.set": evaluation,
                "label_map": _text(label_map),
                "trace.batch": batch_size,
                "trace.image_size": sides(image_size),
                "plan.file": _text(plan),
                "plan.skip": tuple(skip) if skip else None,
                "plan.cpu": cpu,
                "parity.budget": budget,
                "bench.enabled": bench,
            },
        )
        limit = None
        if max_size is not None:
            limit, wanted = parse_size(max_size), with_every_precision(wanted)
        wanted = wanted if input is None else with_input(wanted, input)
        wanted = wanted if gpu is None else with_cards(wanted, gpu)
        wanted = wanted if profile is None else with_profile(wanted, profile)
        if min_delegated is not None:
            wanted = with_option(wanted, REPORTING, "min_delegated", f"{min_delegated:g}")
        options = ExportOptions(force=force, command=shlex.join(["edgevit", *sys.argv[1:]]))
        result = make(wanted, out, options, terminal.progress)
        if limit is not None:
            result = msgspec.structs.replace(result, choice=choose(result.manifest, limit))
        terminal.exported(result)
        for name in result.failed:
            complain(f"{name} is out of its parity budget; see {result.path / 'report.html'}")
        if result.choice is None:
            return 1 if result.failed else 0
        if not result.choice.build:
            complain(result.choice.reason)
        return 0 if result.choice.build else 1

    command(work, json, debug, "finished stages are kept, run the same command again to resume")


def _overridden(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with what the command line gives; None leaves a key as it is."""
    values = msgspec.to_builtins(recipe)
    for key, value in changes.items():
        if value is None:
            continue
        section, _, name = key.rpartition(".")
        (values[section] if section else values)[name] = value
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise InputError(f"{explained(error)}; correct the option") from error


def _preprocess(path: Path | None) -> Any:
    if path is None:
        return None
    from edgevit.sources.preprocessing import read_preprocess

    return msgspec.to_builtins(read_preprocess(path))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
