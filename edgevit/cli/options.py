"""What several commands take, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgevit.errors import InputError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output, nothing else there.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
BundlePath = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A directory that `edgevit export` wrote.")]
Targets = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", metavar="T[:PRECISION]", help="openvino:int8, onnxruntime:float32, …; repeatable."),
]
OneTarget = Annotated[
    str | None, typer.Option("--target", "-t", metavar="T[:PRECISION]", help="Use this build instead of the best one.")
]
TheseBuilds = Annotated[
    str | None, typer.Option("--target", "-t", metavar="T[:PRECISION]", help="Only these builds; all without it.")
]
SetOption = Annotated[
    str | None,
    typer.Option(
        metavar="SET",
        help="A TOML of calibration/, a folder of images (class folders give labels), texts as .jsonl, .csv or .txt "
        "(columns text and label, tags or target), a .npz of prepared tensors, package.module:function, zoo:…",
    ),
]
LabelMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="From the sets' labels to the model's: .json, .toml, or .csv with set,model."),
]
TASKS = (
    "image-classification",
    "image-features",
    "text-classification",
    "text-features",
    "token-classification",
    "translation",
    "summarization",
)
MODEL_FORMS = "zoo:NAME, a Hugging Face directory, timm:ARCH, a .pt2 or .onnx file, package.module:factory."
Weights = Annotated[Path | None, typer.Option(metavar="FILE", help="The checkpoint file of timm: and factories.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Processes on this machine, each with its share of the cores; with --cluster at most so many of its "
        "workers.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="dask://HOST:PORT",
        help="Run on the workers of this Dask scheduler. They need edgevit and the engines, and the same files under "
        "the same paths, which is checked.",
    ),
]


def sides(text: str | None) -> tuple[int, int] | None:
    """`--image-size` as (height, width). Raises InputError."""
    if text is None:
        return None
    height, by, width = text.partition("x")
    if not height.isdecimal() or (by and not width.isdecimal()):
        raise InputError(f"expected --image-size as H or HxW in pixels, found {text!r}")
    return int(height), int(width or height)


class OptionalValue(TyperCommand):
    """A command whose option `--adb` may stand without a value, as typer has it for none: it is empty then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given: list[str] = []
        for word, after in zip(args, [*args[1:], "-"], strict=True):
            given.append(f"{word}=" if word == "--adb" and after.startswith("-") else word)
        return super().parse_args(ctx, given)
