"""WFDB headers: what is read from them, and every doubtful one refused without repeating its text."""

import numpy as np
import pytest

from fedsynth.errors import RecordingError
from fedsynth.recordings.gate import MissingChannelError
from fedsynth.recordings.readers.wfdb_header import choose_leads, microvolts_per_step, parse_wfdb_header

CANARY = "Canarywolf"
GOOD = f"""# {CANARY}, 72 years
r1 3 360/720(5) 4000 12:00:00 01/02/1999
r1.dat 212 200(1024)/mV 12 0 3 4 0 MLII
r1.dat 212 400 12 7
r1_b.dat 16+24 -2.5e1/uV 16 -5 0 -6 0 ECG {CANARY} lead
#{CANARY}
"""


def test_a_header_is_read_by_the_rules_of_the_format() -> None:
    header = parse_wfdb_header(GOOD.encode())

    assert (header.sfreq, header.n_times) == (360.0, 4000)
    first, second, third = header.signals
    assert (first.format, first.offset, first.gain, first.baseline) == (212, 0, 200.0, 1024)
    assert (first.unit, first.checksum, first.label) == (b"mV", 4, "MLII")
    # Without a baseline it is the ADC zero, and without a unit it is millivolts.
    assert (second.gain, second.baseline, second.unit, second.checksum, second.label) == (400.0, 7, b"mV", None, "")
    assert (third.format, third.offset, third.gain, third.baseline) == (16, 24, -25.0, -5)
    assert (third.unit, third.checksum) == (b"uV", -6)
    assert header.files == {"r1.dat": (0, 1), "r1_b.dat": (2,)}
    assert CANARY not in repr(header)


@pytest.mark.parametrize("line", ["x 1 100", "x 1 100 0"])
def test_a_length_may_be_left_open(line: str) -> None:
    assert parse_wfdb_header(f"{line}\nx.dat 16 200\n".encode()).n_times is None


