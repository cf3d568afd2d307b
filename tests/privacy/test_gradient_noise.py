"""The closed form by which a plan chooses is near what the accountant says, and never quieter."""

import math

import pytest

from fedsynth.privacy.accountant import least_noise
from fedsynth.privacy.gradient_noise import gradient_noise
from fedsynth.privacy.mechanism import Mechanism


@pytest.mark.parametrize(("epsilon", "steps"), [(4.0, 100), (2.0, 120), (0.5, 100)])
def test_it_is_near_the_accountants_figure_and_not_below_it(epsilon: float, steps: int) -> None:
    exact = least_noise(
        lambda sigma: [Mechanism("gradients", sigma, 0.2, steps, 1.0)], epsilon=epsilon, delta=1e-5
    ) / (0.2 * 1000)
    quick = gradient_noise(epsilon=epsilon, delta=1e-5, sampling_probability=0.2, steps=steps, units=1000)

    assert exact <= quick <= 1.4 * exact


def test_more_people_and_more_epsilon_are_quieter() -> None:
    def noise(epsilon: float, units: float) -> float:
        return gradient_noise(epsilon=epsilon, delta=1e-5, sampling_probability=0.2, steps=100, units=units)

    assert noise(4, 2000) == pytest.approx(noise(4, 1000) / 2)
    assert noise(8, 1000) < noise(4, 1000)
    assert noise(math.inf, 1000) == 0
