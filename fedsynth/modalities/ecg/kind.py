"""ECG as a kind of signal."""

from fedsynth.modalities.ecg.beat_series import beat_series, n_numbers, series_added, to_be_drawn
from fedsynth.modalities.ecg.codec import EcgCodec
from fedsynth.modalities.ecg.frame import EcgFrame
from fedsynth.modalities.ecg.leads import within_range
from fedsynth.modalities.ecg.loud import loud_powers
from fedsynth.modalities.ecg.pretraining import pools
from fedsynth.modalities.kind import BeatKind, Kind

ECG = Kind(
    codec=EcgCodec,
    frame=EcgFrame,
    pools=pools,
    loud_powers=loud_powers,
    within_range=within_range,
    beats=BeatKind(n_numbers, beat_series, to_be_drawn, series_added),
)
