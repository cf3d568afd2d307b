"""EEG as a kind of signal."""

from fedsynth.modalities.eeg.codec import EegCodec
from fedsynth.modalities.eeg.frame import EegFrame
from fedsynth.modalities.eeg.loud import loud_powers
from fedsynth.modalities.eeg.pretraining import pools
from fedsynth.modalities.kind import Kind

EEG = Kind(codec=EegCodec, frame=EegFrame, pools=pools, loud_powers=loud_powers)
