"""What features do not tell and private sums of windows do: given to windows of any decoder, by label."""

from torch import Tensor, nn

from fedsynth.anchors.anchor import Anchor
from fedsynth.families.beat_series import SequencedBeats
from fedsynth.families.channels import ChannelStructure
from fedsynth.families.event_related import EventRelatedCourse
from fedsynth.families.modulation import ModulatedRhythms
from fedsynth.modalities.shape import Shape


class LabelStructure(nn.Module):
    """Beats follow one another, rhythms come and go, channels move together, events happen.

    What was not asked stays as it was drawn.
    """

    def __init__(self, shape: Shape, anchor: Anchor) -> None:
        """Take from the anchor what was asked."""
        super().__init__()
        self.beats = SequencedBeats(shape, anchor)
        self.rhythms = ModulatedRhythms(shape, anchor)
        self.channels = ChannelStructure(shape, anchor)
        self.course = EventRelatedCourse(shape, anchor)

    def forward(self, labels: Tensor, windows: Tensor) -> Tensor:
        """Return windows in microvolts, shape (window, channel, time)."""
        windows = self.channels(labels, self.rhythms(labels, self.beats(labels, windows)))
        made: Tensor = self.course(labels, windows)
        return made
