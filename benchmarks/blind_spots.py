"""Blind spots: how much of a difference between labels survives in a release, one difference at a time.

Made-up cohorts whose labels differ in one thing only (`blind_spot_cohorts.py`). A classifier of raw windows, the
product's random convolutions, is trained on synthetic and on real windows and tested on people it has not seen. The
recovered share is (AUROC of synthetic - 1/2) / (AUROC of real - 1/2).

    python benchmarks/blind_spots.py                                  # the default plan without privacy
    python benchmarks/blind_spots.py --quick --spots "evoked waveform" --arms anchor all:vae-ldm
    python benchmarks/blind_spots.py --epsilon 8 --people 2000

    python benchmarks/blind_spots.py --table fedsynth/evaluation/blind_spots.json    # what `check` quotes

An arm is "anchor", "anchor without coherence" (nothing is asked of channels together), "anchor at events" (the
study says that windows begin at events), or what learns, a family and where it starts: "adapters:cwgan",
"all:vae-ldm", "all:vae-ldm:scratch", "low-rank:diffwave". With " without responses" behind it random convolutions
are not asked.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from blind_spot_cohorts import BLIND_SPOTS, ECG_RATE, ECG_TIMES, EEG_RATE, EEG_TIMES, BlindSpot, Cohort, cohort_of

from fedsynth import plan as plans
from fedsynth.anchors import estimator as estimators
from fedsynth.evaluation.protocol.classifiers.random_convolutions import auroc
from fedsynth.plan import plan_of
from fedsynth.recordings.recording import Windows
from fedsynth.rehearsal.in_memory import train_in_memory
from fedsynth.study import Study

_LABELS = ("one", "other")
_BARE = "anchor without coherence"
_EVENTS = "anchor at events"
_SILENT = " without responses"


@dataclass(frozen=True)
class Row:
    """One trial."""

    spot: str
    arm: str
    epsilon: float
    people: int
    seed: int
    real: float
    synthetic: float
    seconds: float

    @property
    def share(self) -> float:
        """Return the recovered share."""
        return (self.synthetic - 0.5) / (self.real - 0.5)


def main(arguments: list[str] | None = None) -> int:
    """Run every arm on every blind spot, and print a line for each."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    spots = [spot for spot in BLIND_SPOTS if not given.spots or spot.name in given.spots]
    rows: list[Row] = []
    for spot in spots:
        for seed in range(1, given.seeds + 1):
            for row in trials(spot, given.arms, given, seed=seed):
                rows.append(row)
                print(
                    f"{row.spot}: {row.arm}, epsilon {row.epsilon:g}: AUROC {row.synthetic:.3f}, real "
                    f"{row.real:.3f}, recovered {row.share:+.2f} ({row.seconds:.0f} s)",
                    flush=True,
                )
    for arm in given.arms:
        shares = [row.share for row in rows if row.arm == arm]
        print(f"{arm}: mean {np.mean(shares):+.2f}, worst {np.min(shares):+.2f} of {len(shares)}")
    if given.table:
        known = {(row["spot"], row["arm"]): row for row in json.loads(given.table.read_text(encoding="utf-8"))}
        for spot, arm in dict.fromkeys((row.spot, row.arm) for row in rows):
            shares = [row.share for row in rows if (row.spot, row.arm) == (spot, arm)]
            modality = next(one.modality for one in BLIND_SPOTS if one.name == spot)
            share = round(float(np.mean(shares)), 2)
            known[spot, arm] = {"spot": spot, "modality": modality, "arm": arm, "share": share}
        lines = ",\n ".join(json.dumps(row) for row in known.values())
        given.table.write_text(f"[{lines}]\n", encoding="utf-8")
    if given.json:
        body = [{**asdict(row), "epsilon": str(row.epsilon), "share": row.share} for row in rows]
        given.json.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return 0


def trials(spot: BlindSpot, arms: list[str], given: argparse.Namespace, *, seed: int) -> Iterator[Row]:
    """Yield one row for each arm."""
    train = cohort_of(spot, people=given.people, windows=given.windows, seed=2 * seed)
    test = cohort_of(spot, people=given.test_people, windows=given.windows, seed=2 * seed + 1)
    real = auroc(train.signal, train.labels, test.signal, test.labels)
    for arm in arms:
        began = time.monotonic()
        with _without_coherence(arm):
            plan = plan_of(study_of(spot, arm, given))
            generator = train_in_memory(plan, deal(train, spot, sites=given.sites))
        # At least as many as there are real ones, so that neither has more to learn from.
        count = max(given.per_label, math.ceil(len(train.labels) / 2))
        drawn = generator.draw(per_label=count, seed=f"blind spots {seed}")
        synthetic = auroc(drawn.signal, drawn.labels, test.signal, test.labels)
        spent = time.monotonic() - began
        yield Row(spot.name, arm, given.epsilon, given.people, seed, real, synthetic, spent)


