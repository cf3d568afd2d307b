"""Labels that nobody has: refused in a rehearsal, where one machine sees all sites, before anybody is charged."""

from collections.abc import Mapping

from fedsynth.errors import RecordingError
from fedsynth.rehearsal.sites import Held
from fedsynth.site.holdings import labels_of_group
from fedsynth.study import Study


def refuse_labels_of_nobody(held: Mapping[str, Held], study: Study) -> None:
    """Refuse a study with a label that nobody who trains has, at any site.

    Its windows would be the public prior's, released under that name. A site alone cannot refuse: whether it does
    would tell of its people.

    Raises:
        RecordingError: with the labels that were found.
    """
    there = {
        label
        for one in held.values()
        for label in labels_of_group(one.recordings, one.windows, "train", held_out=study.training.held_out)
    }
    missing = [label for label in study.labels.names if label not in there]
    if missing:
        found = ", ".join(repr(label) for label in study.labels.names if label in there) or "none"
        raise RecordingError(
            f"the study names the label {missing[0]!r}, and nobody who trains has it at any of {len(held)} sites "
            f"(found there: {found}). Nothing was written or charged; correct labels.names, or the labels of the "
            "recordings, or bring people with that label"
        )
