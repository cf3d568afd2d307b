"""How many rounds "auto" takes: none where the measured map promises no gain, a hundred steps where it does."""

import pytest

from fedsynth.cli.check import _about_layers
from fedsynth.study import Study, parse_study


def study_of(text: str, *, train: str, units: int, family: str = "time-diffusion", epsilon: float = 8.0) -> Study:
    text = text.replace("rounds = 1\nlocal_steps = 2", "gradient_share = 0.5")
    text = text.replace('name = "cwgan"', f'name = "{family}"\ntrain = "{train}"')
    text = text.replace("expected_units = 10", f"expected_units = {units}").replace(
        "epsilon = 8.0", f"epsilon = {epsilon}"
    )
    return parse_study(text)


@pytest.mark.parametrize(
    ("train", "units", "family", "epsilon", "rounds"),
    [
        pytest.param("adapters", 100_000, "time-diffusion", 8.0, 0, id="adapters gained nothing at any size"),
        pytest.param("low-rank", 100_000, "time-diffusion", 8.0, 0, id="low-rank additions neither"),
        pytest.param("all", 20_000, "time-diffusion", 8.0, 4, id="all layers, many people"),
        pytest.param("all", 3_000, "time-diffusion", 8.0, 0, id="all layers, too few"),
        pytest.param("all", 20_000, "time-diffusion", 1.0, 0, id="all layers, too loud"),
        pytest.param("all", 20_000, "vae-ldm", 8.0, 0, id="a family that was not measured"),
    ],
)
def test_gradients_are_taken_where_they_paid(
    tiny_text: str, train: str, units: int, family: str, epsilon: float, rounds: int
) -> None:
    assert study_of(tiny_text, train=train, units=units, family=family, epsilon=epsilon).n_rounds == rounds


def test_a_site_that_adds_all_of_its_noise_needs_the_people_by_itself(tiny_text: str) -> None:
    study = study_of(tiny_text, train="all", units=6000)

    assert not study.gradients_pay()
    privacy = study.privacy.model_copy(update={"trust": "aggregate"})
    assert study.model_copy(update={"privacy": privacy}).gradients_pay()


def test_check_names_what_would_pay_and_what_would_not(tiny_text: str) -> None:
    many, few = (study_of(tiny_text, train="adapters", units=units) for units in (20_000, 300))
    training = few.training.model_copy(update={"rounds": 2})

    assert 'family.train = "all"' in _about_layers(many)
    assert _about_layers(few) == ""
    assert "gained anything" in _about_layers(few.model_copy(update={"training": training}))
    assert _about_layers(study_of(tiny_text, train="all", units=20_000)) == ""
