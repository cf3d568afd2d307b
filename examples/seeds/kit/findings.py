"""Findings: what differences with their intervals say of a claim, in words that follow from the numbers."""

from collections.abc import Mapping

from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.tables import Number, shown


def findings(claim: str, differences: Mapping[str, Replicates | None]) -> tuple[str, ...]:
    """Say by whom a claim held, that a difference is above zero, by whom its opposite, and by whom neither.

    >>> findings("filling helps", {"one": Replicates(0.2, (0.1, 0.3)), "other": Replicates(0.0, (-0.1, 0.1))})
    ('Filling helps. Held by one (+0.200 [+0.105, +0.295]). Not told from zero: other (+0.000 [−0.095, +0.095]).',)
    """
    numbers = {name: Number.of(one, signed=True) for name, one in differences.items() if one is not None}
    kinds = {
        "Held by": [name for name, one in numbers.items() if one.low > 0],
        "The opposite by": [name for name, one in numbers.items() if one.high < 0],
    }
    clear = [name for names in kinds.values() for name in names]
    kinds["Not told from zero:"] = [name for name in numbers if name not in clear]
    said = [
        f"{how} {'; '.join(f'{name} ({shown(numbers[name])})' for name in names)}."
        for how, names in kinds.items()
        if names
    ]
    return (" ".join([f"{claim[0].upper()}{claim[1:]}.", *said]),) if said else ()


def costs(differences: Mapping[str, Replicates | None]) -> tuple[str, ...]:
    """Say what each of some things costs, from the difference that it makes.

    >>> costs({"noise": Replicates(-0.2, (-0.3, -0.1)), "distance": Replicates(0.0, (-0.1, 0.1))})
    ('Noise costs 0.200 [0.105, 0.295]. Distance makes no difference told from zero (+0.000 [−0.095, +0.095]).',)
    """
    said = []
    for what, one in differences.items():
        if one is None:
            continue
        number, start = Number.of(one, signed=True), f"{what[0].upper()}{what[1:]}"
        if number.high < 0:
            said.append(f"{start} costs {shown(Number(-number.value, -number.high, -number.low))}.")
        elif number.low > 0:
            said.append(f"{start} gains {shown(number)}.")
        else:
            said.append(f"{start} makes no difference told from zero ({shown(number)}).")
    return (" ".join(said),) if said else ()
