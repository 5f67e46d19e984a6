"""A quantization plan as a readable TOML file: every number can be edited by hand and the file used again.

Engines hold scales in float32, so that is what the file means: numbers are written as the shortest decimal that gives
the same float32 back, and a number that is read becomes the nearest float32.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgevit.errors import PlanError
from edgevit.files import write_atomic
from edgevit.types import LayerPlan, QuantPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SCHEMA = 1

_HEADER = """\
# Quantization plan: which layers run in int8, with which scales, and why the others do not.
#
# Edit it and pass it with --plan. Symmetric int8, zero point 0: q = round_half_even(x / scale), saturated.
#
# schema, model, model_digest        what this file is, and the float model that it belongs to
# statistics_digest, samples, seed   the calibration that it was computed from
# safe_without_vnni                  whether weights are small enough for x86-64 processors without VNNI
#
# Each [[layer]], by the name of its parameter:
#   kind               linear or conv; embedding or recurrent, of which only the weight is quantized
#   input_scale        step of the layer's input, one for the tensor; 1 where only the weight is quantized
#   weight_scale       step of the weight, one per output channel
#   output_scale       step of the layer's output; left out where no target needs it
#   input_method       how the input's range was chosen (a note, has no effect)
#   weight_method      how the weight's ranges were chosen (a note, has no effect)
#   equalization       factor per input channel: the weight's column is multiplied by it, what produces the channel
#                      is divided by it; the scales above are those of the result; left out for none
#   equalization_into  the parameters that take up the division
#   bias_correction    added to the bias, one per output channel; left out for none
#
# Each [[skipped]] layer stays in float, for the reason given. To keep a layer in float, move it there.
"""

_NUMBERS = re.compile(r"^([A-Za-z_]+[ \t]*=[ \t]*)(\[[0-9eE+\-., \t]*\])[ \t]*\r?$", re.MULTILINE)
"""An array of plain numbers that fills the rest of its line, as this module writes them."""
_MARK = "e000000"
"""An exponent that nobody writes: it marks the float literals that stand for such an array while tomllib reads."""
_WHERE = re.compile(r"\s*- at `\$(?:\.(layers|skipped)\[(\d+)\])?(?:\.([A-Za-z_]+))?")


# ------------------------------------------------------------------------------------------------ writing


def write_plan(plan: QuantPlan, path: Path) -> None:
    """Writes the plan to `path`, whole or not at all. Raises PlanError for an impossible number, and OutputError."""
    write_atomic(path, format_plan(plan).encode())


def format_plan(plan: QuantPlan) -> str:
    """The plan as TOML. A number that no engine could use is a PlanError that names its layer."""
    parts = [_HEADER, _table(plan, leave_out=("layers", "skipped"))]
    for layer in plan.layers:
        _checked(layer, f"layer '{layer.name}'")
        parts.append("[[layer]]\n" + _table(layer))
    parts.extend("[[skipped]]\n" + _table(skipped) for skipped in plan.skipped)
    return "\n".join(parts)


def _table(value: msgspec.Struct, leave_out: Sequence[str] = ()) -> str:
    """The fields of a value, one per line, without those that are empty by default."""
    lines = []
    for field in msgspec.structs.fields(value):
        content = getattr(value, field.name)
        empty = content in (None, (), "") and content == field.default
        if field.name not in leave_out and not empty:
            lines.append(f"{field.name} = {_literal(content)}\n")
    return "".join(lines)


def _literal(content: str | bool | int | float | tuple[float, ...]) -> str:
    if isinstance(content, str):
        # DEL is the one character that TOML escapes and JSON does not.
        return json.dumps(content, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(content, bool):
        return str(content).lower()
    if isinstance(content, int):
        return str(content)
    if isinstance(content, float):
        return str(np.float32(content))
    return "[" + ", ".join(map(str, np.array(content, np.float32))) + "]"


# ------------------------------------------------------------------------------------------------ reading


def read_plan(path: Path) -> QuantPlan:
    """The plan in the file at `path`; anything wrong with it is a PlanError that names the line and the key.

    Whether it fits a model is for `plan_check.check_plan_fits` to say.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: expected a quantization plan (TOML, UTF-8), could not read it: {error}") from error
    return parse_plan(text, str(path))


