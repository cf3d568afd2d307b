"""Deal a folder of recordings to made-up hospitals, so that a public data set can be rehearsed as a federation.

The folders that are understood are described in layouts.py: Bonn, EDF with a participants.tsv, CinC 2017, PTB-XL
and MIT-BIH. Nobody is at two hospitals, and nobody is both held out and at a hospital.

    python examples/deal.py bonn dealt --hospitals 4 --skew 0.5 --hold-out 0.2
"""

import argparse
import math
import random
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # python -I leaves the script's own folder out

from layouts import DealError, Person, Table, read_people

_SIZE_SPREAD = 0.6  # at skew 1, the largest hospital is four times the smallest


def main(arguments: list[str] | None = None) -> int:
    """Deal as the command line says; return 0, or 2 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        people, table = read_people(options.source, column=options.column)
        held_out, rest = hold_out(people, fraction=options.hold_out, seed=options.seed)
        hospitals = deal(rest, hospitals=options.hospitals, skew=options.skew, seed=options.seed)
        places = {options.dest / f"hospital-{i + 1}": group for i, group in enumerate(hospitals)}
        if held_out:
            places[options.dest.with_name(f"{options.dest.name}.holdout")] = held_out
        _check_places(options, held_out)
        for place, group in places.items():
            _write(place, group, table, source=options.source, link=options.link)
            shares = ", ".join(
                f"{label} {count}" for label, count in sorted(Counter(p.label for p in group).items())
            )
            recordings = {path.with_suffix("") for person in group for path in person.files}
            print(f"{place}: {len(group)} people, {len(recordings)} recordings ({shares})")
    except (DealError, OSError) as error:
        print(f"deal: {error}", file=sys.stderr)
        return 2
    return 0


def hold_out(people: list[Person], *, fraction: float, seed: int) -> tuple[list[Person], list[Person]]:
    """Part people into those held out, a fraction of every label, and the rest.

    >>> people = [Person(str(i), "ab"[i % 2], ()) for i in range(10)]
    >>> [person.label for person in hold_out(people, fraction=0.2, seed=1)[0]]
    ['a', 'b']
    """
    rng = random.Random(f"hold out {seed}")
    chosen: list[Person] = []
    for group in _by_label(people).values():
        rng.shuffle(group)
        chosen += group[: math.floor(fraction * len(group) + 0.5)]
    names = {person.name for person in chosen}
    return [p for p in people if p.name in names], [p for p in people if p.name not in names]


def deal(people: list[Person], *, hospitals: int, skew: float, seed: int) -> list[list[Person]]:
    """Deal people to hospitals, label by label; every hospital gets somebody.

    Without skew, all hospitals get the same number of every label, up to one. With skew, the weight of a hospital
    is 1 + 0.6 skew s, where s runs evenly from 1 to -1 over the hospitals, times exp(skew z) with a standard normal
    z for every label and hospital.

    Raises:
        DealError: fewer people than hospitals.
    """
    if len(people) < hospitals:
        raise DealError(f"{len(people)} people cannot be dealt to {hospitals} hospitals; ask for fewer")
    rng = random.Random(f"deal {seed}")
    steps = [1 - 2 * i / (hospitals - 1) if hospitals > 1 else 0.0 for i in range(hospitals)]
    dealt: list[list[Person]] = [[] for _ in range(hospitals)]
    for group in _by_label(people).values():
        rng.shuffle(group)
        weights = [(1 + _SIZE_SPREAD * skew * step) * math.exp(skew * rng.gauss(0, 1)) for step in steps]
        counts = _shares(len(group), weights, already=[len(hospital) for hospital in dealt])
        for hospital, count in zip(dealt, counts, strict=True):
            hospital += group[:count]
            del group[:count]
    for hospital in dealt:
        if not hospital:
            hospital.append(max(dealt, key=len).pop())
    return [sorted(hospital, key=lambda person: person.name) for hospital in dealt]


def _shares(total: int, weights: list[float], *, already: list[int]) -> list[int]:
    """Part a number by weights; what is left over goes to the largest remainders, then the smallest hospitals."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(share) for share in exact]
    order = sorted(range(len(weights)), key=lambda i: (round(counts[i] - exact[i], 9), already[i] + counts[i]))
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return counts


def _by_label(people: list[Person]) -> dict[str, list[Person]]:
    groups: dict[str, list[Person]] = defaultdict(list)
    for person in sorted(people, key=lambda person: person.name):
        groups[person.label].append(person)
    return dict(sorted(groups.items()))


def _check_places(options: argparse.Namespace, held_out: list[Person]) -> None:
    places = [options.dest] + ([options.dest.with_name(f"{options.dest.name}.holdout")] if held_out else [])
    for place in places:
        if place.resolve().is_relative_to(options.source.resolve()):
            raise DealError(f"{place} lies inside {options.source}; choose a folder elsewhere")
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise DealError(
                f"{place} is there and not empty; nothing was written. Remove it or choose another name"
            )


def _write(place: Path, people: list[Person], table: Table | None, *, source: Path, link: bool) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for person in people:
        for path in person.files:
            target = place / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            if link:
                target.symlink_to(path.resolve())
            else:
                shutil.copyfile(path, target)
    if table is not None:
        lines = [table.head, *(row for person in people for row in person.rows)]
        (place / table.name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deal.py",
        description="Deal a folder of recordings to made-up hospitals: DEST/hospital-1, DEST/hospital-2, …; nobody "
        "is at two of them.",
        epilog="SOURCE holds text files named by label and number (Z001.txt, in folders or flat), EDF files with a "
        "participants.tsv, or WFDB records as CinC 2017, PTB-XL and MIT-BIH publish them. "
        "Then: fedsynth rehearse STUDY.toml --sites DEST --out RUN",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of recordings; only read")
    parser.add_argument("dest", type=Path, metavar="DEST", help="folder to be made; refused when it is not empty")
    parser.add_argument("--hospitals", type=_at_least_one, default=4, metavar="N", help="how many (default 4)")
    parser.add_argument(
        "--skew",
        type=_between(0.0, 1.0),
        default=0.0,
        metavar="0..1",
        help="how unequal sizes and shares of labels are: 0 not at all (default), 1 strongly",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, another deal (default 1)")
    parser.add_argument(
        "--hold-out",
        type=_between(0.0, 0.9),
        default=0.0,
        metavar="FRACTION",
        help="put this fraction of the people of every label into DEST.holdout instead, to measure utility on "
        "people whom no hospital has (default 0)",
    )
    parser.add_argument(
        "--column", default="group", help="the column of the table that holds the label (default group)"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", dest="link", action="store_false", default=False, help="copy files (default)")
    how.add_argument(
        "--link", dest="link", action="store_true", help="link to SOURCE instead; rehearse with --follow-links"
    )
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1 is needed")
    return int(text)


def _between(low: float, high: float) -> Callable[[str], float]:
    """Return the parser of a number within bounds."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"a number from {low:g} to {high:g} is needed")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
