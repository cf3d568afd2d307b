"""The last word of every site: read from each answer, held against the pinned key, and kept for the statement."""

from collections.abc import Mapping, Sequence

from fedsynth.errors import FedsynthError, PrivacyError, WireError
from fedsynth.wire.last_word import LastWord, SignedWord
from fedsynth.wire.update import Update

UNREADABLE = "unreadable"
"""What the coordinator says of an answer that is none; no site sends it."""


class LastWords:
    """What each site of a run last said of its ledger, as long as its pinned key signed it for this run."""

    def __init__(self, *, run: str, plan: str, roster: Mapping[str, bytes]) -> None:
        """Begin with nothing heard.

        Args:
            run: the name of the run.
            plan: the digest of its plan.
            roster: every site's public key, 32 bytes.
        """
        self._run, self._plan, self._roster = run, plan, dict(roster)
        self._words: dict[str, SignedWord] = {}

    @property
    def by_site(self) -> Mapping[str, LastWord]:
        """Return the last word of every site that was heard."""
        return {site: signed.word for site, signed in self._words.items()}

    @property
    def signed(self) -> Mapping[str, SignedWord]:
        """Return the same with their signatures."""
        return self._words

    def charged(self, site: str) -> int:
        """Return for how many of this run's orders a site said that it was charged."""
        return self._words[site].word.charged if site in self._words else 0

    def go_on(self, words: Mapping[str, SignedWord]) -> None:
        """Take over what was heard before a crash."""
        self._words = dict(words)

    def check(self, sites: Sequence[str]) -> None:
        """Refuse sites whose word could not be held against anything.

        Raises:
            PrivacyError: no key is pinned for one.
        """
        for site in sites:
            if site not in self._roster:
                raise PrivacyError(
                    f"no key is pinned for site {site}, so that nobody could tell its word on its ledger from a "
                    "forged one. Nothing was asked or charged; add its key to the roster"
                )

    def heard(self, site: str, data: bytes) -> Update:
        """Return a site's answer, after its word was kept; whatever cannot be read or believed is a refusal."""
        try:
            update = Update.from_bytes(data)
            if not update.refused:
                self._keep(site, update)
            return update
        except (FedsynthError, ValueError, OverflowError, RecursionError):
            # Whatever a site sends, it is that site which is left out, and not the run that ends.
            return Update(refused=UNREADABLE)

    def _keep(self, site: str, update: Update) -> None:
        word, key = update.word, self._roster.get(site)
        if word is None or key is None or not word.is_signed(update.signature, key=key):
            raise WireError(f"the answer of site {site} bears no word that its pinned key signed")
        if (word.run, word.plan, word.site) != (self._run, self._plan, site):
            raise WireError(f"the word of site {site} is about another run, plan or site")
        known = self._words.get(site)
        # An answer that was kept for a retry bears the word of its own time.
        if known is None or word.ledger_length >= known.word.ledger_length:
            self._words[site] = SignedWord(word, update.signature)
