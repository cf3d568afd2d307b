"""EDF written record by record, against edfio writing the whole file."""

import datetime
from pathlib import Path

import numpy as np
import pytest
from edfio import Edf, EdfSignal, Patient, Recording

from fedsynth.release.writers.edf import write_edf
from fedsynth.study import SignalPlan

PLAN = SignalPlan(modality="eeg", format="edf", channels=("C3", "C4"), sfreq=173.61, range_uv=500.0)


@pytest.mark.parametrize("cut", [1, 3, 7], ids=["window by window", "in threes", "at once"])
def test_every_byte_is_edfios(tmp_path: Path, cut: int) -> None:
    signal = np.clip(np.random.default_rng(0).normal(0, 200, (7, 2, 64)), -500, 500).astype(np.float32)
    duration = 0.368642  # 64 / 173.61 in eight characters
    whole = Edf(
        [
            EdfSignal(
                signal[:, number].reshape(-1).astype(np.float64),
                64 / duration,
                label=name,
                physical_dimension="uV",
                physical_range=(-500.0, 500.0),
                digital_range=(-32767, 32767),
            )
            for number, name in enumerate(PLAN.channels)
        ],
        patient=Patient(code="syn0042"),
        recording=Recording(startdate=datetime.date(1985, 1, 1), equipment_code="fedsynth"),
        starttime=datetime.time(0, 0, 0),
        data_record_duration=duration,
    )
    blocks = (signal[start : start + cut] for start in range(0, 7, cut))

    write_edf(tmp_path / "a.edf", code="syn0042", blocks=blocks, n_windows=7, n_times=64, plan=PLAN)

    assert (tmp_path / "a.edf").read_bytes() == whole.to_bytes()
