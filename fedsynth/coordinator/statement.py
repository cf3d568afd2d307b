"""A run's statement: from the last words of its sites to what it promises, and what is assumed of whom."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from fedsynth.errors import PrivacyError
from fedsynth.privacy.accountant import ADJACENCY, PLD, PRV, epsilon_pld, epsilon_prv
from fedsynth.privacy.making import Making, may_misbehave
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.study import Study
from fedsynth.wire.last_word import LastWord


def charged(words: Mapping[str, LastWord], *, done: Mapping[str, Sequence[Mechanism]]) -> dict[str, LastWord]:
    """Return the last word of every site that was charged for a run.

    Args:
        words: the last word of every site that was heard.
        done: the private sums that each site was seen to answer.

    Raises:
        PrivacyError: a site that contributed does not confirm what it was charged.
    """
    for site, sums in done.items():
        # Whoever contributed is in the generator; without its ledger's word nothing can be promised. Whoever is
        # away has said it with its last answer.
        if not _confirms(words.get(site), sums):
            raise PrivacyError(
                f"site {site} contributed {len(sums)} private sums and its ledger does not confirm them; "
                "the run makes no statement and cannot be released"
            )
    # Whoever was charged and dropped out before its answer counted has spent all the same.
    return {site: word for site, word in words.items() if site in done or word.charged}


def statement_of(
    words: Mapping[str, LastWord],
    *,
    study: Study,
    composes: str,
    made: Making,
    secure_cohort: SecureCohort | None,
    unheard: tuple[tuple[str, int], ...] = (),
) -> PrivacyStatement:
    """Return what a run promises, from the words of the sites that were charged.

    Args:
        words: of those sites.
        study: what was asked.
        composes: what shall be said about earlier runs.
        made: how the run was made.
        secure_cohort: of secure aggregation, where there was any.
        unheard: sites that may have been charged for orders they never answered, and how many.

    Raises:
        PrivacyError: a site's ledger holds sums per another unit, too.
    """
    delta = study.privacy.delta
    _check_units(words, study.privacy.unit)
    sites = tuple(_site_statement(site, word, delta) for site, word in sorted(words.items()))
    return PrivacyStatement(
        epsilon=max((site.epsilon for site in sites), default=math.inf),
        delta=delta,
        unit=study.privacy.unit,
        adjacency=ADJACENCY,
        trust=study.privacy.trust,
        accountant=PLD,
        second_accountant=PRV,
        composes=composes,
        overlap=_overlap(secure_cohort),
        assumes=assumptions(secure_cohort, study, engine=made.engine),
        made=made,
        sites=sites,
        unheard=unheard,
    )


def _check_units(words: Mapping[str, LastWord], unit: str) -> None:
    """Refuse to price what was bounded per another unit.

    Raises:
        PrivacyError: a site's ledger holds sums per another unit, too.
    """
    for site, word in sorted(words.items()):
        others = {event.unit for event, _ in (*word.train, *word.held_out)} - {unit}
        if others:
            raise PrivacyError(
                f"site {site} was asked about people per {' and per '.join(sorted(others))}, too, which "
                f"has no price per {unit}; the run makes no statement and cannot be released"
            )


def _site_statement(site: str, word: LastWord, delta: float) -> SiteStatement:
    histories: tuple[tuple[Mechanism, ...], ...] = (word.train_history, word.held_out_history)
    return SiteStatement(
        site=site,
        epsilon=max(epsilon_pld(history, delta=delta) for history in histories),
        epsilon_second=max(epsilon_prv(history, delta=delta) for history in histories),
        delta=delta,
        ledger_head=word.ledger_head,
        events=histories[0],
        held_out=histories[1],
    )


def _overlap(secure_cohort: SecureCohort | None) -> str:
    if secure_cohort is None:
        return "assumed: nobody is treated at two sites; whoever is, is charged at each and spends the sum"
    return (
        "assumed: nobody is treated at two sites; whoever is, is charged at each, adds to every total once for "
        "each, and is protected by the noise divided by the number of sites"
    )


def assumptions(secure_cohort: SecureCohort | None, study: Study, *, engine: str) -> str:
    """Return who must behave: a line without the coordinator only where sites run code of their own."""
    own = may_misbehave(engine)
    shipped = "" if own else f", which engine {engine} takes from the machine that coordinates: it has to behave"
    trusted = study.training.private_step == "batched" and study.n_rounds > 0
    also = "; the coordinator sends the parameters that training led to" if trusted else ""
    if secure_cohort is None:
        nobody = " only; neither the coordinator nor another site has to behave" if own and not trusted else ""
        return f"the code at each site{shipped}{nobody}{also}"
    return (
        ("" if own else f"the code at each site{shipped}; ")
        + also.removeprefix("; ")
        + "; " * trusted
        + (
            f"secure aggregation among {secure_cohort.n} sites: at most {secure_cohort.dishonest} of them tell "
            "the coordinator what they know, no total is opened with fewer than "
            f"{secure_cohort.least_survivors} sites in it, and "
            f"{secure_cohort.noise_sharers} honest shares make up the noise"
        )
    )


def _confirms(word: LastWord | None, done: Sequence[Mechanism]) -> bool:
    """Whether a site's own word holds every private sum that it was seen to answer."""
    if word is None:
        return False
    told = Counter([*word.train_history, *word.held_out_history])
    return not Counter(done) - told
