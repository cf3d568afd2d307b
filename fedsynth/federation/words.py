"""Fingerprints as words: what two people read to each other on the telephone to compare a key.

The words are made by a rule, sixteen beginnings by sixteen endings, so that every byte is one word of two syllables
and no two words are alike. Twelve of them carry 96 bits: whoever wants to be taken for somebody else has to find a
second key with the same words, which takes 2^96 trials.
"""

import hashlib

WORDS = 12
_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aeiou"
_BEGINNINGS = tuple(letter + _VOWELS[place % 5] for place, letter in enumerate(_CONSONANTS))
_ENDINGS = tuple(letter + _VOWELS[(3 * place + 2) % 5] for place, letter in enumerate(_CONSONANTS))


def word_of(byte: int) -> str:
    """Return the word of a byte.

    >>> [word_of(0), word_of(1), word_of(255)]
    ['babi', 'bada', 'zazi']
    """
    return _BEGINNINGS[byte >> 4] + _ENDINGS[byte & 15]


def fingerprint(data: bytes) -> str:
    """Return the first twelve bytes of the SHA-256 of `data` as words, with hyphens between them."""
    return "-".join(word_of(byte) for byte in hashlib.sha256(data).digest()[:WORDS])


def same_words(said: str, fingerprint_words: str) -> bool:
    """Whether somebody said all words of a fingerprint in order, with whatever stands between them.

    >>> same_words("Babi bada, zazi", "babi-bada-zazi"), same_words("babi bada", "babi-bada-zazi")
    (True, False)
    """
    heard = "".join(letter.lower() if letter.isalpha() else " " for letter in said).split()
    return heard == fingerprint_words.split("-")
