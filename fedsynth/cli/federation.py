"""`fedsynth federation`: the coordinator's membership and its requests to sites; the authority's later changes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fedsynth.cli.provision import renew, revoke, rotate

app = typer.Typer(help="A federation of hospitals: who takes part.", no_args_is_help=True)

FederationFolder = Annotated[
    Path, typer.Option("--federation", help="the coordinator's folder of keys and of the kit; for its user alone")
]

for _verb in (revoke, renew, rotate):
    app.command()(_verb)


@app.callback()
def _federation() -> None:
    """Group the verbs of a federation."""


@app.command()
def request(
    federation: FederationFolder,
    out: Annotated[Path, typer.Option("--out", help="the file to send to the authority")],
    name: Annotated[str, typer.Option(help="the coordinator's name, as FEDERATION.toml has it")] = "coordinator",
) -> None:
    """Make the coordinator's own keys and its request to be certified. The keys stay in the folder."""
    from fedsynth.federation.files import write_new
    from fedsynth.federation.membership import make_membership
    from fedsynth.federation.proposal import SIGNING_KEY

    made, data = make_membership(federation, role="coordinator", name=name, identity=federation / SIGNING_KEY)
    write_new(out, data)
    say_words(made.words, out=out)


@app.command()
def join(
    kit: Annotated[Path, typer.Argument(help="the kit or the notice that the authority handed out")],
    federation: FederationFolder,
    authority: Annotated[
        str | None, typer.Option(help="the authority's twelve words, as its people read them to you")
    ] = None,
) -> None:
    """Take a kit or a notice into the coordinator's folder. The authority's words are compared the first time."""
    from fedsynth.federation.kit import accept_kit

    roster = accept_kit(kit, federation, words=authority or ask_for_words(federation))
    sys.stdout.write(f"Edition {roster.edition} of federation {roster.name}: {', '.join(roster.members)}\n")


@app.command()
def ask(
    study: Annotated[Path, typer.Argument(help="the study.toml")],
    run: Annotated[str, typer.Option(help="the name of the run")],
    federation: FederationFolder,
    out: Annotated[Path, typer.Option("--out", help="the file to send to every site")],
    note: Annotated[str, typer.Option(help="a sentence for the people who approve")] = "",
) -> None:
    """Ask the sites to approve a study: its plan, for one run, under the coordinator's signature."""
    from fedsynth.coordinator.asking import ask_sites
    from fedsynth.federation.files import write_new
    from fedsynth.study import load_study

    request, data = ask_sites(federation, study=load_study(study), run=run, note=note)
    write_new(out, data)
    sys.stdout.write(f"{out}: request {request.digest[:12]} for run {run}, plan {request.plan_digest}\n")
    sys.stdout.write(f"Send it to {', '.join(sorted(request.identities))}.\n")


def say_words(words: str, *, out: Path) -> None:
    """Tell a participant what to do with its request."""
    sys.stdout.write(f"{out} is for the authority. It holds public keys only. Its words are:\n\n    {words}\n\n")
    sys.stdout.write("Read them to the authority's people when they call, and to nobody who calls you unasked.\n")


def ask_for_words(folder: Path) -> str | None:
    """Ask at the terminal for the authority's words, where no authority is pinned yet."""
    from fedsynth.federation.roster import AUTHORITY

    if (folder / AUTHORITY).exists() or not sys.stdin.isatty():
        return None
    words: str = typer.prompt("The authority's twelve words, as its people read them to you", err=True)
    return words
