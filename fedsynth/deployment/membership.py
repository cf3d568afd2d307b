"""Membership: from the roster of a federation to the nodes that may connect now."""

import logging
from pathlib import Path

from fedsynth.deployment.service import NodeRegistration
from fedsynth.errors import FederationError, FederationFileError
from fedsynth.federation.roster import load_roster
from fedsynth.federation.standing import standing

log = logging.getLogger("fedsynth.coordinator")


def members(folder: Path) -> dict[str, NodeRegistration]:
    """Return every site that is in good standing now, from the coordinator's folder; everything is read anew.

    Files that cannot be read or believed vouch for nobody.
    """
    try:
        sites = load_roster(folder).sites
    except (FederationError, FederationFileError) as error:
        log.error("nobody may take part: %s", error)
        return {}
    found = {}
    for name, site in sites.items():
        try:
            standing(folder, name=name)
        except (FederationError, FederationFileError) as error:
            log.warning("site %s may not take part: %s", name, error)
            continue
        found[name] = NodeRegistration(f"{site.node}\n".encode("ascii"))
    return found
