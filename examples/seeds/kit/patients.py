"""What the GenEEG study compares: arms without privacy and at a promise, networks that learn, ways to fill."""

from dataclasses import replace

from kit.arms import Arm
from kit.bench import STAGED

CENTRAL = Arm("features, no privacy")
ONE_NOISE = Arm("features, ε = 8, secure sums", epsilon=8.0)
EACH_NOISE = Arm("features, ε = 8, each hospital's noise", epsilon=8.0, hospitals=4)
PRIVATE = (CENTRAL, ONE_NOISE, EACH_NOISE)
LEARNED = Arm("every layer of vae-ldm, in one place", family="vae-ldm", layers="all", rows=32)
AVERAGED = replace(LEARNED, name="every layer of vae-ldm, four hospitals averaged", hospitals=4)
SEQUENTIAL = replace(
    AVERAGED, name="every layer of vae-ldm, one hospital after the other, consolidated",
    order="sequential", consolidation=5000.0,
)  # fmt: skip
FORGETFUL = replace(
    SEQUENTIAL, name="every layer of vae-ldm, one hospital after the other, nothing held", consolidation=0.0
)
NETWORKS = (LEARNED, AVERAGED, SEQUENTIAL, FORGETFUL)
SKIPPED = "an autoencoder with skips, decoded without them (as published)"
UNSKIPPED = "the same autoencoder, trained without skips"
PRIVATE_SEQUENTIAL = Arm(
    "adapters of vae-ldm, ε = 8, one hospital after the other, consolidated", family="vae-ldm", epsilon=8.0,
    hospitals=4, order="sequential", consolidation=5000.0,
)  # fmt: skip
AIM = STAGED
"""The way that the goal is about: of three, that with the largest gain on the cohort of seed 2 (docs/log.md)."""
WAYS = ("minority only", AIM)
STEPS = 450
"""Of the classifier, ten epochs of balanced windows where the seed takes fifty; likewise chosen there."""
MAIN = "cnn-bilstm"
