"""What happens at events: windows of any decoder, given the mean waveform and the course of power of their label.

Each band is made louder and quieter along the window, the mean waveform is added, and every channel gets back the
band powers that it had, so that features stay. How much of either to add is found on windows that the public
decoder draws from the label's anchor, by measuring what comes out and asking for what was missed.
"""

import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.rendering import rendered_by
from fedsynth.modalities.bands import band_parts
from fedsynth.modalities.event_related import EventRelatedPlan, courses, over_time
from fedsynth.modalities.registry import equalised
from fedsynth.modalities.shape import Shape

_TURNS = 8
_MOST_GAIN = 3.0  # nats of amplitude
_ROWS = 256  # at once


class EventRelatedCourse(nn.Module):
    """Gives windows the event-related means of their label; without any, windows stay as they are."""

    evoked: Tensor | None
    course: Tensor | None

    def __init__(self, shape: Shape, anchor: Anchor) -> None:
        """Take the anchor's means; buffers, so that they travel with the parts."""
        super().__init__()
        self.shape = shape
        for name, asked in (("evoked", anchor.evoked), ("course", anchor.course)):
            self.register_buffer(name, None if asked is None else asked.to(torch.float32))
        self._anchor = anchor
        self._known: tuple[Tensor, Tensor, Tensor, Tensor] | None = None

    def forward(self, labels: Tensor, windows: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time)."""
        evoked, course = self.evoked, self.course
        if evoked is None or course is None:
            return windows
        known = self._known
        if known is None or not (torch.equal(known[0], evoked) and torch.equal(known[1], course)):
            known = self._known = (evoked.clone(), course.clone(), *self._found(evoked, course))
        gains, waves = (part.to(windows.device)[labels] for part in known[2:])
        pieces = zip(windows.split(_ROWS), gains.split(_ROWS), waves.split(_ROWS), strict=True)
        return torch.cat([_shaped(*some, self.shape) for some in pieces])

    @torch.no_grad()
    def _found(self, evoked: Tensor, course: Tensor) -> tuple[Tensor, Tensor]:
        """Return gains (label, channel, band, segment) and waves (label, channel, time) that lead there."""
        shape, plan = self.shape, _plan(evoked, self.shape)
        cosines, gains, waves = plan.cosines(shape), [], []
        for label, (wanted, when) in enumerate(zip(evoked, course, strict=True)):
            windows = rendered_by(self._anchor, shape, label=label)
            # The mean of so few windows of the decoder is no waveform.
            goal = wanted + plan.waveforms(windows, shape).mean(dim=0)
            gain, wave = torch.zeros_like(when), torch.zeros_like(wanted)
            for _ in range(_TURNS):
                added = (gain.expand(len(windows), *gain.shape), (wave @ cosines).expand_as(windows))
                shaped = _shaped(windows, *added, shape)
                gain = (gain + 0.5 * (when - courses(shaped, shape).mean(dim=0))).clamp(-_MOST_GAIN, _MOST_GAIN)
                wave = wave + goal - plan.waveforms(shaped, shape).mean(dim=0)
            gains.append(gain)
            waves.append(wave @ cosines)
        return torch.stack(gains), torch.stack(waves)


def _shaped(windows: Tensor, gains: Tensor, waves: Tensor, shape: Shape) -> Tensor:
    """Return windows with bands amplified by exp(gains) (window, channel, band, segment) and waves added.

    `waves` (window, channel, time) are in units of the root of a channel's energy.
    """
    louder = torch.expm1(over_time(gains, shape)) * band_parts(windows, shape)
    size = windows.square().sum(dim=-1, keepdim=True).sqrt()
    return equalised(windows + louder.sum(dim=2) + size * waves, like=windows, shape=shape)


def _plan(evoked: Tensor, shape: Shape) -> EventRelatedPlan:
    """Return the plan that asked for so many cosines."""
    return EventRelatedPlan(hertz=(evoked.shape[-1] + 0.5) * shape.sfreq / (2 * shape.n_times))
