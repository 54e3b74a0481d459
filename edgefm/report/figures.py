"""A drawing of matplotlib as SVG inside a page: its colours are the page's, so that it follows light and dark.

Not what is drawn (`plots.py`). Why SVG by matplotlib and not Plotly: a figure is about 20 KB where Plotly's script alone is
more than the 3 MB that the whole page may have; it is there without a script, on paper too; its text is text; and the same
numbers give the same bytes, which a file that is evidence should.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ..verify.section import Section

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

# What is drawn in the colour on the left has the page's colour on the right; nothing else is drawn in any colour.
INK, FAINT, PAPER, HEAT = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#101001", "#101002", "#101003", "#101004", "#101005", "#101006", "#101007", "#101008")
VARIABLES = {INK: "currentColor", FAINT: "var(--line)", PAPER: "var(--paper)", HEAT: "var(--heat)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)
}
MARKERS = "osD^vPXh"
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1)), (0, (8, 3)), (0, (1, 3)), (0, (4, 1, 1, 1)))
WIDTH = 4.2  # inches
SCALE = 8.6  # rem of a page for an inch; narrower where there is less room
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edgefm",
    "text.parse_math": False,  # a dollar in a name is no formula
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it: the layout depends on no machine's fonts
    "font.size": 8.5,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titlecolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "patch.edgecolor": INK,
}


class Figure(NamedTuple):
    """A figure of the page.

    Attributes:
        name: in small letters, the only one of the page. caption: for all. alternative: what it shows, in words.
        svg: the element, without a line of it that loads anything; "" where there is no matplotlib.
        numbers: what is drawn, as a table.
    """

    name: str
    caption: str
    alternative: str
    svg: str
    numbers: Section


def drawable() -> bool:
    """Whether matplotlib is installed (extra `[verify]`)."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    return True


def draw(name: str, paint: Callable[[Any], None], height: float, width: float = WIDTH) -> str:
    """Draw, and make it an element of a page.

    Args:
        name: begins every id in it. height, width: inches. paint: takes the empty `matplotlib.figure.Figure`.
    """
    if not drawable():
        return ""
    import matplotlib
    from matplotlib.figure import Figure as Empty

    with matplotlib.rc_context(), io.StringIO() as file:
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        drawing: Drawing = Empty(figsize=(width, height), layout="constrained")
        paint(drawing)
        drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return _element(file.getvalue(), name, width)


def _element(svg: str, name: str, width: float) -> str:
    """The `<svg>` alone, with ids of its own, the page's colours and no size but the widest it may be."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<svg [^>]*?(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 style="max-width: {width * SCALE:g}rem">', svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)  # the page's font
    return re.sub("|".join(VARIABLES), lambda found: VARIABLES[found[0]], svg).strip()
