"""Asking: from a study to a request that every site of it can verify and show."""

from datetime import UTC, datetime
from pathlib import Path

from fedsynth.errors import FederationError
from fedsynth.federation.files import text_of
from fedsynth.federation.keys import load_signing_key
from fedsynth.federation.names import check_name
from fedsynth.federation.proposal import SIGNING_KEY, StudyRequest
from fedsynth.federation.roster import load_roster
from fedsynth.federation.standing import standing
from fedsynth.plan import plan_of
from fedsynth.study import Study

REQUEST = "request.json"
"""The file of a request in its run's folder."""


def ask_sites(
    folder: Path, *, study: Study, run: str, note: str = "", now: datetime | None = None
) -> tuple[StudyRequest, bytes]:
    """Return the request for a study, and the file to send.

    Args:
        folder: the coordinator's, with its kit and its signing key.
        study: what is asked for.
        run: the name of the run.
        note: a sentence for people.
        now: the time; the machine's clock where not given.

    Raises:
        FederationError: the coordinator is not in good standing, its key is not the roster's, or the study names a
            site that is not.
        FederationFileError: a file is missing, or the run's name is none.
    """
    now, roster = now or datetime.now(UTC), load_roster(folder)
    key = load_signing_key(folder / SIGNING_KEY, what="the coordinator's signing key")
    if roster.coordinator is None or roster.coordinator.identity != key.public_key().public_bytes_raw():
        raise FederationError("the roster does not name this coordinator's signing key; no site would believe it")
    standing(folder, name=roster.coordinator.name, now=now)
    sites = {name: standing(folder, name=name, now=now) for name in study.cohort.sites or sorted(roster.sites)}
    request = StudyRequest(
        federation=roster.name,
        run=check_name(run),
        plan=plan_of(study).to_json(),
        identities={name: member.identity for name, member in sites.items()},
        asked=text_of(now),
        note=note,
    )
    return request, request.signed(key)
