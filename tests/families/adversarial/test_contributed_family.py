"""The recipe "to add one" holds: one short file and a line in the registry make a family.

The contract runs on it with all others (`tests/families/test_contract.py`).
"""

from pathlib import Path

import pytest

from fedsynth.errors import StudyError
from fedsynth.families.registry import family_of
from fedsynth.study import FamilyPlan

FEW = 60  # lines


def test_a_family_fits_in_a_few_lines(contributed: Path) -> None:
    assert len(contributed.read_text(encoding="utf-8").splitlines()) <= FEW


@pytest.mark.usefixtures("contributed")
def test_a_study_can_name_it_and_set_inherited_options_and_its_own() -> None:
    family = family_of(FamilyPlan(name="least-squares-gan", options={"latent": 8, "critic_steps": 2}))

    (phase,) = family.phases
    assert (family.name, family.latent) == ("least-squares-gan", 8)  # type: ignore[attr-defined]
    assert (phase.private_part, phase.public_part, phase.private_steps) == ("critic", "generator", 2)


@pytest.mark.usefixtures("contributed")
@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        pytest.param({"critic_step": 2}, "has no option 'critic_step'; it has: critic_learning_rate", id="unknown"),
        pytest.param({"weight_clip": "much"}, "'weight_clip' of least-squares-gan must be float", id="inherited"),
        pytest.param({"critic_steps": 0}, "'critic_steps' of least-squares-gan must be positive int", id="its own"),
    ],
)
def test_its_options_are_checked(options: dict[str, object], fragment: str) -> None:
    with pytest.raises(StudyError, match=fragment):
        family_of(FamilyPlan(name="least-squares-gan", options=options))