def parse_plan(text: str, source: str) -> QuantPlan:
    """The plan in `text`; `source` is the file's name for messages. Raises PlanError."""
    try:
        raw = _load(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{source}: expected a quantization plan in TOML, got a syntax error: {error}") from error
    schema = raw.get("schema")
    if type(schema) is not int or schema < 1:
        raise PlanError(f"{source}: expected 'schema = {SCHEMA}', got {schema!r}: is this a quantization plan?")
    if schema > SCHEMA:
        raise PlanError(
            f"{source}: expected a plan of schema {SCHEMA} or older, got {schema}: upgrade edgevit, or export it again"
        )
    if "layers" in raw:
        raise PlanError(f"{source}: unknown key 'layers': write one [[layer]] table per layer")
    raw["layers"] = raw.pop("layer", [])
    try:
        plan = msgspec.convert(raw, QuantPlan)
    except msgspec.ValidationError as error:
        raise PlanError(_explain(str(error), text, source)) from error
    layers = []
    for index, layer in enumerate(plan.layers):
        try:
            layers.append(_checked(layer, f"layer '{layer.name}'"))
        except PlanError as error:
            raise PlanError(f"{source}, line {_line(text, 'layer', index)}: {error}") from None
    return msgspec.structs.replace(plan, layers=tuple(layers))


def _load(text: str) -> dict[str, Any]:
    """`tomllib.loads`, with one-line arrays of numbers read by the JSON parser.

    tomllib is pure Python and takes 7 µs per number: 2 s for a ViT-L. Each such array is replaced by a marked float
    literal, for which tomllib asks `parse_float`. What JSON takes for an array of numbers means the same in TOML.
    """
    if _MARK in text or '"""' in text or "'''" in text:  # the mark, or strings in which a line could look like an array
        return tomllib.loads(text)
    arrays: list[tuple[float, ...]] = []

    def set_aside(match: re.Match[str]) -> str:
        try:
            arrays.append(tuple(json.loads(match[2])))
        except ValueError:
            return match[0]
        return f"{match[1]}{len(arrays) - 1}{_MARK}"

    def number(literal: str) -> float | tuple[float, ...]:
        return arrays[int(literal.removesuffix(_MARK))] if literal.endswith(_MARK) else float(literal)

    return tomllib.loads(_NUMBERS.sub(set_aside, text), parse_float=number)


def _checked(layer: LayerPlan, who: str) -> LayerPlan:
    """The layer with every number as its nearest float32; a PlanError where no engine could use one."""
    if not layer.weight_scale:
        raise PlanError(f"{who}: expected one weight_scale per output channel, got none")
    changes: dict[str, float | tuple[float, ...]] = {}
    for key in ("input_scale", "output_scale", "weight_scale", "equalization", "bias_correction"):
        content = getattr(layer, key)
        if content is None:
            continue
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and refused below
            numbers: NDArray[np.float32] = np.asarray(content, dtype=np.float32)
        usable = np.isfinite(numbers) if key == "bias_correction" else np.isfinite(numbers) & (numbers > 0)
        if not usable.all():
            wanted = "finite numbers" if key == "bias_correction" else "positive, finite float32 numbers"
            first = int(np.argmin(usable))
            got = content[first] if isinstance(content, tuple) else content
            place = f" at position {first}" if isinstance(content, tuple) else ""
            raise PlanError(f"{who}: expected {wanted} in {key}, got {got}{place}")
        changes[key] = tuple(numbers.tolist()) if isinstance(content, tuple) else float(numbers)
    return msgspec.structs.replace(layer, **changes)


# ------------------------------------------------------------------------------------------------- errors


def _explain(message: str, text: str, source: str) -> str:
    """msgspec's message with the file's own words for the place: its line, the table and the key."""
    where = _WHERE.search(message)
    problem = message[: where.start()] if where else message
    unknown = re.search(r"unknown field `(.*)`", problem)
    table, index, key = (where[1], where[2], where[3]) if where else (None, None, None)
    key = unknown[1] if unknown else key
    if key == "layers":
        key, problem = "layer", "expected one [[layer]] table per layer"
    if key == "kind":
        problem = problem.replace("Invalid enum value", "expected 'linear', 'conv', 'embedding' or 'recurrent', got")
    header = {"layers": "layer", "skipped": "skipped", None: None}[table]
    line = _line(text, header, int(index or 0), key)
    what = f"unknown key '{key}': remove it, or correct its spelling" if unknown else problem
    place = f"[[{header}]]" if header else "the plan's own keys"
    named = f", key '{key}'" if key and not unknown else ""
    return f"{source}, line {line}: in {place}{named}: {what}"


def _line(text: str, table: str | None, index: int, key: str | None = None) -> int:
    """The line, from 1, of `key` in the `index`-th [[table]], or of the table's header where the key is not there."""
    seen, found = -1, 1
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if stripped.startswith("["):
            if seen == index or table is None:
                break
            if re.match(rf"\[\[\s*{table}\s*\]\]", stripped):
                seen, found = seen + 1, number
        elif key and (seen == index or table is None) and re.match(rf"""["']?{re.escape(key)}["']?\s*=""", stripped):
            return number
    return found
