"""Matplotlib figures as inline SVG that follows the page: its fonts, and its colours on light and dark.

Figures are drawn with a colour for each role of `THEME`; in the SVG each of them becomes a CSS variable, which the
page's style sheet defines for both schemes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

# Role to the colour that stands for it while drawing. All are distinct, and none is used for anything else.
THEME = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "paper": "#040404",
    "in": "#050505",
    "recovered": "#060606",
    "late": "#070707",
    "away": "#080808",
    "curve": "#090909",
}

# Components: Paul Tol's "muted" scheme, safe for the colour-blind, and its grey. More than ten begin anew.
N_PALETTE = 10
PALETTE = tuple(f"#0a0a{k:02x}" for k in range(N_PALETTE))

_VARIABLES = {
    **{colour: f"var(--{role})" for role, colour in THEME.items()},
    **{colour: f"var(--component-{k})" for k, colour in enumerate(PALETTE)},
}

_STYLE = {
    "svg.hashsalt": "fed-em",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": THEME["ink"],
    "axes.labelcolor": THEME["muted"],
    "axes.labelsize": 9.5,
    "axes.edgecolor": THEME["grid"],
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "grid.color": THEME["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": THEME["grid"],
    "ytick.color": THEME["grid"],
    "xtick.labelcolor": THEME["muted"],
    "ytick.labelcolor": THEME["muted"],
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "path.simplify": False,
    "text.parse_math": False,  # names are names, whatever signs are in them
}


def component_colour(component: int) -> str:
    """The drawing colour of a component."""
    return PALETTE[component % N_PALETTE]


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in the report's style, so many inches wide and high; draw and `inline_svg` it within the context."""
    with mpl.rc_context():
        mpl.rcdefaults()  # whatever the user's own style is
        mpl.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height))


def inline_svg(drawn: Figure, name: str, title: str, description: str) -> str:
    """A figure as an `<svg>` element to be put into a page.

    Args:
        drawn: The figure.
        name: Prefix of every id in it, unique in the page.
        title, description: What it shows, for whoever cannot see it.
    """
    buffer = io.StringIO()
    drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sid="', f' id="{name}-', svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg).replace("url(#", f"url(#{name}-")
    view_box = re.search(r'viewBox="[^"]*"', svg)
    assert view_box is not None
    labels = (
        f'<svg class="chart" {view_box[0]} role="img" aria-labelledby="{name}-title {name}-description">'
        f'<title id="{name}-title">{escape(title)}</title>'
        f'<desc id="{name}-description">{escape(description)}</desc>'
    )
    svg = labels + svg[svg.index(">") + 1 :]
    return re.sub("#[0-9a-f]{6}", lambda match: _VARIABLES.get(match[0], match[0]), svg)
