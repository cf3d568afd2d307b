"""SVG: from a drawing function to one clean `<svg>` element, the same bytes for the same input."""

import html
import io
import re
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK, SOFT, FAINT = "#1b2733", "#5b6875", "#c9d1d9"

_PX = 1 / 72  # SVG of matplotlib has 72 units an inch: a figure of n _PX is n units wide
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedsynth",
    "text.parse_math": False,
    "font.size": 12,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "text.color": INK,
    "path.simplify": False,
}


def svg(name: str, draw: Callable[[Figure], None], *, size: tuple[int, int], title: str, description: str) -> str:
    """Let `draw` fill a figure of `size` units and write it as one clean `<svg>` element."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's own matplotlibrc must not change a report's bytes
        settings: Any = _STYLE | {"svg.hashsalt": name}
        mpl.rcParams.update(settings)
        figure = Figure(figsize=(size[0] * _PX, size[1] * _PX), facecolor="none")
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _clean(buffer.getvalue(), name=name, size=size, title=title, description=description)


def _clean(raw: str, *, name: str, size: tuple[int, int], title: str, description: str) -> str:
    """Keep the drawing only: no prolog, no fonts, no page-wide style, own ids, short paths."""
    body = raw[raw.index(">", raw.index("<svg")) + 1 : raw.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href=", "href=")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))

    def tag(found: re.Match[str]) -> str:
        text = re.sub(r' id="([^"]+)"', lambda m: f' id="{name}-{m[1]}"' if m[1] in used else "", found[0])
        text = re.sub(r'(href="#|url\(#)([^")]+)', rf"\g<1>{name}-\2", text)
        text = re.sub(r' transform="rotate\(-?0 [^"]*"| font-family: [^;"]*;?', "", text)
        text = re.sub(r' d="([^"]*)"', lambda m: f' d="{_short_path(m[1])}"', text)
        return re.sub(r"-?\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", text)

    # Text between tags is left alone: a label's name may look like an attribute.
    body = re.sub(r"<[^>]+>", tag, body)
    body = re.sub(r"\s*\n\s*", "\n", body).replace("<defs>\n</defs>\n", "")
    return (
        f'<svg role="img" viewBox="0 0 {size[0]} {size[1]}" style="max-width:{size[0] * 1.35:g}px" '
        f'aria-labelledby="{name}-title {name}-desc" stroke-linejoin="round">'
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body}</svg>'
    )


def _short_path(path: str) -> str:
    """Write a path of straight lines in steps of a tenth of a unit, relative to the point before."""
    words = path.split()
    if not words or set(re.findall(r"[A-Za-z]", path)) - set("MLz"):
        return re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.2f}".rstrip("0").rstrip("."), " ".join(words))
    out: list[str] = []
    here = (0, 0)
    for command, x, y in re.findall(r"([MLz])\s*(-?[\d.]+)?\s*(-?[\d.]+)?", path):
        if command == "z":
            out.append("z")
            continue
        there = (round(10 * float(x)), round(10 * float(y)))
        if command == "M":
            out.append(f"M{_tenths(there[0])} {_tenths(there[1])}")
        elif there != here:
            dx, dy = _tenths(there[0] - here[0]), _tenths(there[1] - here[1])
            out.append(f"l{dx}{'' if dy.startswith('-') else ' '}{dy}")
        here = there
    return "".join(out)


def _tenths(value: int) -> str:
    """Write a whole number of tenths without needless digits: -3 is "-.3", 20 is "2"."""
    sign, whole, rest = "-" if value < 0 else "", abs(value) // 10, abs(value) % 10
    if rest == 0:
        return f"{sign}{whole}"
    return f"{sign}{whole or ''}.{rest}"
