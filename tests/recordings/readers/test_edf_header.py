"""Headers made byte by byte: what is read, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsynth.errors import RecordingError
from fedsynth.recordings.readers.edf import read_edf
from fedsynth.recordings.readers.edf_header import (
    EdfHeader,
    choose_signals,
    microvolts_per_step,
    parse_header,
)
from fedsynth.recordings.readers.samples import Notes, Request, Samples, gather
from fedsynth.recordings.recording import Gap

CANARY = "Canarywolf"
WIDTHS = {
    "label": 16,
    "kind": 80,
    "unit": 8,
    "low": 8,
    "high": 8,
    "dlow": 8,
    "dhigh": 8,
    "pre": 80,
    "n": 8,
    "rest": 32,
}
C3 = {
    "label": "EEG C3-Ref",
    "unit": b"uV",
    "low": "-100",
    "high": "100",
    "dlow": "-2048",
    "dhigh": "2047",
    "n": "128",
}
C4 = C3 | {"label": "C4"}
OTHER = C3 | {"label": CANARY}
NOTES = C3 | {"label": "EDF Annotations", "unit": b"", "n": "8"}


def edf(*signals: dict[str, object], records: int = 2, **fixed: str | bytes) -> bytes:
    """Write a file of zeros; `fixed` replaces fields of the first 256 bytes."""
    values: dict[str, str | bytes] = {
        "version": "0",
        "person": CANARY,
        "recording": CANARY,
        "start": "01.02.2003.04.05",
        "length": str(256 * (len(signals) + 1)),
        "reserved": "",
        "records": str(records),
        "seconds": "1",
        "signals": str(len(signals)),
    } | fixed
    widths = (8, 80, 80, 16, 8, 44, 8, 8, 4)
    head = b"".join(_bytes(value).ljust(width) for value, width in zip(values.values(), widths, strict=True))
    for name, width in WIDTHS.items():
        head += b"".join(_bytes(signal.get(name, "")).ljust(width) for signal in signals)
    return head + bytes(2 * records * sum(int(str(signal["n"])) for signal in signals))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1")


def read(
    data: bytes, *, channels: tuple[str, ...] = ("C3", "C4"), sfreq: float = 128
) -> tuple[EdfHeader, tuple[int, ...]]:
    header = parse_header(data, file_size=len(data))
    return header, choose_signals(header, channels=channels, sfreq=sfreq)


def test_a_good_header_is_read_and_its_channels_are_found_in_the_order_of_the_study() -> None:
    header, chosen = read(edf(OTHER, C3, NOTES, C4, records=3), channels=("C4", "C3"))

    assert (header.format, header.n_records, header.record_seconds, header.remarks) == ("EDF", 3, 1.0, ())
    assert header.record_bytes == 2 * (128 + 128 + 8 + 128)
    assert chosen == (3, 1)


def test_a_header_does_not_show_what_its_file_says_about_a_person() -> None:
    header, _ = read(edf(OTHER, C3, C4))

    assert CANARY not in repr(header)


@pytest.mark.parametrize(
    ("unit", "voltage"),
    [
        pytest.param(b"uV", "uV", id="uV"),
        pytest.param(b"UV", "uV", id="capitals"),
        pytest.param("µV".encode("latin-1"), "uV", id="micro sign in Latin-1"),
        pytest.param("µV".encode(), "uV", id="micro sign in UTF-8"),
        pytest.param("μV".encode(), "uV", id="Greek mu in UTF-8"),
        pytest.param("μV".encode("shift-jis"), "uV", id="Greek mu in Shift-JIS"),
        pytest.param("µV".encode("cp437"), "uV", id="micro sign in code page 437"),
        pytest.param("μV".encode("iso8859-7"), "uV", id="Greek mu in ISO 8859-7"),
        pytest.param(b"mV", "mV", id="mV"),
        pytest.param(b"V", "V", id="V"),
        pytest.param(b"MV", None, id="megavolt or millivolt, nobody knows"),
        pytest.param(b"", None, id="empty"),
        pytest.param(b"Boolean", None, id="Boolean"),
    ],
)
def test_units_are_known_by_all_their_spellings(unit: bytes, voltage: str | None) -> None:
    header = parse_header(edf(C3 | {"unit": unit}), file_size=512 + 512)

    assert header.signals[0].voltage == voltage


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "empty"),
    "cut within the first 256 bytes": (lambda: edf(C3, C4)[:200], "cut short within its header"),
    "cut within the header of signals": (lambda: edf(C3, C4)[:700], "cut short within its header"),
    "picture": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(600), "not an EDF or BDF file"),
    "garbage version": (lambda: edf(C3, C4, version=CANARY[:8]), "version field"),
    "no signals": (lambda: edf(), "number of signals"),
    "signals not a number": (lambda: edf(C3, C4, signals="wolf"), "number of signals"),
    "header length differs": (lambda: edf(C3, C4, length="512"), "the header says it is 512 bytes long"),
    "truncated": (lambda: edf(C3, C4)[:-512], "is truncated"),
    "partial record": (lambda: edf(C3, C4)[:-1], "is truncated"),
    "over-stated": (lambda: edf(C3, C4, records=2)[:236] + b"18" + edf(C3, C4)[238:], "is truncated"),
    "bytes behind the end": (lambda: edf(C3, C4) + b"wolf", "longer than its header says"),
    "records behind the end": (lambda: edf(C3, C4) + bytes(512), "longer than its header says"),
    "count of -1 that does not divide": (lambda: spoil(edf(C3, C4), 236, "-1") + b"x", "gives no record count"),
    "count of -2": (lambda: spoil(edf(C3, C4), 236, "-2"), "number of data records"),
    "no records": (lambda: edf(C3, C4, records=0), "no data records"),
    "no samples": (lambda: edf(C3 | {"n": "0"}), "hold no samples"),
    "duration 0": (lambda: edf(C3, C4, seconds="0"), "duration of a data record is 0 seconds"),
    "duration -1": (lambda: edf(C3, C4, seconds="-1"), "duration of a data record is -1 seconds"),
    "duration nan": (lambda: edf(C3, C4, seconds="nan"), "duration of a data record in the header is not a finite"),
    "duration overflows": (lambda: edf(C3, C4, seconds="1e999"), "is not a finite number"),
    "missing channel": (lambda: edf(C3, OTHER), "channel 'C4' of the study is missing"),
    "annotations only": (lambda: edf(NOTES, seconds="0"), "channel 'C3' of the study is missing"),
    "duplicate labels": (lambda: edf(C3, C4, C3 | {"label": "C3.."}), "channel 'C3' of the study is there 2 times"),
    "no unit": (lambda: edf(C3, C4 | {"unit": b""}), "channel 'C4' has no unit"),
    "unknown unit": (lambda: edf(C3, C4 | {"unit": b"Wolf"}), "channel 'C4' has a unit that is not known"),
    "digital equal": (lambda: edf(C3 | {"dlow": "0", "dhigh": "0"}, C4), "digital minimum of channel 'C3'"),
    "digital reversed": (lambda: edf(C3 | {"dlow": "9", "dhigh": "-9"}, C4), "digital minimum of channel 'C3'"),
    "digital not a number": (lambda: edf(C3 | {"dlow": "wolf"}, C4), "digital limit of channel 'C3'"),
    "physical equal": (
        lambda: edf(C3 | {"low": "10", "high": "10.0"}, C4),
        "physical minimum and maximum of channel",
    ),
    "physical nan": (
        lambda: edf(C3 | {"low": "nan"}, C4),
        "physical limit of channel 'C3' in the header is not a fin",
    ),
    "physical inf": (
        lambda: edf(C3, C4 | {"high": "inf"}),
        "physical limit of channel 'C4' in the header is not a fin",
    ),
    "wrong rate": (lambda: edf(C3 | {"n": "256"}, C4 | {"n": "256"}), "256 Hz, and the study asks for 128 Hz"),
    "another rate of one": (lambda: edf(C3, C4 | {"n": "64"}), "channel 'C4' is 64 Hz"),
}


def spoil(data: bytes, start: int, value: str, width: int = 8) -> bytes:
    return data[:start] + value.encode().ljust(width) + data[start + width :]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_header_is_refused_with_its_cause_and_without_its_texts(name: str) -> None:
    make, fragment = BAD[name]

    with pytest.raises(RecordingError) as refusal:
        read(make())

    assert fragment in str(refusal.value)
    assert "wolf" not in str(refusal.value).lower()


def test_a_study_that_names_one_channel_by_its_old_and_its_new_name_is_told_so() -> None:
    with pytest.raises(RecordingError, match="channels 'T3' and 'T7' of the study are one"):
        read(edf(C3 | {"label": "T3"}), channels=("T3", "T7"))


def test_channels_that_the_study_does_not_name_are_not_judged() -> None:
    odd = {"unit": b"", "low": "nan", "high": "nan", "dlow": "0", "dhigh": "0", "n": "3"}

    _, chosen = read(edf(C3, C4, OTHER | odd, OTHER))

    assert chosen == (0, 1)


def test_a_record_count_of_minus_one_is_taken_from_the_size_with_a_remark() -> None:
    header, _ = read(spoil(edf(C3, C4, records=5), 236, "-1"))

    assert header.n_records == 5
    assert "record count of -1" in header.remarks[0]


def test_a_start_that_is_no_date_is_read_with_a_remark() -> None:
    header, _ = read(edf(C3, C4, start="99.99.9999.99.99"))

    assert "no date" in header.remarks[0]


def test_physical_limits_in_falling_order_are_a_negative_gain_and_allowed() -> None:
    read(edf(C3 | {"low": "100", "high": "-100"}, C4))


def test_a_rate_within_a_ten_thousandth_is_the_rate_of_the_study() -> None:
    bonn = {"n": "4097"}

    read(edf(C3 | bonn, C4 | bonn, seconds="23.59887"), sfreq=173.61)


def read_whole(folder: Path, data: bytes, *, sfreq: float = 128, channels: tuple[str, ...] = ("C3",)) -> Samples:
    (folder / "x.edf").write_bytes(data)
    notes = Notes()
    return gather(read_edf(folder / "x.edf", Request(channels, sfreq), notes), notes)


def stamped(*onsets: str, reserved: str = "EDF+D") -> bytes:
    whole = edf(C3, NOTES, records=len(onsets), reserved=reserved)
    body = b"".join(bytes(256) + f"{onset}\x14\x14".encode().ljust(16, b"\0") for onset in onsets)
    return whole[: -len(body)] + body


def test_a_discontinuous_file_without_a_gap_is_continuous(tmp_path: Path) -> None:
    assert read_whole(tmp_path, stamped("+0.5", "+1.5", "+2.503")).signal.shape == (1, 384)


@pytest.mark.parametrize(
    ("onsets", "fragment"),
    [
        pytest.param(("+0", "+0.5"), "data record 2 of 2 begins before the one before it ends", id="overlap"),
        pytest.param(("+0", "+9", "+3"), "data record 3 of 3 begins before", id="backwards after a gap"),
        pytest.param(("+0", CANARY), "data record 2 of 2 has no time stamp", id="no time stamp"),
    ],
)
def test_a_discontinuous_file_without_a_sure_order_is_refused(
    tmp_path: Path, onsets: tuple[str, ...], fragment: str
) -> None:
    with pytest.raises(RecordingError, match=fragment):
        read_whole(tmp_path, stamped(*onsets))


@pytest.mark.parametrize(
    ("onsets", "gaps"),
    [
        pytest.param(("+0", "+1", "+32"), [Gap(256, 30 * 128)], id="half a minute"),
        pytest.param(("+0", "+1.005"), [Gap(128, 1)], id="a sample"),
        pytest.param(
            ("+7.5", "+8.5", "+10", "+11", "+13"), [Gap(256, 64), Gap(512, 128)], id="two, and a late start"
        ),
        pytest.param(("+0", "+1.0038", "+2.0077"), [], id="less than half a sample"),
    ],
)
def test_gaps_of_a_discontinuous_file_come_from_its_time_stamps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onsets: tuple[str, ...], gaps: list[Gap]
) -> None:
    for size in (1 << 20, 300):
        monkeypatch.setattr("fedsynth.recordings.readers.edf.PIECE_BYTES", size)
        found = read_whole(tmp_path, stamped(*onsets))

        assert found.signal.shape == (1, 128 * len(onsets))
        assert list(found.gaps) == gaps
        assert found.remarks == ()


@pytest.mark.parametrize(
    ("onsets", "gaps"),
    [
        pytest.param(("+0", "+32"), [Gap(128, 31 * 128)], id="a jump"),
        pytest.param(("+0", "+1.4", "+2.6"), [], id="rounded"),
        pytest.param(("+0", "+0", "+0", "+0"), [], id="all the same"),
        pytest.param(("+0", "x", "+2", "x", "+4"), [], id="some are missing"),
        pytest.param(("+0", "+1", "+0", "+3"), [], id="one goes back"),
    ],
)
def test_a_file_that_calls_itself_continuous_has_gaps_only_where_its_time_stamps_jump(
    tmp_path: Path, onsets: tuple[str, ...], gaps: list[Gap]
) -> None:
    found = read_whole(tmp_path, stamped(*onsets, reserved="EDF+C"))

    assert list(found.gaps) == gaps
    assert len(found.remarks) == len(gaps)


def test_annotations_are_counted_at_the_rate_of_the_file(tmp_path: Path) -> None:
    body = (
        bytes(256)
        + b"+0\x14\x14\0".ljust(32, b"\0")
        + bytes(256)
        + b"+1\x14\x14\0+9000\x14a\x14\0".ljust(32, b"\0")
    )
    whole = edf(C3, NOTES | {"n": "16"}, reserved="EDF+C", seconds="1.00008")

    [mark] = read_whole(tmp_path, whole[: -len(body)] + body).marks

    assert mark.start == round(9000 * 128 / 1.00008) != 9000 * 128


def test_a_discontinuous_file_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no time stamp"):
        read_whole(tmp_path, edf(C3, reserved="EDF+D"))


def test_annotations_stand_where_their_onset_says_counted_from_the_first_sample(tmp_path: Path) -> None:
    body = bytes(256) + b"+0.5\x14\x14\0+0.75\x1525\x14T\xc3\xb6\x14\0".ljust(48, b"\0")
    body += bytes(256) + b"+1.5\x14\x14\0+1.5\x14a\x14b\x14\0-1\x14early\x14\0".ljust(48, b"\0")
    whole = edf(C3, NOTES | {"n": "24"}, reserved="EDF+C")

    marks = read_whole(tmp_path, whole[: -len(body)] + body).marks

    assert [(mark.start, mark.n_times, mark.text) for mark in marks] == [
        (-192, 0, "early"),
        (32, 3200, "Tö"),
        (128, 0, "a"),
        (128, 0, "b"),
    ]


def test_samples_become_microvolts_by_the_limits_however_many_records_a_piece_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = edf(OTHER, C3 | {"unit": b"mV", "low": "1", "high": "-1", "dlow": "-100", "dhigh": "100"}, records=5)
    body = np.arange(-640, 640, dtype="<i2").reshape(5, 256).tobytes()
    data = whole[: -len(body)] + body
    at_once = read_whole(tmp_path, data)
    monkeypatch.setattr("fedsynth.recordings.readers.edf.PIECE_BYTES", 1100)

    in_pieces = read_whole(tmp_path, data)

    steps = np.concatenate([np.arange(-640 + 256 * record + 128, -640 + 256 * (record + 1)) for record in range(5)])
    np.testing.assert_allclose(at_once.signal[0], -10.0 * steps, rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(in_pieces.signal, at_once.signal)
    assert in_pieces.digest == at_once.digest


@pytest.mark.parametrize(
    ("version", "low", "high", "fits"),
    [
        ("0", "0", "65535", False),
        ("0", "-32768", "32768", False),
        ("0", "-32769", "32767", False),
        ("0", "-32768", "32767", True),
        (b"\xffBIOSEMI", "-8388608", "8388607", True),
        (b"\xffBIOSEMI", "0", "16777215", False),
        (b"\xffBIOSEMI", "-8388609", "8388607", False),
    ],
)
def test_digital_limits_lie_inside_the_whole_numbers_of_the_format(
    version: str | bytes, low: str, high: str, fits: bool
) -> None:
    data = edf(C3 | {"dlow": low, "dhigh": high}, C4, version=version, records=3)
    header = parse_header(data, file_size=768 + (9 if version != "0" else 6) * 256)
    if fits:
        assert choose_signals(header, channels=("C3",), sfreq=128) == (0,)
        return
    with pytest.raises(RecordingError, match=r"digital limits of channel 'C3' lie outside the (16|24)-bit whole"):
        choose_signals(header, channels=("C3",), sfreq=128)
    assert choose_signals(header, channels=("C4",), sfreq=128) == (1,)


@given(place=st.integers(0, 1023), value=st.binary(min_size=1, max_size=12))
def test_a_header_with_any_bytes_replaced_is_read_or_refused_but_nothing_else(place: int, value: bytes) -> None:
    good = edf(C3, C4, NOTES)
    data = good[:place] + value + good[place + len(value) :]
    try:
        header, chosen = read(data)
    except RecordingError:
        return
    assert all(np.isfinite(microvolts_per_step(header.signals[index], unit=None)).all() for index in chosen)
