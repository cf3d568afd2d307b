"""Words that stand for bytes: told apart by eye and ear, and one for each."""

from fedsynth.federation.words import WORDS, fingerprint, same_words, word_of


def test_every_byte_has_a_word_of_its_own() -> None:
    words = [word_of(byte) for byte in range(256)]

    assert len(set(words)) == 256
    assert {len(word) for word in words} == {4}


def test_a_fingerprint_follows_the_first_twelve_bytes_of_the_digest() -> None:
    # SHA-256 of nothing begins with e3 b0 c4 42 98 fc 1c 14 9a fb f4 c8.
    assert fingerprint(b"").split("-")[:2] == [word_of(0xE3), word_of(0xB0)]
    assert len(fingerprint(b"").split("-")) == WORDS


def test_words_are_compared_in_full_and_in_order() -> None:
    words = fingerprint(b"north")
    first, *rest = words.split("-")

    assert same_words(words.upper().replace("-", ", "), words)
    assert not same_words("-".join(rest), words)
    assert not same_words("-".join([*rest, first]), words)
    assert not same_words("", words)
