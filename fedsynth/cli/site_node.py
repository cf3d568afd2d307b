"""`fedsynth site start | stop | status`: the processes of a site."""

import json
import os
import pwd
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from fedsynth.cli.progress import say

_END_SECONDS = 15.0
_ROLES = ("link", "gate", "train")
Role = Literal["link", "gate", "train"]
# Link and train are told where it is, and may not look into it.
Folder = Annotated[Path, typer.Argument(help="the site's folder", readable=False)]
GateSocket = Annotated[Path | None, typer.Option(help="the gate's socket, if not run/gate.sock of the site")]


def start(
    site: Folder,
    role: Annotated[
        Role | None, typer.Option("--as", help="be this one process, as a unit of the system does")
    ] = None,
    kit: Annotated[Path | None, typer.Option(help="the kit and its keys, if not federation/ of the site")] = None,
    gate_socket: GateSocket = None,
    train_socket: Annotated[Path | None, typer.Option(help="the train process' socket")] = None,
    users: Annotated[
        str, typer.Option(help="users of link, gate and train, by name or number, as LINK,GATE,TRAIN; one for all")
    ] = "",
    log: Annotated[Path | None, typer.Option(help="file of the log; standard error with --as")] = None,
    no_network: Annotated[
        bool, typer.Option("--no-network", help="leave the network, where the system does not see to it")
    ] = False,
) -> None:
    """Run a site: it answers orders of approved plans until it is stopped.

    Without --as all three processes run as this user, which is for a laptop or a trial. In a hospital each of them
    is a unit of the system with a user of its own: link has the network, gate has the data, train has neither.
    """
    from fedsynth.errors import StudyError
    from fedsynth.node.supervise import GIVEN_UP, Places, command_of, places_of, supervise

    if role != "train" and role != "link" and not (site / "site.toml").exists():
        raise StudyError("the folder holds no site.toml; name a site's folder, or make one first")
    kit = kit or site / "federation"
    if role is None:
        say(f"fedsynth: {GIVEN_UP}\n")
        supervise(site, kit=kit)
        return
    usual, ids = places_of(site), _ids(users)
    gate, train = gate_socket or usual.gate, train_socket or usual.train
    more = ["--no-network"] if no_network else []
    more += ["--log", str(log)] if log else []
    command = command_of(
        role,
        site=site,
        kit=kit,
        places=Places(run=usual.run, logs=usual.logs, gate=gate, train=train),
        users=ids,
        # Whoever connects is asked for its user; the mode only lets another one knock.
        mode=0o600 if len(set(ids)) == 1 else 0o666,
        more=more,
    )
    os.execv(command[0], command)


def stop(
    site: Folder,
    gate_socket: GateSocket = None,
    step: Annotated[bool, typer.Option("--step", help="end the step that runs, and stay")] = False,
) -> None:
    """Stop a site, also in the middle of a training; what was charged stays charged.

    Where the processes are units of the system, those are stopped by the system, and this ends the step that runs.
    """
    from fedsynth.errors import NodeError
    from fedsynth.node.supervise import pid_of, places_of

    pid = None if step else pid_of(site)
    if pid is None:
        _ask(gate_socket or places_of(site).gate, "stop")
        sys.stdout.write("the step that ran was ended; the processes are there\n")
        return
    os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + _END_SECONDS
    while pid_of(site) is not None:
        if time.monotonic() > ends:
            raise NodeError(f"process {pid} was asked to end and is still there after {_END_SECONDS:g} s")
        time.sleep(0.1)
    sys.stdout.write("the site is stopped\n")


def status(
    site: Folder,
    gate_socket: GateSocket = None,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON")] = False,
) -> None:
    """Say whether a site runs and what it is doing (exit code 1 if it does not run)."""
    from fedsynth.errors import NodeError
    from fedsynth.node.supervise import pid_of, places_of

    body: dict[str, Any] = {"running": True, "single_user_process": pid_of(site)}
    try:
        body |= _ask(gate_socket or places_of(site).gate, "status")
    except NodeError as error:
        body |= {"running": False, "why": str(error)}
    if as_json:
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
    elif not body["running"]:
        sys.stdout.write(f"{site}: the gate does not answer ({body['why']})\n")
    else:
        doing = f"{body['doing']}, {body['done']} of {body['all']}, for {body['seconds']:g} s"
        heard = body["link_heard_seconds_ago"]
        sys.stdout.write(
            f"{site}: {doing if body['busy'] else 'idle'}; {body['answered']} orders answered; the link "
            f"{'was never heard' if heard is None else f'was heard {heard:g} s ago'}\n"
        )
    if not body["running"]:
        raise typer.Exit(1)


def _ask(socket: Path, what: str) -> dict[str, Any]:
    from fedsynth.errors import NodeError
    from fedsynth.node.channel import connect

    try:
        owner = socket.stat().st_uid
    except OSError:
        raise NodeError(f"there is no {socket.name}; start the site") from None
    with connect(socket, uid=owner) as channel:
        channel.send({"ask": what})
        return channel.receive(seconds=30).header


def _ids(users: str) -> list[int]:
    from fedsynth.errors import NodeError

    if not users:
        return [os.geteuid()] * len(_ROLES)
    try:
        ids = [int(one) if one.isdecimal() else pwd.getpwnam(one).pw_uid for one in users.split(",")]
    except KeyError:
        raise NodeError(f"one of the users {users!r} does not exist; make it first") from None
    if len(ids) != len(_ROLES):
        raise NodeError("--users names three: LINK,GATE,TRAIN")
    return ids
