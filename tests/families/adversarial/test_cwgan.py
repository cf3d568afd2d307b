"""The losses of the conditional WGAN, against arithmetic."""

import torch

from fedsynth.families.adversarial.cwgan import Cwgan


def test_the_critic_parts_real_windows_from_synthetic_ones_and_the_generator_raises_its_own() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])

    assert Cwgan.real_loss(values).tolist() == [-1.0, -2.0, -6.0]
    assert float(Cwgan.synthetic_loss(values)) == 3.0
    assert float(Cwgan.generator_loss(values)) == -3.0
