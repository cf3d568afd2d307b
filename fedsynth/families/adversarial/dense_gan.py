"""The dense GAN of the Bonn seed, with the labels it should have had, started at the anchor.

Source: saumitkunder/EEG-DATA-SYNTHESIS-USING-GANS, by its README (dense generator and discriminator, a sigmoid
output, binary cross-entropy). There real and synthetic windows reached the generator's step with misleading labels
and features were scaled on all rows; here the discriminator is told the truth, the generator takes the
non-saturating loss of Goodfellow et al. (2014, section 3), and both know the label. The generator is the anchor's
plus residuals that start at zero. Only the discriminator's gradient sees recordings.
"""

from dataclasses import dataclass

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.adversarial.critic import Critic, dense_encoder
from fedsynth.families.adversarial.generator import AnchoredGenerator, DenseResidual
from fedsynth.families.adversarial.non_saturating import NonSaturatingGan
from fedsynth.modalities.shape import Shape


@dataclass(frozen=True, kw_only=True)
class DenseGan(NonSaturatingGan):
    """Hyperparameters: those of every family with a discriminator."""

    name: str = "dense-gan"

    def networks(self, shape: Shape, anchor: Anchor) -> tuple[AnchoredGenerator, Critic]:
        """Return both of dense layers."""
        residual = DenseResidual(shape, latent=self.latent)
        generator = AnchoredGenerator(shape, anchor, residual, latent=self.latent)
        return generator, Critic(shape, dense_encoder(shape))
