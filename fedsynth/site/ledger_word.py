"""What a site tells of its ledger: a bound on what anybody was asked, which does not depend on who is held."""

from collections.abc import Sequence

from fedsynth.ledger.chain import Charge, people_key
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan
from fedsynth.privacy.mechanism import Group, Mechanism
from fedsynth.site.approval import nonces_of
from fedsynth.site.holdings import Holdings
from fedsynth.wire.last_word import LastWord, repeated


def histories(
    charges: Sequence[Charge], *, run: str, plan: Plan, holdings: Holdings
) -> dict[Group, tuple[Mechanism, ...]]:
    """Return for each group what its people were asked at most, whoever they are, oldest first.

    Nobody is in both groups of one run, so its own lines count for the group they name. Anybody here may have been
    asked before, in either group; so every other line counts for both, and whether a person was really among those
    asked then is for the site's own eyes. Where the holdings were changed since a line of the run was written,
    somebody may have changed groups, and all lines count for both.

    Args:
        charges: the ledger's lines.
        run: the name of the run.
        plan: as approved for it.
        holdings: the people held now.
    """
    own = nonces_of(run=run, plan=plan)
    mine = [charge for charge in charges if charge.nonce in own]
    held = {group: people_key(tokens) for group, tokens in holdings.tokens.items()}
    unmoved = all(charge.people == held[charge.mechanism.group] for charge in mine)
    apart = own if unmoved else frozenset[str]()
    return {
        group: tuple(
            charge.mechanism for charge in charges if charge.nonce not in apart or charge.mechanism.group == group
        )
        for group in holdings.tokens
    }


def word_of(ledger: Ledger, *, run: str, plan: Plan, site: str, holdings: Holdings) -> LastWord:
    """Return a site's word on its ledger as it stands."""
    charges, own = ledger.charges(), nonces_of(run=run, plan=plan)
    told = histories(charges, run=run, plan=plan, holdings=holdings)
    return LastWord(
        run=run,
        plan=plan.digest,
        site=site,
        ledger_head=ledger.head,
        ledger_length=len(charges),
        charged=sum(charge.nonce in own for charge in charges),
        train=repeated(told["train"]),
        held_out=repeated(told["held-out"]),
    )
