"""A recording that was saved again is the same person to holdings and to the ledger, whatever its name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedsynth.errors import PrivacyError
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.recordings.fingerprints import fingerprints
from fedsynth.recordings.recording import Recording
from fedsynth.site.holdings import group_of_person, holdings_of, tokens_of
from fedsynth.study import Study

People = Callable[..., list[Recording]]


def printed(recording: Recording) -> Recording:
    return replace(recording, fingerprints=tuple(fingerprints(row) for row in recording.signal))


def saved_again(recording: Recording, *, subject: str) -> Recording:
    """Without its last channel, padded, and with another digest of its data."""
    rows = np.pad(recording.signal[:1], ((0, 0), (0, 80)))
    return printed(replace(recording, signal=rows, channels=("C3",), subject=subject, digest=f"{subject} again"))


def name_in(group: str, held_out: float) -> str:
    names = (f"alias-{number}" for number in range(1000))
    return next(name for name in names if group_of_person(name, held_out=held_out) == group)


def test_a_recording_saved_again_meets_what_was_charged_to_it(
    tmp_path: Path, tiny: Study, make_people: People
) -> None:
    people = [printed(one) for one in make_people(4, seed=1)]
    fraction = tiny.training.held_out
    first = next(one for one in people if group_of_person(one.subject, held_out=fraction) == "train")
    again = saved_again(first, subject=name_in("train", fraction))
    mechanism = Mechanism(
        purpose="test", group="train", noise_multiplier=2.0, sampling_probability=1.0, steps=1, clipping_norm=1.0
    )
    with Ledger(tmp_path / "ledger") as ledger:
        before = tokens_of(people, held_out=fraction, key=ledger.key)["train"]
        ledger.charge(mechanism, tokens=before, nonce="n", study="s", cap=9.0, delta=1e-5, unit="subject")

        assert ledger.history(tokens_of([again], held_out=fraction, key=ledger.key)["train"]) == (mechanism,)
        stranger = printed(make_people(1, seed=9)[0])
        both = tokens_of([stranger], held_out=fraction, key=ledger.key)
        assert ledger.history((*both["train"], *both["held-out"])) == ()


def test_a_recording_saved_again_may_not_train_and_be_held_out(tiny: Study, make_people: People) -> None:
    people = [printed(one) for one in make_people(4, seed=1)]
    fraction = tiny.training.held_out
    first = next(one for one in people if group_of_person(one.subject, held_out=fraction) == "train")
    again = saved_again(first, subject=name_in("held-out", fraction))

    holdings_of(people, study=tiny, key=bytes(32))
    with pytest.raises(PrivacyError, match="one trains and one is held out"):
        holdings_of([*people, again], study=tiny, key=bytes(32))
