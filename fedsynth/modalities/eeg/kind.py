"""EEG as a kind of signal."""

from torch import Tensor

from fedsynth.modalities.eeg.codec import EegCodec
from fedsynth.modalities.eeg.frame import EegFrame
from fedsynth.modalities.eeg.loud import loud_powers
from fedsynth.modalities.eeg.pretraining import pools
from fedsynth.modalities.kind import Kind


def within_range(signal: Tensor, channels: tuple[str, ...], range_uv: float) -> Tensor:  # noqa: ARG001  # as ECG's
    """Cut amplitudes to plus or minus the range: no EEG channel is a sum of others."""
    return signal.clamp(-range_uv, range_uv)


EEG = Kind(codec=EegCodec, frame=EegFrame, pools=pools, loud_powers=loud_powers, within_range=within_range)
