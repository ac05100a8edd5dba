"""Matplotlib figures as inline SVG that follows the page: its fonts, and its colours on light and dark.

Figures are drawn with a colour for each role of `THEME`; in the SVG each of them becomes a CSS variable, which the
page's style sheet defines for both schemes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

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
    "stale": "#0b0b0b",
}

# Components: Paul Tol's "muted" scheme, safe for the colour-blind, and its grey. More than ten begin anew.
N_PALETTE = 10
PALETTE = tuple(f"#0a0a{k:02x}" for k in range(N_PALETTE))

_VARIABLES = {
    **{colour: f"var(--{role})" for role, colour in THEME.items()},
    **{colour: f"var(--component-{k})" for k, colour in enumerate(PALETTE)},
}

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_NOT_SHOWN = {f"{_SVG}metadata", f"{_SVG}style"}

_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fed-em",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": THEME["ink"],
    "axes.labelcolor": THEME["muted"],
    "axes.labelsize": 9.5,
    "axes.edgecolor": THEME["grid"],
    "axes.facecolor": THEME["paper"],
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "axes.formatter.useoffset": False,
    "grid.color": THEME["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": THEME["grid"],
    "ytick.color": THEME["grid"],
    "xtick.labelcolor": THEME["muted"],
    "ytick.labelcolor": THEME["muted"],
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "savefig.facecolor": "auto",
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
    buffer = io.BytesIO()
    drawn.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in _NOT_SHOWN]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.attrib = {key.removeprefix(_XLINK): _themed(key, value, name) for key, value in element.attrib.items()}
    width, height = (72 * inches for inches in drawn.get_size_inches())
    root.attrib = {
        "class": "chart",
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-description",
    }
    root.insert(0, _label("title", f"{name}-title", title))
    root.insert(1, _label("desc", f"{name}-description", description))
    return ElementTree.tostring(root, encoding="unicode")


def _label(tag: str, identifier: str, text: str) -> ElementTree.Element:
    label = ElementTree.Element(tag, {"id": identifier})
    label.text = text
    return label


def _themed(key: str, value: str, name: str) -> str:
    """An attribute's value with ids made unique to the figure `name`, and colours that follow the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == f"{_XLINK}href":
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    return re.sub("#[0-9a-f]{6}", lambda match: _VARIABLES.get(match[0], match[0]), value)
