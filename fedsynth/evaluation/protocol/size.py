"""Sizes: how large classifiers are and how long they train; small by default, as in the papers as an option."""

from dataclasses import dataclass
from typing import Literal

SizeName = Literal["small", "paper", "quick"]


@dataclass(frozen=True)
class Size:
    """`width` multiplies a network's channels, `blocks` are a residual network's, `steps` of `batch` windows train.

    `kernels` are random convolutions for each dilation, `trees` the rounds of boosting and `draws` the bootstraps.
    """

    name: SizeName
    width: int
    blocks: int
    steps: int
    batch: int
    kernels: int
    trees: int
    draws: int


SIZES: dict[SizeName, Size] = {
    "quick": Size("quick", width=8, blocks=2, steps=40, batch=32, kernels=8, trees=15, draws=100),
    "small": Size("small", width=16, blocks=4, steps=400, batch=32, kernels=32, trees=60, draws=400),
    # GenEEG's CNN-BiLSTM: 32, 64, 128, LSTM of 128; the residual network of arXiv 2411.18456: 5 to 7 blocks.
    "paper": Size("paper", width=32, blocks=6, steps=5000, batch=32, kernels=160, trees=300, draws=1000),
}
