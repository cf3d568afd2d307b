"""EDF written record by record, against edfio writing the whole file."""

import datetime
from pathlib import Path

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal, Patient, Recording, read_edf

from fedsynth.release.writers.edf import write_edf
from fedsynth.study import SignalPlan

PLAN = SignalPlan(modality="eeg", format="edf", channels=("C3", "C4"), sfreq=128.0, range_uv=500.0)


@pytest.mark.parametrize("cut", [1, 3, 7], ids=["window by window", "in threes", "at once"])
def test_every_byte_is_edfios(tmp_path: Path, cut: int) -> None:
    signal = np.clip(np.random.default_rng(0).normal(0, 200, (7, 2, 64)), -500, 500).astype(np.float32)
    duration = 0.5  # 64 / 128, so that edfio's times are free of rounding
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
        annotations=[EdfAnnotation(number * duration, duration, "seizure") for number in range(7)],
    )
    blocks = (signal[start : start + cut] for start in range(0, 7, cut))

    write_edf(
        tmp_path / "a.edf", code="syn0042", label="seizure", blocks=blocks, n_windows=7, n_times=64, plan=PLAN
    )

    assert (tmp_path / "a.edf").read_bytes() == whole.to_bytes()


def test_times_of_records_are_exact_however_many_there_are(tmp_path: Path) -> None:
    """3 x 0.368642 is 1.1059259999999999 in floating point, and EDF+ asks for the decimal."""
    plan = PLAN.model_copy(update={"sfreq": 173.61})
    silence = [np.zeros((1000, 2, 64), np.float32)]

    write_edf(tmp_path / "a.edf", code="x", label="N", blocks=silence, n_windows=1000, n_times=64, plan=plan)

    found = read_edf(tmp_path / "a.edf")
    assert found.is_continuous
    assert [(round(a.onset, 6), a.duration, a.text) for a in found.annotations] == [
        (round(number * 0.368642, 6), 0.368642, "N") for number in range(1000)
    ]
    assert b"+1.105926\x150.368642\x14N\x14" in (tmp_path / "a.edf").read_bytes()
