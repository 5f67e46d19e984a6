"""The plot of the layers: how much of each one's output survives quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgevit.report import formats
from edgevit.report.svg import BAD, GRID, INK, PRECISION_COLOURS, Frame, Plot, canvas, row_texts, text_width, to_svg
from edgevit.types import LayerParity, ParityReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAME = 44
"""Characters of a layer's name that fit beside its bar."""


def layer_sqnr(parity: ParityReport) -> Plot | None:
    """One row per layer, as tall as it needs: a bar for the SQNR of its output, a dot for the layer quantized alone."""
    layers = parity.layers
    if not layers:
        return None
    names = [formats.shorten(formats.clean(layer.name), _NAME) for layer in layers]
    alone = any(layer.own_sqnr_db is not None for layer in layers)
    frame = Frame(
        width=480,
        plot=(14 if len(layers) <= 30 else 12) * len(layers),
        left=12 + max(text_width(name, 7) for name in names),
        right=76 if alone else 40,
        top=18,
    )
    description = _description(parity)
    with canvas(frame) as axes:
        _bars(axes, layers, parity.first_divergent_layer)
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.set_yticks([])
        axes.tick_params(axis="x", labelsize=7)
        row_texts(axes, names, -6, 7)
        row_texts(axes, ["dB"], 32, 7, lift=1)
        row_texts(axes, [formats.decibels(layer.sqnr_db) for layer in layers], 32, 7)
        if alone:
            row_texts(axes, ["alone"], 68, 7, lift=1)
            row_texts(axes, [formats.decibels(layer.own_sqnr_db) for layer in layers], 68, 7)
        axes.set_xlabel("SQNR, dB (higher is closer to float)", fontsize=7)
        svg = to_svg(axes, "layers", description)
    return Plot(name="layers", title="Per-layer SQNR", description=description, svg=svg)


def _description(parity: ParityReport) -> str:
    first = parity.first_divergent_layer
    lowest = min(parity.layers, key=lambda layer: layer.sqnr_db)
    return (
        f"SQNR of {formats.count(len(parity.layers), 'layer')} in dB. "
        f"Lowest: {formats.clean(lowest.name, 80)} at {formats.decibels(lowest.sqnr_db)}. "
        + (f"First divergent: {formats.clean(first, 80)}." if first else "None diverges.")
    )


def _bars(axes: Axes, layers: tuple[LayerParity, ...], first: str | None) -> None:
    """An exact layer has no SQNR to draw: its bar goes to the end of the axis, which the others set."""
    drawn = [value for layer in layers for value in (layer.sqnr_db, layer.own_sqnr_db) if value is not None]
    drawn = [value for value in drawn if value < formats.NO_ERROR_DB]
    top = max(drawn, default=1.0) * 1.06
    rows = range(len(layers))
    lengths = [min(layer.sqnr_db, top) for layer in layers]
    colours = [_colour(layer, first) for layer in layers]
    axes.barh(rows, lengths, height=0.58, color=colours, linewidth=0)
    own = [(layer.own_sqnr_db, row) for row, layer in enumerate(layers) if layer.own_sqnr_db is not None]
    dots = [(value, row) for value, row in own if value < formats.NO_ERROR_DB]
    x, y = [value for value, _ in dots], [row for _, row in dots]
    axes.plot(x, y, "o", color=INK, markerfacecolor=GRID, markersize=3.2, markeredgewidth=0.8)
    for row in (row for row in rows if layers[row].name == first):
        axes.axhspan(row - 0.5, row + 0.5, color=BAD, alpha=0.12, linewidth=0)
        end = (max(lengths[row], 0), row)
        axes.annotate("first divergent", end, xytext=(4, 0), textcoords="offset points", va="center", fontsize=7)
    axes.set_xlim(min(0.0, min(drawn, default=0.0)), top)


def _colour(layer: LayerParity, first: str | None) -> str:
    if layer.name == first:
        return BAD
    return PRECISION_COLOURS["int8" if layer.quantized else "float32"]
