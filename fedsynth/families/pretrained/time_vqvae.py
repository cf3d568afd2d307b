"""Time-VQVAE: codes of a waveform's low and high frequencies, and transformers that draw them.

Source: Lee et al. 2023 (TimeVQVAE, arXiv:2303.04743), as the synthetic-ECG study (arXiv:2411.18456) used it: frames
of 16 samples, a codebook of 64 for each of two bands, masked transformers as priors. Here codebooks and priors are
learned on simulated signals by gradient alone; only a vector for each label in the priors ever sees recordings.
`docs/families/time-vqvae.md` says what changed and why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedsynth.families.pretrained.base import STEER, Source, SourceFamily
from fedsynth.families.pretrained.codebook import Codebook
from fedsynth.families.pretrained.layers import SINGLE, Attention, Block, Signals, Stack, Steer, place_of
from fedsynth.families.pretrained.spectral_loss import multi_domain_loss
from fedsynth.families.pretrained.stft import HOP, LOW_BINS, N_BINS, bands_of, wave_of
from fedsynth.rng import uniform_of

_CODES = 64
_HEADS = 2  # codes that describe one frame of one band
_WIDTH, _CODE = 48, 8
_TOKEN = 64
_BANDS = ("low", "high")
_PULL = 0.5


class TimeVqvaeSource(Source):
    """Two quantised autoencoders, one for each band, and a masked transformer for each."""

    stages: ClassVar[tuple[str, ...]] = ("codes", "prior")
    private_stages: ClassVar[tuple[str, ...]] = ("prior",)
    learned_stages: ClassVar[tuple[str, ...]] = ("codes", "prior")

    def __init__(self, raw: int, *, steps: int = 6, signals: Signals = SINGLE) -> None:
        """Build for raw conditions of `raw` numbers."""
        super().__init__(signals)
        self.steps = steps
        sizes = {"low": 2 * LOW_BINS, "high": 2 * (N_BINS - LOW_BINS)}
        self.coders = nn.ModuleDict({band: Coder(raw, signals.channels * sizes[band]) for band in _BANDS})
        self.priors = nn.ModuleDict({band: Prior(raw, number, signals) for number, band in enumerate(_BANDS)})

    def coder(self, band: str) -> "Coder":
        """Return a band's autoencoder."""
        coder = self.coders[band]
        assert isinstance(coder, Coder)
        return coder

    def prior(self, band: str) -> "Prior":
        """Return a band's prior."""
        prior = self.priors[band]
        assert isinstance(prior, Prior)
        return prior

    @staticmethod
    def noise_width(length: int, channels: int = 1) -> int:  # noqa: ARG004
        """Return two numbers for each code: when it is drawn, and which."""
        return 2 * len(_BANDS) * _HEADS * _frames(length)

    @staticmethod
    def loss_width(stage: str, length: int, channels: int = 1) -> int:  # noqa: ARG004
        """Return 0 for the codes; for the priors a share of what is hidden and a number for each code."""
        return 0 if stage == "codes" else 1 + len(_BANDS) * _HEADS * _frames(length)

    def draw(self, condition: Tensor, noise: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Draw the low band's codes, then the high band's, and decode both."""
        when, which = uniform_of(noise).unflatten(1, (2, len(_BANDS), -1)).unbind(dim=1)
        codes: dict[str, Tensor] = {}
        for number, band in enumerate(_BANDS):
            prior = self.prior(band)
            steer = prior.steer(condition) + shifts["prior"]
            known = [codes["low"]] if band == "high" else []
            codes[band] = _fill(prior, steer, known, when[:, number], which[:, number], steps=self.steps)
        low, high = (self.coder(band).decode(codes[band], condition) for band in _BANDS)
        return self.given(self._waves(low, high))

    def loss(
        self,
        stage: str,
        waves: Tensor,
        condition: Tensor,
        noise: Tensor,
        *,
        shift: Tensor | None = None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Return the reconstruction loss with the codebooks' terms, or the cross-entropy of hidden codes."""
        waves = self.rows(waves)
        bands = self._bands(waves)
        if stage == "codes":
            answers = {band: self.coder(band)(bands[band], condition) for band in _BANDS}
            guess = self._waves(answers["low"][0], answers["high"][0])
            pull = answers["low"][1] + answers["high"][1]
            apart = multi_domain_loss(guess.flatten(0, 1), waves.flatten(0, 1)).view(len(waves), -1).mean(dim=1)
            return apart + _PULL * pull
        with torch.no_grad():
            codes = {band: self.coder(band).encode(bands[band], condition) for band in _BANDS}
        share = torch.cos(0.5 * torch.pi * uniform_of(noise[:, :1]))
        uniform = uniform_of(noise[:, 1:]).unflatten(1, (len(_BANDS), -1))
        total = torch.zeros_like(waves[:, 0, 0])
        for number, band in enumerate(_BANDS):
            prior, truth = self.prior(band), codes[band]
            hidden = uniform[:, number] < share.clamp_min(1e-3)
            steer = prior.steer(condition, known) + (0.0 if shift is None else shift)
            given = [codes["low"]] if band == "high" else []
            logits = prior(truth.masked_fill(hidden, _CODES), given, steer)
            each = nn.functional.cross_entropy(logits.flatten(0, 1), truth.flatten(), reduction="none")
            # A mean over hidden codes, with one added so that a row with few of them is not loud.
            total = total + (each.view_as(truth) * hidden).sum(dim=1) / (1 + hidden.sum(dim=1))
        return total

    def _bands(self, waves: Tensor) -> dict[str, Tensor]:
        """Return both bands' frames, (row, channel x size, frame), of waves (row, channel, length)."""
        pairs = zip(_BANDS, bands_of(waves.flatten(0, 1)), strict=True)
        return {band: frames.unflatten(0, (len(waves), -1)).flatten(1, 2) for band, frames in pairs}

    def _waves(self, low: Tensor, high: Tensor) -> Tensor:
        """Undo `_bands`."""
        channels = self.signals.channels
        both = (frames.unflatten(1, (channels, -1)).flatten(0, 1) for frames in (low, high))
        return wave_of(*both).unflatten(0, (-1, channels))

    def trainable(self, stage: str) -> list[nn.Module]:
        """Return the autoencoders, or the priors."""
        return [self.coders] if stage == "codes" else [self.priors]


class Coder(nn.Module):
    """A quantised autoencoder of one band's frames."""

    def __init__(self, raw: int, size: int) -> None:
        """Build for frames of `size` numbers."""
        super().__init__()
        self.steer = Steer(raw, STEER)
        self.inward = nn.Conv1d(size, _WIDTH, 3, padding=1)
        self.inner = Stack(_WIDTH, STEER, (1, 1))
        self.to_codes = nn.Conv1d(_WIDTH, _HEADS * _CODE, 1)
        self.books = nn.ModuleList(Codebook(_CODES, _CODE) for _ in range(_HEADS))
        self.from_codes = nn.Conv1d(_HEADS * _CODE, _WIDTH, 3, padding=1)
        self.outer = Stack(_WIDTH, STEER, (1, 1, 2))
        self.outward = nn.Conv1d(_WIDTH, size, 3, padding=1)

    def forward(self, frames: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames decoded from their codes, (row, size, frame), and the pulling terms (row,)."""
        steer = self.steer(condition)
        found = [book(part) for book, part in zip(self._tables(), self._parts(frames, steer), strict=True)]
        decoded = self._decode(torch.cat([codes for codes, _ in found], dim=2), steer)
        return decoded, torch.stack([pull for _, pull in found]).sum(dim=0)

    def encode(self, frames: Tensor, condition: Tensor) -> Tensor:
        """Return codes, shape (row, head x frame): the first head's frames, then the second's."""
        parts = self._parts(frames, self.steer(condition))
        return torch.cat([book.nearest(part) for book, part in zip(self._tables(), parts, strict=True)], dim=1)

    def decode(self, codes: Tensor, condition: Tensor) -> Tensor:
        """Return frames, shape (row, size, frame), of codes as from `encode`."""
        each = codes.chunk(_HEADS, dim=1)
        looked_up = torch.cat([book.codes[some] for book, some in zip(self._tables(), each, strict=True)], dim=2)
        return self._decode(looked_up, self.steer(condition))

    def _tables(self) -> list[Codebook]:
        return [book for book in self.books if isinstance(book, Codebook)]

    def _parts(self, frames: Tensor, steer: Tensor) -> list[Tensor]:
        flow = self.inner(nn.functional.silu(self.inward(frames)), steer)
        return list(self.to_codes(flow).transpose(1, 2).chunk(_HEADS, dim=2))

    def _decode(self, looked_up: Tensor, steer: Tensor) -> Tensor:
        return self.outward(self.outer(self.from_codes(looked_up.transpose(1, 2)), steer))


class Prior(nn.Module):
    """A transformer that guesses hidden codes from the others, the bands known already, features and label.

    Frames are ordered by convolutions between the attentions and not by a table of positions, so that windows may
    have any length.
    """

    def __init__(self, raw: int, known_bands: int, signals: Signals = SINGLE) -> None:
        """Build; one code more than there are says "hidden"."""
        super().__init__()
        self.place = place_of(signals, _TOKEN)
        self.steer = Steer(raw, STEER)
        self.tokens = nn.ModuleList(nn.Embedding(_CODES + 1, _TOKEN) for _ in range(_HEADS * (1 + known_bands)))
        self.blocks = nn.ModuleList(Block(_TOKEN, STEER, kernel=5) for _ in range(3))
        self.attentions = nn.ModuleList(Attention(_TOKEN) for _ in range(2))
        self.last = nn.Conv1d(_TOKEN, _HEADS * _CODES, 1)

    def forward(self, codes: Tensor, known: list[Tensor], steer: Tensor) -> Tensor:
        """Return logits, shape (row, head x frame, code).

        Args:
            codes: shape (row, head x frame), with `_CODES` where hidden.
            known: codes of bands drawn before, the same shape.
            steer: shape (row, STEER).
        """
        heads = [part for band in (codes, *known) for part in band.chunk(_HEADS, dim=1)]
        flow = torch.stack([table(part) for table, part in zip(self.tokens, heads, strict=True)]).sum(dim=0)
        flow = self.blocks[0](self.place(flow.transpose(1, 2)), steer)
        for attention, block in zip(self.attentions, self.blocks[1:], strict=True):
            flow = block(attention(flow), steer)
        logits = self.last(nn.functional.silu(flow)).unflatten(1, (_HEADS, _CODES))
        return logits.permute(0, 1, 3, 2).flatten(1, 2)


def _fill(
    prior: nn.Module, steer: Tensor, known: list[Tensor], when: Tensor, which: Tensor, *, steps: int
) -> Tensor:
    """Draw all codes in a few passes, shape (row, head x frame).

    Every code is drawn once, from what its pass knew: by the inverse of its cumulative probabilities at `which`. In
    which pass is decided by `when`, a few codes first (cosine schedule of MaskGIT, arXiv:2202.04200); choosing by
    confidence, as there, would draw the likeliest windows too often.
    """
    codes = torch.full_like(when, _CODES, dtype=torch.int64)
    for step in range(steps):
        logits = prior(codes, known, steer)
        chance = torch.softmax(logits, dim=2).cumsum(dim=2)
        drawn = (chance < (which * chance[:, :, -1])[:, :, None]).sum(dim=2).clamp(max=_CODES - 1)
        before, after = (1 - torch.cos(torch.tensor(0.5 * torch.pi * at / steps)) for at in (step, step + 1))
        now = (when >= before) & ((when < after) | (step == steps - 1))
        codes = torch.where(now, drawn, codes)
    return codes


def _frames(length: int) -> int:
    return length // HOP + 1


@dataclass(frozen=True, kw_only=True)
class TimeVqvae(SourceFamily):
    """Hyperparameters: `steps` in which each band's codes are drawn."""

    source_type: ClassVar[type[Source]] = TimeVqvaeSource

    steps: int = 6
    name: str = "time-vqvae"

    def source(self, raw: int, signals: Signals = SINGLE) -> TimeVqvaeSource:
        """Return a fresh source."""
        return TimeVqvaeSource(raw, steps=self.steps, signals=signals)
