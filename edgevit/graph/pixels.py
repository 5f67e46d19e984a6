"""The preprocessing of images inside the graph: raw pixels of any size in, and what `preprocess.images` makes of them.

    pixels uint8 (batch, height, width, 3) → grey → resize → crop → x / 255 → (x - mean) / std → (batch, channels, H, W)

Sizes are computed in the graph from the image's own, with the roundings of `preprocess.geometry`; of the source only
what the crop shows is read.

Why products with weights made in the graph (`graph.resampling`), and no operator that resizes: OpenVINO 2026.4.1's own
with Pillow's weights falls to the other side of a half in up to one value of eight, and takes ten to thirty times as
long as Pillow (bicubic, 1920 x 1080: 384 ms, Pillow 13); ONNX Runtime 1.32's Resize with antialias is as fast as
Pillow and up to two levels off; TensorRT has no antialiasing. The products take 9 ms there in ONNX Runtime and 20 in
OpenVINO (one thread), and are a level off, rarely two, for one value in 2000 or fewer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from edgevit.errors import BuildError
from edgevit.graph import storage
from edgevit.graph.passes import tidy
from edgevit.graph.resampling import Nodes, Side
from edgevit.types import PIXELS, PREPROCESSING

if TYPE_CHECKING:
    from pathlib import Path

    import onnx_ir as ir

    from edgevit.types import ImagePreprocess, OnnxModel

LUMA = (19595, 38470, 7471)
"""Of red, green and blue in grey, 16 bits: ITU-R 601-2, as Pillow converts to mode L."""


def write_with_pixels(model: OnnxModel, spec: ImagePreprocess, path: Path) -> OnnxModel:
    """The graph with raw pixels as its input, written to `path`."""
    graph = storage.load(model.path)
    with_pixels(graph, spec)
    storage.save(graph, path)
    return storage.describe(graph, path)


def write_preprocessing(model: OnnxModel, spec: ImagePreprocess, path: Path) -> OnnxModel:
    """The preprocessing alone, from raw pixels to what the model reads."""
    import onnx_ir as ir

    (given,) = model.signature.inputs
    read = ir.Value(name=given.name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(given.shape))
    same = ir.node("Identity", [read], name="same")
    out = same.outputs[0]
    out.name, out.type, out.shape = "prepared", read.type, read.shape
    inner = ir.Graph([read], [out], nodes=[same], opset_imports={"": model.opset}, name=PREPROCESSING)
    graph = ir.Model(inner, ir_version=10)
    with_pixels(graph, spec)
    storage.save(graph, path)
    return storage.describe(graph, path)


def with_pixels(model: ir.Model, spec: ImagePreprocess) -> None:
    """Puts the preprocessing in front of the graph, whose input becomes `PIXELS`.

    Raises BuildError for a graph whose only input is not the tensor that `spec` describes.
    """
    import onnx_ir as ir

    graph = model.graph
    given = graph.inputs[0]
    shape = () if given.shape is None else given.shape.dims
    if len(graph.inputs) != 1 or given.name != spec.input or shape[1:] != (len(spec.mode), *spec.size):
        found = ", ".join(f"{value.name} {value.shape}" for value in graph.inputs)
        expected = f"{spec.input} (batch, {len(spec.mode)}, {spec.size[0]}, {spec.size[1]})"
        raise BuildError(f"expected a graph with the input {expected} to read pixels, found {found}")
    batch = shape[0] if isinstance(shape[0], int) else str(shape[0])
    pixels = ir.Value(name=PIXELS, type=ir.TensorType(ir.DataType.UINT8), shape=ir.Shape([batch, "height", "width", 3]))
    nodes = Nodes(model, PREPROCESSING)
    prepared = _prepared(nodes, pixels, spec)
    ir.convenience.replace_all_uses_with(given, prepared, replace_graph_outputs=True)
    graph.inputs[0] = pixels
    given.name = f"{given.name}_before"
    prepared.name, prepared.type, prepared.shape = spec.input, given.type, ir.Shape([batch, *shape[1:]])
    first = next(iter(graph), None)
    assert first is not None
    graph.insert_before(first, nodes.made)
    graph.opset_imports[""] = max(graph.opset_imports[""], 18)
    tidy(model)


def _prepared(n: Nodes, pixels: ir.Value, spec: ImagePreprocess) -> ir.Value:
    """float32 (batch, channels, H, W), in the units of `spec`."""
    height, width = n.size(pixels, 1), n.size(pixels, 2)
    sizes = _resized(n, height, width, spec)
    rows, columns = (
        Side(n, source, out, _first(n, out, count), count)
        for source, out, count in zip((height, width), sizes, spec.size, strict=True)
    )
    if spec.interpolation == "nearest":
        found = n.op("Gather", pixels, rows.nearest(), attributes={"axis": 1})
        found = n.op("Gather", found, columns.nearest(), attributes={"axis": 2})
        levels = n.to_float(_planes(n, found, spec))
    else:
        levels = _resampled(n, pixels, rows, columns, spec)
    if spec.mode == "BGR":
        levels = n.op("Gather", levels, n.axes(2, 1, 0), attributes={"axis": 1})
    unit = n.op("Div", levels, n.real("white", 255.0))
    mean, std = (np.asarray(values, np.float32)[None, :, None, None] for values in (spec.mean, spec.std))
    return n.op("Div", n.op("Sub", unit, n.real("mean", mean)), n.real("std", std))


def _resampled(n: Nodes, pixels: ir.Value, rows: Side, columns: Side, spec: ImagePreprocess) -> ir.Value:
    """Levels as float32 (batch, channels, H, W): first along the rows, then along the columns, as Pillow does it."""
    (top, bottom), (left, right) = windows = [side.window(spec.interpolation) for side in (rows, columns)]
    read = n.op("Slice", pixels, n.listed(top, left), n.listed(bottom, right), n.axes(1, 2))
    planes = _planes(n, read, spec)
    narrow = columns.resampled(planes, 3, spec.interpolation, windows[1])
    return rows.resampled(narrow, 2, spec.interpolation, windows[0])


def _planes(n: Nodes, pixels: ir.Value, spec: ImagePreprocess) -> ir.Value:
    """(batch, channels, height, width): the three colours as uint8, or grey as whole numbers in float32.

    Grey is what Pillow makes of RGB. Its sums stay below 2^24, where float32 holds every whole number; OpenVINO
    2026.4.1 rounds where it should cut off when it divides tensors of integers. The weights are integers because
    float16 files would round them.
    """
    planes = n.op("Transpose", pixels, attributes={"perm": [0, 3, 1, 2]})
    if spec.mode != "L":
        return planes
    flat = n.op("Reshape", n.to_float(planes), n.axes(0, 3, -1))
    total = n.op("MatMul", n.to_float(n.axes(*LUMA)), flat)
    grey = n.op("Floor", n.op("Mul", n.op("Add", total, n.to_float(n.whole(1 << 15))), n.real("shift", 2.0**-16)))
    sizes = n.listed(n.whole(0), n.whole(1), n.size(pixels, 1), n.size(pixels, 2))
    return n.op("Reshape", grey, sizes)


def _resized(n: Nodes, height: ir.Value, width: ir.Value, spec: ImagePreprocess) -> tuple[ir.Value, ir.Value]:
    """Height and width of the resized image, as `preprocess.geometry` has them.

    Of sizes that are not square the longer side may be one pixel off where it is exactly half way between two: timm,
    and so `geometry`, divides twice in float64 there, and what is left of that decides. OpenVINO has no float64.
    """
    high, wide = (math.floor(side / spec.crop_fraction) for side in spec.size)
    if spec.resize == "exact":
        return n.whole(high), n.whole(wide)
    if high == wide:
        shorter = n.op("Min", height, width)
        # Of the shorter side this is the goal itself.
        scaled = [n.op("Div", n.op("Mul", side, n.whole(high)), shorter) for side in (height, width)]
        return scaled[0], scaled[1]
    tall = n.op("LessOrEqual", n.op("Mul", height, n.whole(wide)), n.op("Mul", width, n.whole(high)))
    return (
        n.op("Where", tall, n.whole(high), _rounded(n, n.op("Mul", height, n.whole(wide)), width)),
        n.op("Where", tall, _rounded(n, n.op("Mul", width, n.whole(high)), height), n.whole(wide)),
    )


def _rounded(n: Nodes, top: ir.Value, bottom: ir.Value) -> ir.Value:
    """top / bottom to the nearest whole number, halves to even."""
    down = n.op("Div", top, bottom)
    rest = n.op("Mul", n.op("Sub", top, n.op("Mul", down, bottom)), n.whole(2))
    odd = n.op("Sub", down, n.op("Mul", n.op("Div", down, n.whole(2)), n.whole(2)))
    # Above a half, or at a half of an odd number.
    more = n.op("Less", bottom, n.op("Add", rest, odd))
    return n.op("Where", more, n.op("Add", down, n.whole(1)), down)


def _first(n: Nodes, out: ir.Value, count: int) -> ir.Value:
    """Where a centre crop of `count` pixels begins."""
    return _rounded(n, n.op("Sub", out, n.whole(count)), n.whole(2))