@contextmanager
def _without_coherence(arm: str) -> Iterator[None]:
    """Make plans that ask nothing of channels together, for the arm that says so."""
    if arm != _BARE:
        yield
        return
    with patch.object(plans, "_PLANS", {}), patch.object(estimators, "coherence_of", lambda *_, **__: None):
        yield


def deal(cohort: Cohort, spot: BlindSpot, *, sites: int) -> dict[str, Windows]:
    """Deal people out to sites in turn; each site has both labels."""
    place = cohort.people // 2 % sites
    dealt = {}
    for site in range(sites):
        mine = place == site
        _, numbers = np.unique(cohort.people[mine], return_inverse=True)
        dealt[f"site-{site + 1}"] = Windows(
            signal=cohort.signal[mine],
            labels=cohort.labels[mine],
            subjects=numbers.astype(np.int64),
            recordings=numbers.astype(np.int64),
            label_names=_LABELS,
            channels=spot.channels,
            sfreq=_rate(spot)[0],
        )
    return dealt


def study_of(spot: BlindSpot, arm: str, given: argparse.Namespace) -> Study:
    """Return the study of one arm: the default plan, with more than declared facts only where the arm says so."""
    silent = arm.endswith(_SILENT)
    arm = arm.removesuffix(_SILENT)
    train, family, start = (*arm.split(":"), "", "")[:3]
    sfreq, n_times = _rate(spot)
    learned = {"minibatch_steps": given.steps} | ({"rounds": given.rounds} if given.rounds is not None else {})
    return Study.model_validate(
        {
            "name": "blind-spots",
            "signal": {
                "modality": spot.modality,
                "format": "edf",
                "channels": spot.channels,
                "sfreq": sfreq,
                "bandpass": (0.5, 40.0),
                "range_uv": 5000.0,
            },
            "windows": {"n_times": n_times, "per_recording": given.windows},
            "labels": {
                "names": _LABELS,
                "source": "events" if arm == _EVENTS else "participants.tsv",
                "positive": _LABELS[1],
            },
            "privacy": {"unit": "subject", "epsilon": given.epsilon, "delta": 1e-5},
            "cohort": {
                "least_sites": given.sites,
                "sites": tuple(f"site-{site + 1}" for site in range(given.sites)),
                "expected_units": given.people // given.sites,
            },
            "family": {
                "name": family or "cwgan",
                "train": train if family else "adapters",
                "start": start or "prior",
            },
            "plan": (learned if family else {"rounds": 0}) | {"responses": not silent},
        }
    )


def _rate(spot: BlindSpot) -> tuple[float, int]:
    return (EEG_RATE, EEG_TIMES) if spot.modality == "eeg" else (ECG_RATE, ECG_TIMES)


class _Quick(argparse.Action):
    def __call__(self, _: object, namespace: argparse.Namespace, *__: object) -> None:
        namespace.people, namespace.test_people, namespace.per_label, namespace.steps = 200, 100, 400, 600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [spot.name for spot in BLIND_SPOTS]
    parser.add_argument("--spots", nargs="+", choices=names, metavar="SPOT", help=f"of: {', '.join(names)}")
    parser.add_argument("--arms", nargs="+", default=["anchor"], metavar="ARM")
    parser.add_argument("--epsilon", type=float, default=math.inf, metavar="E")
    parser.add_argument("--people", type=int, default=500, metavar="N", help="who train (default 500)")
    parser.add_argument("--test-people", type=int, default=250, metavar="N")
    parser.add_argument("--windows", type=int, default=4, metavar="N", help="of each person (default 4)")
    parser.add_argument(
        "--per-label", type=int, default=1000, metavar="N", help="synthetic windows at least (default 1000)"
    )
    parser.add_argument("--sites", type=int, default=1, metavar="N", help="people are dealt to so many (default 1)")
    parser.add_argument("--steps", type=int, default=3000, metavar="N", help="minibatches for each phase")
    parser.add_argument("--rounds", type=int, metavar="N", help="default: as the plan has it")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE", help="put means over seeds into this table")
    parser.add_argument("--quick", action=_Quick, nargs=0, help="200 people and 600 steps; options behind it count")
    return parser


if __name__ == "__main__":
    sys.exit(main())
