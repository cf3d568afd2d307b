"""Findings: what differences with their intervals say of a claim, in words that follow from the numbers."""

from collections.abc import Mapping

from fedsynth.evaluation.protocol.replicates import Replicates
from fedsynth.evaluation.protocol.tables import Number, shown

_NAMED = 3
"""More of those of whom nothing is known are counted and not named."""


def findings(claim: str, differences: Mapping[str, Replicates | None]) -> tuple[str, ...]:
    """Say by whom a claim held, that a difference is above zero, by whom its opposite, and by how many neither.

    >>> findings("filling helps", {"one": Replicates(0.2, (0.1, 0.3)), "other": Replicates(0.0, (-0.1, 0.1))})
    ('Filling helps: held by 1 of 2, one (+0.200 [+0.105, +0.295]). Not told from zero: other.',)
    """
    numbers = {name: Number.of(one, signed=True) for name, one in differences.items() if one is not None}
    if not numbers:
        return ()
    up, down = (
        [f"{name} ({shown(one)})" for name, one in numbers.items() if is_clear(one)]
        for is_clear in (lambda one: one.low > 0, lambda one: one.high < 0)
    )
    level = [name for name, one in numbers.items() if not one.is_clear]
    said = f"{claim[0].upper()}{claim[1:]}: held by {len(up) or 'none'} of {len(numbers)}"
    said += f", {'; '.join(up)}." if up else "."
    if down:
        said += f" The opposite held by {len(down)}, {'; '.join(down)}."
    if level:
        said += f" Not told from zero: {'; '.join(level) if len(level) <= _NAMED else f'the other {len(level)}'}."
    return (said,)


def costs(where: str, differences: Mapping[str, Replicates | None]) -> tuple[str, ...]:
    """Say what each of some things costs, from the difference that it makes.

    >>> costs("here", {"noise": Replicates(-0.2, (-0.3, -0.1)), "luck": Replicates(0.2, (0.1, 0.3))})
    ('Here: noise costs 0.200 [0.105, 0.295]; luck gains +0.200 [+0.105, +0.295].',)
    """
    said = []
    for what, one in differences.items():
        if one is None:
            continue
        number = Number.of(one, signed=True)
        if number.high < 0:
            said.append(f"{what} costs {shown(Number(-number.value, -number.high, -number.low))}")
        elif number.low > 0:
            said.append(f"{what} gains {shown(number)}")
        else:
            said.append(f"{what} makes no difference told from zero ({shown(number)})")
    return (f"{where[0].upper()}{where[1:]}: {'; '.join(said)}.",) if said else ()
