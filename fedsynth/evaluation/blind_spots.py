"""Blind spots: which differences between labels a plan can carry, from a public table of made-up cohorts.

`benchmarks/blind_spots.py --table` measures the table: cohorts whose labels differ in one thing only, without
privacy. A share is what training on synthetic windows keeps of the AUROC above chance that training on real ones
has. Noise only takes from it.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from fedsynth.study import MEASURED_FAMILY, Modality, Study

_CARRIED, _LOST = 0.5, 0.1
_ACROSS = ("in phase or antiphase", "lead or lag of 30 ms", "side of the head", "ST level by lead")


@dataclass(frozen=True)
class Measured:
    """The recovered share of one difference by one arm: "anchor", without or with one more sum, or what learns.

    None where the table names a difference that nobody has measured yet.
    """

    spot: str
    modality: Modality
    arm: str
    share: float | None


@dataclass(frozen=True)
class Differences:
    """What a plan can carry, in part or not at all, and what was not measured for it; names with shares."""

    carried: tuple[tuple[str, float], ...]
    in_part: tuple[tuple[str, float], ...]
    lost: tuple[tuple[str, float], ...]
    unknown: tuple[str, ...]

    def sentences(self) -> str:
        """Return lines for a reader."""
        rows = (
            ("carried", _listed(self.carried)),
            ("in part", _listed(self.in_part)),
            ("lost", _listed(self.lost)),
            ("not measured", ", ".join(self.unknown)),
        )
        told = "".join(f"  {name + ':':<14}{some}\n" for name, some in rows if some)
        return (
            "Differences between labels that this plan can carry (share of AUROC kept on made-up people without "
            f"noise, docs/blind-spots.md):\n{told}"
            "Where labels differ only in what is lost, a release holds nothing of it.\n"
        )


@lru_cache(maxsize=1)
def table() -> tuple[Measured, ...]:
    """Return the table that ships."""
    text = files("fedsynth.evaluation").joinpath("blind_spots.json").read_text(encoding="utf-8")
    return tuple(Measured(**row) for row in json.loads(text))


def differences_of(
    study: Study,
    *,
    asks_coherence: bool,
    asks_events: bool = False,
    asks_modulation: bool = True,
    asks_beats: bool = True,
    asks_responses: bool = True,
) -> Differences:
    """Return what a study's plan can carry of the differences in the table.

    Args:
        study: for modality, channels, and what learns.
        asks_coherence: whether the plan asks what channels have in common; without it nothing carries that.
        asks_events: whether it asks for event-related means, of windows that begin at events.
        asks_modulation: whether it asks how rhythms come and go.
        asks_beats: whether it asks how beats follow one another.
        asks_responses: whether it asks how random convolutions respond.
    """
    arm = arm_of(study)
    rows = [row for row in table() if row.modality == study.signal.modality]
    spots = dict.fromkeys(row.spot for row in rows)
    if len(study.signal.channels) == 1:
        spots = {spot: None for spot in spots if spot not in _ACROSS}
    known = [(row.spot, row.arm, row.share) for row in rows if row.share is not None]
    shares = {spot: share for spot, by, share in known if by == arm}
    others = {
        "anchor without responses": not asks_responses,
        "anchor without coherence": not asks_coherence,
        "anchor without modulation": not asks_modulation,
        "anchor without beats": not asks_beats,
        "anchor at events": asks_events,
    }
    for other, counts in others.items():
        if arm == "anchor" and counts:
            shares |= {spot: share for spot, by, share in known if by == other}
    found = sorted(((spot, shares[spot]) for spot in spots if spot in shares), key=lambda pair: -pair[1])
    return Differences(
        carried=tuple(pair for pair in found if pair[1] >= _CARRIED),
        in_part=tuple(pair for pair in found if _LOST <= pair[1] < _CARRIED),
        lost=tuple(pair for pair in found if pair[1] < _LOST),
        unknown=tuple(spot for spot in spots if spot not in shares),
    )


def arm_of(study: Study) -> str:
    """Return the arm of the table that a study's plan is: layers count where they learn by minibatches.

    Private gradients count as the anchor that they start from, but for all layers where noise is so low that they
    learned something (docs/crossover.md).
    """
    learns = f"{study.family.train}:{study.family.name}"
    if study.learns_plainly and study.n_rounds:
        return learns
    if learns == f"all:{MEASURED_FAMILY}" and study.n_rounds and study.gradients_pay():
        return f"{learns} with noise"
    return "anchor"


def _listed(pairs: tuple[tuple[str, float], ...]) -> str:
    return ", ".join(f"{name} {share:.2f}" for name, share in pairs)
