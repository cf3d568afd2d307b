"""How beats follow one another: windows of any decoder, given what their label's T and P waves do.

T waves are made larger and smaller from beat to beat, P waves that move are drawn anew. How much of T is found on
windows that the public decoder draws from the label's anchor, by measuring what comes out.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.rendering import rendered_by
from fedsynth.modalities.registry import beat_series, beat_series_added, beat_series_drawn
from fedsynth.modalities.shape import Shape

_TURNS = 4
_OF_T = 2  # numbers of T, the first
_ROWS = 128  # at once


class SequencedBeats(nn.Module):
    """Gives windows the beats of their label; without any in the anchor, windows stay as they are."""

    beats: Tensor | None

    def __init__(self, shape: Shape, anchor: Anchor) -> None:
        """Take the anchor's numbers; a buffer, so that it travels with the parts."""
        super().__init__()
        self.shape = shape
        self.register_buffer("beats", None if anchor.beats is None else anchor.beats.to(torch.float32))
        self._anchor = anchor
        self._known: tuple[Tensor, Tensor] | None = None

    def forward(self, labels: Tensor, windows: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time)."""
        asked = self.beats
        if asked is None:
            return windows
        if self._known is None or not torch.equal(self._known[0], asked):
            self._known = (asked.clone(), self._found(beat_series_drawn(asked, self.shape)))
        pieces = zip(windows.split(_ROWS), self._known[1].to(windows.device)[labels].split(_ROWS), strict=True)
        return torch.cat([some + beat_series_added(some, numbers, self.shape) for some, numbers in pieces])

    @torch.no_grad()
    def _found(self, asked: Tensor) -> Tensor:
        """Return the numbers that lead to what is asked, shape (label, number)."""
        found = []
        for label, wanted in enumerate(asked):
            windows, numbers = rendered_by(self._anchor, self.shape, label=label), wanted.clone()
            numbers[:_OF_T] = 0.0
            for _ in range(_TURNS):
                told = torch.cat(
                    [
                        beat_series(
                            some + beat_series_added(some, numbers.expand(len(some), -1), self.shape), self.shape
                        )
                        for some in windows.split(_ROWS)
                    ]
                )
                missed = wanted[:_OF_T] - told.mean(dim=0)[:_OF_T]
                numbers[:_OF_T] = (numbers[:_OF_T] + missed).clamp(-1, 1)
            found.append(numbers)
        return torch.stack(found)
