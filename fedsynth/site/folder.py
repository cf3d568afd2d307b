"""A site's folder: made empty, for its owner alone, with a `site.toml` in which every rule is explained."""

from pathlib import Path

from fedsynth.errors import RefusedError
from fedsynth.federation.files import make_folder, write_new
from fedsynth.federation.kit import accept_kit
from fedsynth.federation.membership import MembershipRequest, make_membership
from fedsynth.federation.names import check_name
from fedsynth.federation.roster import Roster
from fedsynth.site.consent import FEDERATION, IDENTITY
from fedsynth.site.policy import load_policy

_RULES = """\
# The rules of this site. This file stays here; nobody who asks can change it. docs/hospitals.md explains each line.
# A line with a # in front shows what holds when nothing is said.

# The site's name, as the federation's roster has it.
name = "{name}"

# The largest epsilon that anybody's data may ever be charged, over all studies. Decide before the first request:
# 1 is strict, 8 is weak.
largest_epsilon = 1.0
# largest_delta = 1e-5

# Whose promise is enough: "subject" (a person), "recording" or "window".
# units = ["subject"]

# Whom to trust: "site" means that this site adds all of the noise itself; "aggregate" relies on the others too.
# trust = ["site", "aggregate"]
# least_dishonest = 0

# Below so many people this site does not take part.
least_subjects = 20

# In so many studies, at most, the same people may be asked.
# largest_studies = 100

# Which families of generators may be trained here.
families = ["cwgan"]

# Gradients of many people at once: faster, but the coordinator must be trusted with the parameters.
# allow_batched = false

# "auto" takes a CUDA device where there is one.
# device = "auto"

# The ledger of what was spent, and the second place of its newest line. Put the second on another disk: only then
# is a ledger that was set back to an old copy noticed at once.
# ledger = "ledger"
# ledger_head = "/another-disk/ledger.head"

# While this file exists in the site's folder, nothing is answered.
# kill_switch = "STOP"

# An approval counts only under this site's signature. Say false in a rehearsal alone.
signed_approvals = true

# Two people who must both approve. Each makes a key (fedsynth site approver) and writes the line it prints here.
# [approvers]
# alice = "64 hexadecimal digits"
# bob = "64 hexadecimal digits"
"""


def make_site(folder: Path, *, name: str) -> None:
    """Make a site's folder with its rules.

    Raises:
        FederationFileError: a name that is none.
        RefusedError: rules stand there already.
    """
    check_name(name)
    if (folder / "site.toml").exists():
        raise RefusedError("this folder has a site.toml already, and it was left as it is")
    make_folder(folder)
    folder.chmod(0o700)
    write_new(folder / "site.toml", _RULES.format(name=name).encode("utf-8"), private=True)


def request_membership(folder: Path) -> tuple[MembershipRequest, bytes]:
    """Make a site's keys, where they are missing, and its request to be certified; errors as `make_membership`."""
    name = load_policy(folder).name
    return make_membership(folder / FEDERATION, role="site", name=name, identity=folder / IDENTITY)


def take_kit(folder: Path, kit: Path, *, words: str | None) -> Roster:
    """Take the authority's kit, or a later kit or notice, into a site's folder.

    Raises:
        StudyError: the folder is no site's.
        FederationError: as `accept_kit`.
    """
    load_policy(folder)  # a site's folder, and no other
    return accept_kit(kit, folder / FEDERATION, words=words)
