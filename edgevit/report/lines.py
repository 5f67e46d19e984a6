"""Plots with one line per build."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgevit.report import formats
from edgevit.report.svg import MUTED, PRECISION_COLOURS, figure_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1, 1, 1)))
"""Lines of builds of one precision, told apart."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """The build's; anything may be in it."""
    precision: str
    x: Sequence[float]
    y: Sequence[float]
    marker_size: float
    """In points; 0 for no dots."""


def draw_builds(axes: Axes, lines: Sequence[Line]) -> None:
    """Coloured by precision, dashed differently where several builds have one."""
    seen: dict[str, int] = {}
    for line in lines:
        number = seen[line.precision] = seen.get(line.precision, -1) + 1
        axes.plot(
            line.x,
            line.y,
            marker="o" if line.marker_size else "",
            markersize=line.marker_size,
            linewidth=1.2,
            linestyle=_DASHES[number % len(_DASHES)],
            color=PRECISION_COLOURS.get(line.precision, MUTED),
            label=formats.shorten(formats.clean(line.name, 80), 30),
        )


def legend_below(axes: Axes) -> None:
    """Two columns at the foot of the figure, whose frame has to have room there."""
    figure_of(axes).legend(
        loc="lower left", bbox_to_anchor=(0, 0), ncols=2, frameon=False, handlelength=2.4, columnspacing=2
    )
