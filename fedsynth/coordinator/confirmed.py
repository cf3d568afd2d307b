"""Confirmed: a statement held against the words that the sites themselves signed, where no ledger is at hand."""

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.errors import LedgerError
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.wire.last_word import LastWord


def check_words(run: RunFolder, statement: PrivacyStatement) -> None:
    """Refuse a statement that says another thing of a site than the site signed.

    Raises:
        LedgerError: a word that the site's pinned key did not sign for this run, another head, length, event or
            epsilon than it says, or a site that was charged and is not stated.
        RunError: the run did not finish.
    """
    lengths, stated = run.ledger_lengths(), {site.site: site for site in statement.sites}
    words = _words(run)
    for name, word in words.items():
        if word.charged and name not in stated:
            raise LedgerError(f"site {name} was charged and the statement leaves it out; nothing was released")
    n_steps = len(run.plan().steps)
    for name, site in stated.items():
        if name not in words:
            raise LedgerError(f"site {name} is stated and has signed nothing; nothing was released")
        _compare(site, words[name], length=lengths.get(name, -1), delta=statement.delta, n_steps=n_steps)


def _words(run: RunFolder) -> dict[str, LastWord]:
    facts, plan = run.facts(), run.plan().digest
    words = {}
    for name, signed in run.words().items():
        word, key = signed.word, bytes.fromhex(facts.roster.get(name, ""))
        if not key or not word.is_signed(signed.signature, key=key):
            raise LedgerError(f"the word of site {name} is not signed by its pinned key; nothing was released")
        if (word.run, word.plan, word.site) != (facts.run, plan, name):
            raise LedgerError(f"the word of site {name} is about another run, plan or site; nothing was released")
        words[name] = word
    return words


def _compare(site: SiteStatement, word: LastWord, *, length: int, delta: float, n_steps: int) -> None:
    if (word.ledger_head, word.ledger_length) != (site.ledger_head, length):
        raise LedgerError(
            f"the statement of site {site.site} ends at another line than the site signed; nothing was released"
        )
    if word.charged > n_steps:
        raise LedgerError(f"site {site.site} was charged more often than the plan says; nothing was released")
    if (word.train_history, word.held_out_history) != (site.events, site.held_out):
        raise LedgerError(f"site {site.site} signed other events than its statement lists; nothing was released")
    spent = max(epsilon_pld(history, delta=delta) for history in (word.train_history, word.held_out_history))
    if not (spent == site.epsilon or abs(spent - site.epsilon) <= 1e-6 * spent):
        raise LedgerError(
            f"what site {site.site} signed comes to epsilon {spent:.4f}, its statement says {site.epsilon:.4f}; "
            "nothing was released"
        )
