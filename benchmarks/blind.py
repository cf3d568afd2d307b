"""A page that asks a reader which windows are recordings: twelve of people held out, twelve synthetic ones.

    python benchmarks/blind.py --data DIR --sets bonn cinc2017 --epsilon 8 --out build/blind.html

Recordings are read and windows drawn while the page is made; nothing of either is kept elsewhere. The order is by
chance at every call. What the page shows are real windows of public sets: do not publish one of other recordings.
"""

import argparse
import html
import math
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fidelity import everybody, generator_of, windows_a_person
from numpy.typing import NDArray
from utility_data import ROOT, SETS, load

OF_EACH = 12
_WIDTH, _LANE, _SHOWN = 480, 56, 3  # pixels of a trace, pixels for a channel, channels at most
_LOUD = 0.995  # quantile of amplitudes that a lane just holds


@dataclass(frozen=True)
class Blind:
    """Windows in an order of chance; `signal` microvolts (window, channel, time), `is_real` (window,)."""

    name: str
    epsilon: float
    signal: NDArray[np.float32]
    labels: tuple[str, ...]
    is_real: NDArray[np.bool_]
    seconds: float
    channels: tuple[str, ...]


def main(arguments: list[str] | None = None) -> int:
    """Write the page and name it."""
    options = _parser().parse_args(arguments)
    parts = [fragment(windows(name, options.data, options.epsilon, options.work)) for name in options.sets]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(whole("\n".join(parts)), encoding="utf-8")
    print(options.out)
    return 0


def windows(name: str, data: Path, epsilon: float, work: Path) -> Blind:
    """Return twelve windows of people held out and twelve drawn after private sums of the others, mixed.

    Both have the same labels in the same numbers; no two are of one person.
    """
    dealt = load(name, data=data, seed=1, work=work)
    rng = np.random.default_rng(secrets.randbits(64))  # an order that nobody can look up
    test, names = dealt.test, dealt.study.labels.names
    mixed = rng.permutation(len(test.labels))
    _, first = np.unique(test.people[mixed], return_index=True)  # one window of each person
    rows = rng.permutation(mixed[first])[:OF_EACH]
    drawn = generator_of(name, dealt, family="cwgan", epsilon=epsilon).draw(
        per_label=4 * OF_EACH,
        seed=f"blind {secrets.token_hex(8)}",
        windows_per_subject=max(1, round(windows_a_person(everybody(dealt)))),
    )
    spare = rng.permutation(len(drawn.labels)).tolist()
    like = []
    for label in test.labels[rows]:
        like.append(next(row for row in spare if drawn.labels[row] == label))
        spare.remove(like[-1])
    signal = np.concatenate([test.signal[rows], drawn.signal[like]])
    labels = np.concatenate([test.labels[rows], drawn.labels[like]])
    order = rng.permutation(len(signal))
    return Blind(
        name=name,
        epsilon=epsilon,
        signal=signal[order],
        labels=tuple(names[label] for label in labels[order]),
        is_real=(np.arange(len(signal)) < len(rows))[order],
        seconds=dealt.shape.n_times / dealt.shape.sfreq,
        channels=dealt.shape.channels,
    )


def fragment(blind: Blind) -> str:
    """Return a form in HTML: a trace and a box for each window, a button that counts, and the key below."""
    shown = blind.channels[:_SHOWN]
    height = float(np.quantile(np.abs(blind.signal[:, : len(shown)]), _LOUD)) or 1.0
    figures = [
        f'<label class="window" data-real="{int(real)}"><span>{place + 1}. <input type="checkbox"> a recording'
        f" ({html.escape(label)})</span>{_traces(window[: len(shown)], height)}</label>"
        for place, (window, label, real) in enumerate(zip(blind.signal, blind.labels, blind.is_real, strict=True))
    ]
    key = ", ".join(str(place + 1) for place in np.flatnonzero(blind.is_real))
    epsilon = "∞" if math.isinf(blind.epsilon) else f"{blind.epsilon:g}"
    return (
        f'<form class="blind" onsubmit="return count(this)"><h2>{html.escape(blind.name)}, ε = {epsilon}</h2>\n'
        f"<p>{blind.seconds:.3g} s of {html.escape(', '.join(shown))}; a lane is {2 * height:.0f} µV high. "
        f"{int(blind.is_real.sum())} of {len(blind.is_real)} are recordings. Tick those.</p>\n"
        f'<div class="windows">{"".join(figures)}</div>\n<p><button>Count</button> <output></output></p>\n'
        f"<details><summary>The key</summary><p>Recordings: {key}.</p></details></form>"
    )


def _traces(window: NDArray[np.float32], height: float) -> str:
    lanes = []
    for number, wave in enumerate(window):
        across = np.linspace(0, _WIDTH, len(wave))
        up = (number + 0.5) * _LANE - np.clip(wave / height, -1.2, 1.2) * _LANE / 2
        lanes.append(
            f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, up, strict=True))}"/>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_LANE * len(window)}" role="img" aria-label="a window">{"".join(lanes)}</svg>'
    )


_STYLE = """
.blind .windows { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: .8rem; }
.blind .window { display: block; border: 1px solid #8888; border-radius: 6px; padding: .4rem; cursor: pointer; }
.blind svg { width: 100%; height: auto; display: block; }
.blind polyline { fill: none; stroke: currentColor; stroke-width: 1; vector-effect: non-scaling-stroke; }
.blind .found { outline: 2px solid #00796b; } .blind .missed { outline: 2px dashed #b45309; }
"""
_SCRIPT = """
function count(form) {
  let right = 0;
  const all = form.querySelectorAll(".window");
  for (const one of all) {
    const good = one.querySelector("input").checked === (one.dataset.real === "1");
    one.classList.toggle("found", good); one.classList.toggle("missed", !good); right += good;
  }
  form.querySelector("output").textContent =
    right + " of " + all.length + " right; by chance " + all.length / 2 + ".";
  return false;
}
"""


def whole(body: str) -> str:
    """Return a page of its own, which needs nothing from elsewhere."""
    style = f"body {{ font: 1rem/1.5 sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }}{_STYLE}"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" '
        f'content="light dark"><title>Which are recordings?</title><style>{style}</style><script>{_SCRIPT}</script>'
    )
    title = "<h1>Which are recordings?</h1>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{title}\n{body}</body></html>\n'


def inner(body: str) -> str:
    """Return the same for a page that has a head already."""
    return f"<style>{_STYLE}</style><script>{_SCRIPT}</script>\n{body}\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="blind.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds the public sets, one folder each")
    parser.add_argument("--sets", nargs="+", choices=sorted(SETS), default=["simulated"])
    parser.add_argument("--epsilon", type=float, default=8.0, help="inf is allowed")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "blind.html", metavar="FILE")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "utility", metavar="DIR", help="scratch")
    return parser


if __name__ == "__main__":
    sys.exit(main())