@pytest.mark.parametrize(
    ("header", "fragment"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("# only a remark\n", "not a WFDB header", id="only remarks"),
        pytest.param("\0\0\0", "binary or too long", id="binary"),
        pytest.param("x" * (1 << 20) + "y", "binary or too long", id="too long"),
        pytest.param(f"{CANARY}.hea one two", "not a WFDB header", id="not a header"),
        pytest.param(
            "x/3 2 100 5000\nx1 2000\nx2 3000", "announces 3 segments and names 2", id="a segment too few"
        ),
        pytest.param("x/2 2 100 5000\nx1 2000\nx2 2999", "do not add up", id="segments too short"),
        pytest.param(
            f"x/1 2 100 5\n../{CANARY} 5", "a segment of the record is not a plain name", id="segment above"
        ),
        pytest.param("x/1 2 100 5\nx1 -5", "a segment of the record is not", id="segment of negative length"),
        pytest.param("x 0 100 5000", "names 0 signals", id="no signals"),
        pytest.param("x 2 100 5000\nx.dat 16 200", "2 signals and describes 1", id="a signal too few"),
        pytest.param("x 1 100 5000\nx.dat 16 200\nx.dat 16 200", "1 signals and describes 2", id="one too many"),
        pytest.param("x 1\nx.dat 16 200", "no usable sampling rate", id="no rate"),
        pytest.param("x 1 0 5000\nx.dat 16 200", "no usable sampling rate", id="rate 0"),
        pytest.param("x 1 1e999 5000\nx.dat 16 200", "no usable sampling rate", id="rate infinite"),
        pytest.param("x 1 nan 5000\nx.dat 16 200", "no usable sampling rate", id="rate nan"),
        pytest.param("x 1 100 -5\nx.dat 16 200", "number of samples in the header", id="length below 0"),
        pytest.param(f"x 1 100 {CANARY}\nx.dat 16 200", "number of samples in the header", id="length a word"),
        pytest.param(f"x 1 100 5\n../{CANARY}.dat 16 200", "no other file is opened", id="in the folder above"),
        pytest.param(f"x 1 100 5\n/{CANARY}/x.dat 16 200", "no other file is opened", id="absolute"),
        pytest.param(f"x 1 100 5\n{CANARY}\\x.dat 16 200", "no other file is opened", id="backslash"),
        pytest.param("x 1 100 5\n.. 16 200", "no other file is opened", id="the folder above"),
        pytest.param("x 1 100 5\n~ 0 200", "no other file is opened", id="no signal stored"),
        pytest.param("x 1 100 5\n- 16 200", "no other file is opened", id="standard input"),
        pytest.param("x 1 100 5\nx.dat", "no other file is opened", id="no format"),
        pytest.param(f"x 1 100 5\nx.dat {CANARY} 200", "format that is not a number", id="format a word"),
        pytest.param("x 1 100 5\nx.dat 62 200", "in format 62, which is not one of 8, 16", id="unknown format"),
        pytest.param("x 1 100 5\nx.dat 16x0 200", "no usable samples a frame", id="no samples a frame"),
        pytest.param("x 1 100 5\nx.dat 16:3 200", "skewed in time", id="skew"),
        pytest.param(f"x 1 100 5\nx.dat 16 {CANARY}", "gain of signal 1", id="gain a word"),
        pytest.param("x 1 100 5\nx.dat 16 200(1.5)/mV", "gain of signal 1", id="baseline no whole number"),
        pytest.param(f"x 1 100 5\nx.dat 16 200 {CANARY}", "field that is not a whole number", id="field a word"),
        pytest.param(
            "x 3 100 5\nx.dat 16 1\ny.dat 16 1\nx.dat 16 1", "2 signals of one signal file stand apart", id="apart"
        ),
        pytest.param("x 2 100 5\nx.dat 16 1\nx.dat 212 1", "differ in format", id="two formats in a file"),
    ],
)
def test_a_doubtful_header_is_refused(header: str, fragment: str) -> None:
    with pytest.raises(RecordingError) as refusal:
        parse_wfdb_header(header.encode())

    assert fragment in str(refusal.value)
    assert CANARY not in str(refusal.value)


def three(*labels: str, gain: str = "200/mV") -> bytes:
    lines = [f"x {len(labels)} 360 10", *(f"x.dat 212 {gain} 12 0 0 0 0 {label}" for label in labels)]
    return "\n".join(lines).encode()


def test_leads_are_chosen_by_name_in_the_order_of_the_study() -> None:
    header = parse_wfdb_header(three("V5", "ecg mlii", "aVR"))

    assert choose_leads(header, channels=("MLII", "V5"), sfreq=360.0) == (1, 0)
    assert choose_leads(header, channels=("AVR",), sfreq=360.02) == (2,)


@pytest.mark.parametrize(
    ("labels", "channels", "sfreq", "fragment"),
    [
        pytest.param(
            ("I", CANARY),
            ("I",),
            300.0,
            "channel 'I' is 360 Hz, and the study asks for recordings at 300",
            id="rate",
        ),
        pytest.param(("I", CANARY), ("II",), 360.0, "channel 'II' of the study is missing", id="missing"),
        pytest.param(("I", CANARY, "i"), ("I",), 360.0, "'I' of the study is there 2 times", id="there twice"),
        pytest.param(("I", CANARY), ("I", "i"), 360.0, "'I' and 'i' of the study are one", id="named twice"),
    ],
)
def test_leads_that_cannot_be_chosen_are_refused(
    labels: tuple[str, ...], channels: tuple[str, ...], sfreq: float, fragment: str
) -> None:
    with pytest.raises(RecordingError, match=fragment) as refusal:
        choose_leads(parse_wfdb_header(three(*labels)), channels=channels, sfreq=sfreq)

    assert CANARY not in str(refusal.value)
    assert isinstance(refusal.value, MissingChannelError) == ("missing" in fragment)


