"""The wording of a run's statement: what a site's history comes to, and what is assumed of whom."""

from collections import Counter
from collections.abc import Mapping

from fedsynth.errors import PrivacyError
from fedsynth.privacy.accountant import epsilon_pld, epsilon_prv
from fedsynth.privacy.making import may_misbehave
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import SiteStatement
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.study import Study
from fedsynth.wire.last_word import LastWord


def check_units(words: Mapping[str, LastWord], unit: str) -> None:
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


def site_statement(site: str, word: LastWord, delta: float) -> SiteStatement:
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


def overlap(secure_cohort: SecureCohort | None) -> str:
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


def confirms(word: LastWord | None, done: list[Mechanism]) -> bool:
    """Whether a site's own word holds every private sum that it was seen to answer."""
    if word is None:
        return False
    told = Counter([*word.train_history, *word.held_out_history])
    return not Counter(done) - told
