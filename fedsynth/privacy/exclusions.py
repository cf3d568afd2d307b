"""What a promise is not about: facts that no noise covers, in sentences that follow from how a run was made."""

from collections.abc import Sequence

from fedsynth.privacy.making import ENGINES, Making


def exclusions(made: Making, *, unit: str, trust: str, unheard: Sequence[tuple[str, int]] = ()) -> tuple[str, ...]:
    """Say what epsilon and delta do not cover; the same facts give the same sentences.

    Args:
        made: how the run was made.
        unit: of the promise.
        trust: "site" or "aggregate".
        unheard: sites, and how many orders each may have been charged for without its word.
    """
    out = [
        "whether a site takes part: before the first order it approves a study or declines it, and whom it holds "
        "and who was asked before may decide",
        "that a site which takes part holds as many people and windows as the study and its own rules ask for",
        "when a site answers, how long it takes, and that a machine fails or its people stop it",
        "the study's public text, its labels and amplitudes with it, and what its authors knew of recordings",
        "how long a site's ledger is, and which sums were asked of its people in other studies",
    ]
    if unit != "subject":
        out.append(f"how many {unit}s a person has: whoever has several is protected less than epsilon says")
    if trust == "aggregate":
        out.append("which sites are in which total")
    if made.cohort == "toy":
        out.append("the made-up people: some scores are computed from them without noise, for nobody was recorded")
    if ENGINES[made.engine].is_rehearsal:
        out.append("the rehearsal's own folder, which holds every site's windows and is no part of a release")
    for site, orders in unheard:
        out.append(
            f"what site {site} did with {orders} order{'s' * (orders > 1)} to which no answer of it stands: its "
            "ledger may count them, and nothing that came of them is in this release"
        )
    return tuple(out)
