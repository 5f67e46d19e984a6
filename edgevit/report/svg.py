"""Matplotlib figures as SVG that lives inside a page: themed by CSS, without ids to clash, the same bytes each time."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

import msgspec

from edgevit.errors import missing_package

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What a figure is drawn with, and the CSS custom property that takes its place: a page in dark mode sets the properties
# to lighter colours. The hues are Okabe and Ito's, which stay apart for colour-blind readers.
INK, MUTED, GRID, BAD = "#1f2329", "#626b77", "#dfe3e8", "#c0341d"
PRECISION_COLOURS = {
    "float32": "#6b7380",
    "float16": "#b8649a",
    "bfloat16": "#d58a00",
    "float8": "#7a5fb5",
    "int8": "#0072b2",
    "int8d": "#56a5d8",
    "int8w": "#009e73",
    "int4d": "#8c564b",
    "int4w": "#d55e01",
}
_PROPERTIES = {INK: "ink", MUTED: "muted", GRID: "grid", BAD: "bad"} | {
    colour: f"c-{precision}" for precision, colour in PRECISION_COLOURS.items()
}
_STYLE = {
    "svg.fonttype": "none",
    # Names come from strangers: a dollar sign must stay one.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 8,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.spines.bottom": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    title: str
    description: str
    """What the picture shows, in words, for those who cannot see it."""
    svg: str
    note: str = ""
    """How to read it."""


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """Where the axes lie in a figure; everything in points of 72 to the inch."""

    width: float
    plot: float
    """Height of the axes."""
    left: float = 8
    right: float = 8
    top: float = 8
    bottom: float = 34


@contextmanager
def canvas(frame: Frame) -> Iterator[Axes]:
    """Axes in the report's style; the caller's own matplotlib settings are neither used nor changed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_package("matplotlib", "report", "drawing the report's plots") from error
    height = frame.top + frame.plot + frame.bottom
    # Margins are given, since matplotlib's own layout draws every figure twice more to measure a font that the
    # reader does not have.
    inside = (
        frame.left / frame.width,
        frame.bottom / height,
        1 - (frame.left + frame.right) / frame.width,
        frame.plot / height,
    )
    with matplotlib.rc_context(), warnings.catch_warnings():
        # The text stays text, in the reader's own fonts, so a glyph that DejaVu lacks is not missing there.
        warnings.filterwarnings("ignore", message=r".*Glyph .* missing from font.*")
        matplotlib.rcdefaults()
        for name, value in _STYLE.items():
            # One by one: matplotlib types the keys of a dictionary as literals.
            matplotlib.rcParams[name] = value  # type: ignore[index]
        yield Figure(figsize=(frame.width / 72, height / 72)).add_axes(inside)


def figure_of(axes: Axes) -> Figure:
    from matplotlib.figure import Figure

    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def text_width(text: str, size: float) -> float:
    """About how wide a text is, in points: 0.6 of the font's size per letter, 1 for East Asian ones."""
    return size * sum(1.0 if east_asian_width(char) in "WF" else 0.6 for char in text)


def row_texts(axes: Axes, texts: list[str], offset: float, size: float = 8, lift: float = 0) -> None:
    """One right-aligned text per row: `offset` points to the left of the axes when negative, else to their right."""
    figure = figure_of(axes)
    width = axes.get_position().width * figure.get_figwidth() * 72
    at = offset / width if offset < 0 else 1 + offset / width
    transform = axes.get_yaxis_transform()
    for row, text in enumerate(texts):
        axes.text(at, row - lift, text, transform=transform, ha="right", va="center", fontsize=size)


def to_svg(axes: Axes, name: str, description: str) -> str:
    """The axes' figure as an `<svg>` element for an HTML page; `name` makes its ids unique in the page."""
    out = StringIO()
    figure = figure_of(axes)
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    body = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", out.getvalue(), flags=re.DOTALL)
    body = body[body.index("<svg") :]
    referenced = re.findall(r"(?:url\(|href=\")#([^)\"]+)", body)
    ids = {found: f"{name}-{index}" for index, found in enumerate(dict.fromkeys(referenced))}
    body = re.sub(r"<[^<>]+>", _tag_cleaner(ids), body)
    label = f'<svg role="img" aria-label="{escape(description)}"'
    return re.sub(r"\n\s*", "\n", body.replace("<svg", label, 1)).strip()


def _tag_cleaner(ids: dict[str, str]) -> Callable[[re.Match[str]], str]:
    def clean(match: re.Match[str]) -> str:
        tag = re.sub(r'\sxmlns(?::\w+)?="[^"]*"|\sversion="1\.1"', "", match.group())
        tag = re.sub(r'\sid="([^"]*)"', lambda m: f' id="{ids[m[1]]}"' if m[1] in ids else "", tag)
        tag = re.sub(r"(url\(|href=\")#([^)\"]+)", lambda m: f"{m[1]}#{ids[m[2]]}", tag)
        tag = re.sub(r'(\s(?:width|height))="[\d.]+pt"', "", tag) if tag.startswith("<svg") else tag
        tag = re.sub(r"font: ([^\"]*?)'DejaVu Sans'[^;\"]*", r"font: \1var(--font, sans-serif)", tag)
        return re.sub(r"#[0-9a-f]{6}\b", _themed, tag)

    return clean


def _themed(match: re.Match[str]) -> str:
    name = _PROPERTIES.get(match.group())
    return match.group() if name is None else f"var(--{name}, {match.group()})"
