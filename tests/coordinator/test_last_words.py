"""The coordinator keeps a site's last word if the pinned key signed it for this run, and nothing else."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.coordinator.last_words import UNREADABLE, LastWords
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.update import REFUSED, Update

KEYS = {"west": b"w" * 32, "east": b"e" * 32}
ROSTER = {
    site: Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() for site, key in KEYS.items()
}
EVENT = Mechanism("sum", 2.0, 1.0, 1, 1.0)
WORD = LastWord("run", "plan", "west", "ab" * 32, 2, 1, ((EVENT, 2),))


def said(word: LastWord, *, by: str = "west") -> bytes:
    return Update({"sum": torch.ones(2)}, word=word, signature=word.sign(KEYS[by])).to_bytes()


@pytest.fixture
def words() -> LastWords:
    return LastWords(run="run", plan="plan", roster=ROSTER)


def changed(data: bytes, **changes: Any) -> bytes:
    return replace(Update.from_bytes(data), **changes).to_bytes()


LATER = replace(WORD, ledger_length=9)
FORGERIES: dict[str, Callable[[], bytes]] = {
    "unsigned": lambda: Update({"sum": torch.ones(2)}).to_bytes(),
    "with another signature": lambda: changed(said(LATER), signature=bytes(64)),
    "by another site": lambda: said(LATER, by="east"),
    "with another history than was signed": lambda: changed(said(LATER), word=replace(LATER, train=())),
    "with another head than was signed": lambda: changed(said(LATER), word=replace(LATER, ledger_head="0" * 64)),
    "of another run": lambda: said(replace(LATER, run="another")),
    "of another plan": lambda: said(replace(LATER, plan="another")),
    "in the name of another": lambda: said(replace(LATER, site="east")),
    "of another site that speaks for this one": lambda: said(replace(LATER, site="east"), by="east"),
    "garbage": lambda: b"garbage",
    "cut": lambda: said(LATER)[:-1],
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_an_answer_with_a_forged_word_is_none_and_nothing_of_it_is_kept(words: LastWords, forgery: str) -> None:
    data = FORGERIES[forgery]()

    assert words.heard("west", data) == Update(refused=UNREADABLE)
    assert dict(words.by_site) == {}
    words.heard("west", said(WORD))
    assert words.heard("west", data) == Update(refused=UNREADABLE)
    assert dict(words.by_site) == {"west": WORD}


def test_the_longest_word_is_the_last_one_whatever_comes_after(words: LastWords) -> None:
    for word in (WORD, LATER, WORD):
        assert words.heard("west", said(word)).refused == ""

    assert dict(words.by_site) == {"west": LATER}


def test_a_refusal_says_nothing_and_takes_nothing_back(words: LastWords) -> None:
    words.heard("west", said(WORD))

    assert words.heard("west", Update(refused=REFUSED).to_bytes()) == Update(refused=REFUSED)
    assert dict(words.by_site) == {"west": WORD}


def test_a_site_that_nobody_pinned_is_not_heard(words: LastWords) -> None:
    assert words.heard("north", said(replace(WORD, site="north"))) == Update(refused=UNREADABLE)
    assert dict(words.by_site) == {}