@pytest.mark.parametrize(
    ("gain", "fragment"),
    [
        pytest.param("0/mV", "has no gain", id="gain 0"),
        pytest.param("1e999/mV", "has no gain", id="gain infinite"),
        pytest.param(f"200/{CANARY}", "a unit that is not known", id="unknown unit"),
        pytest.param("200/mmHg", "a unit that is not known", id="pressure"),
    ],
)
def test_a_gain_or_unit_is_judged_only_on_channels_of_the_study(gain: str, fragment: str) -> None:
    good, bad = three("I").decode(), three("II", gain=gain).decode().splitlines()[1]
    header = parse_wfdb_header(f"{good.replace('x 1', 'x 2')}\n{bad}".encode())

    assert choose_leads(header, channels=("I",), sfreq=360.0) == (0,)
    with pytest.raises(RecordingError, match=fragment) as refusal:
        choose_leads(header, channels=("II",), sfreq=360.0)
    assert CANARY not in str(refusal.value)


def test_a_header_without_a_gain_is_refused_where_the_channel_is_needed() -> None:
    header = parse_wfdb_header(b"x 1 100 5\nx.dat 16")

    with pytest.raises(RecordingError, match="channel 'I' has no gain"):
        microvolts_per_step(header.signals[0], channel="I")


@pytest.mark.parametrize(
    ("gain", "microvolts"),
    [("200/mV", 5.0), ("0.5/uV", 2.0), ("2/\u00b5V", 0.5), ("4e6/V", 0.25), ("-100", -10.0)],
)
def test_every_known_unit_gives_microvolts(gain: str, microvolts: float) -> None:
    header = parse_wfdb_header(f"x 1 100 5\nx.dat 16 {gain}".encode())

    assert microvolts_per_step(header.signals[0], channel="I") == microvolts


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "comment",
    [
        "\u00c5sa, \u0141ukasz, \u03a3, \u0429\u0443\u043a\u0430",
        "a\x85b\x0bc\x0cd\x1ce\x1df\x1eg\u2028h\u2029i\x00j\x07",
        "x 1 100 5",
    ],
)
def test_a_comment_may_hold_anything_but_the_end_of_a_line_and_is_not_kept(end: str, comment: str) -> None:
    lines = [f"#{comment}", "x 1 100 5", f"# {comment}", "x.dat 16 200/mV 12 0 0 0 0 I", f"  #{comment}"]

    header = parse_wfdb_header(end.join(lines).encode())

    assert header == parse_wfdb_header(b"x 1 100 5\nx.dat 16 200/mV 12 0 0 0 0 I")
    assert parse_wfdb_header(b"\xef\xbb\xbf" + end.join(lines).encode()) == header


def test_segments_are_read_with_their_gaps() -> None:
    header = parse_wfdb_header(b"x/4 1 100 60\nx_layout 0\nx1 10\n~ 20\nx2 30\n")

    assert header.segments == (("x_layout", 0), ("x1", 10), (None, 20), ("x2", 30))
    assert (header.sfreq, header.n_times, header.signals) == (100.0, 60, ())


def test_the_rate_of_a_signal_is_that_of_frames_times_its_samples_a_frame() -> None:
    header = parse_wfdb_header(b"x 2 100 5\nx.dat 16x4 200 12 0 0 0 0 I\nx.dat 16 200 12 0 0 0 0 II")

    assert choose_leads(header, channels=("I",), sfreq=400.0) == (0,)
    with pytest.raises(RecordingError, match="channel 'II' is 100 Hz, and the study asks for recordings at 400 Hz"):
        choose_leads(header, channels=("I", "II"), sfreq=400.0)


def test_random_damage_is_read_or_refused_but_nothing_else() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(500):
        data = bytearray(GOOD.encode())
        start = int(rng.integers(len(data)))
        data[start : start + int(rng.integers(1, 5))] = rng.bytes(int(rng.integers(0, 5)))
        try:
            choose_leads(parse_wfdb_header(bytes(data)), channels=("MLII",), sfreq=360.0)
        except RecordingError:
            refused += 1
    assert 50 < refused < 500
