"""`fedsynth site countersign`: a site looks at a release, with its own recordings beside it, and signs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.hospital import Site


def countersign(
    folder: Site,
    release: Annotated[Path, typer.Argument(help="the release, as it is to be published")],
    key: Annotated[Path, typer.Option("--publisher", help="the publisher's public key, got elsewhere")],
    out: Annotated[Path | None, typer.Option("--out", help="where to put the file; this folder, else")] = None,
) -> None:
    """Sign a release for this site, after it was verified, searched for copies and compared with the ledger.

    In this order: every file and signature of the release, the publisher's key, this site's head in it, copies of
    this site's own recordings. Then the site's key signs the manifest and where its ledger stands. The file goes to
    the coordinator; `fedsynth verify --sites` counts them.
    """
    from fedsynth.errors import LedgerError, VerificationError
    from fedsynth.federation.files import write_new
    from fedsynth.federation.roster import load_roster
    from fedsynth.release.countersignature import SUFFIX, Countersignature, digests_of, point_of
    from fedsynth.release.load import Release
    from fedsynth.release.verify import verify_release
    from fedsynth.site.consent import FEDERATION, identity_of
    from fedsynth.site.copies import refuse_copies
    from fedsynth.site.policy import load_policy
    from fedsynth.site.standing import open_ledger
    from fedsynth.synthesis.windows import SyntheticWindows, stream_of

    policy, roster = load_policy(folder), load_roster(folder / FEDERATION)
    digests = digests_of(release)
    verify_release(release, key=key)
    point = point_of(release, policy.name)
    with open_ledger(folder, policy) as ledger:
        lines = ledger.charges()
        if not 0 < point.length <= len(lines) or lines[point.length - 1].link != point.head:
            raise LedgerError(
                f"the release says that this site's ledger had {point.length} lines and a head that it never had; "
                "nothing was signed. Ask the coordinator where it has them from"
            )
        head, length = ledger.head, len(lines)
    found = Release(release)
    windows = SyntheticWindows(found.X, found.y, found.subject, found.label_names, found.channels, found.sfreq)
    refuse_copies([folder], stream_of(windows))
    if digests_of(release) != digests:
        raise VerificationError("the release changed while it was looked at; nothing was signed. Look at a copy")
    manifest, statement = digests
    said = Countersignature(
        federation=roster.name,
        site=policy.name,
        manifest_sha256=manifest,
        statement_sha256=statement,
        ledger_head=point.head,
        ledger_length=point.length,
        ledger_head_now=head,
        ledger_length_now=length,
    )
    path = out or Path(f"{policy.name}{SUFFIX}")
    write_new(path, said.signed(identity_of(folder)))
    sys.stdout.write(
        f"{path}: {policy.name} countersigned. No copies beyond chance were found; send the file on.\n"
    )
