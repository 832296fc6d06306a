"""How all figures look: the palette, line styles and markers, chosen once, and the sheet they are drawn on.

The colours are Okabe and Ito's, in an order in which neighbours differ in lightness; each comes with a line
style and a marker of its own, so that a grey print and a colour-blind eye tell them apart as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 1)))
MARKERS = "osD^vPX"
ACCENT = "#D55E00"  # vermilion: no colour-blind eye takes it for a tone of viridis
GREY, RULE = "0.35", "0.9"
RC: Any = {
    **{"font.family": "DejaVu Sans", "font.size": 9.0, "axes.titlesize": 10.0, "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True},
    **{"figure.facecolor": "white", "axes.titlelocation": "left", "lines.linewidth": 1.4, "savefig.dpi": 160},
    # equal figures are equal bytes
    **{"svg.hashsalt": "sparsepop", "svg.fonttype": "path", "path.simplify": True},
    # names are no formulas, whatever is in them
    "text.parse_math": False,
}
SIZE = (6.4, 3.9)  # inches: 9 points are readable where it fills a telephone's screen


def series(index: int) -> dict[str, Any]:
    """Colour, line style and marker of series number `index`."""
    place = index % len(COLORS)
    return {"color": COLORS[place], "linestyle": DASHES[place], "marker": MARKERS[place]}


def shades(count: int) -> list[Any]:
    """Colours for `count` things in an order, the first darkest; the palest tones of the map are left out."""
    return list(map(tuple, matplotlib.colormaps["viridis"](np.linspace(0.0, 0.93, count))))


@contextmanager
def sheet(width: float = SIZE[0], height: float = SIZE[1]) -> Iterator[Figure]:
    """A figure of this size in inches, in the style, while it is drawn on."""
    with matplotlib.rc_context(RC):
        yield Figure(figsize=(width, height))


def encode(figure: Figure, name: str, **options: Any) -> bytes:
    """A figure as the bytes of a file of that name; ValueError for an ending that is no kind of picture."""
    ending = os.path.splitext(name)[1].lstrip(".")
    if ending not in figure.canvas.get_supported_filetypes():
        raise ValueError(f"{name!r} does not end in a kind of picture: use .png, .svg or .pdf")
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    picture = BytesIO()
    with matplotlib.rc_context(RC):
        figure.draw_without_rendering()  # the layout settles only by being drawn
        figure.savefig(picture, format=ending, metadata=dated.get(ending), **options)
    return picture.getvalue()
