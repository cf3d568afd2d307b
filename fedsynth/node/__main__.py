"""One process of a site, as `python -m fedsynth.node ROLE ...`; `fedsynth site start` starts it.

Here and not in the command line, whose libraries an idle process would hold for months.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from fedsynth.errors import FedsynthError
from fedsynth.node.confine import end_with_parent, hide_memory, keep_privileges_down, leave_network
from fedsynth.node.logs import write_to


def main(words: list[str]) -> int:
    """Be one process of a site until it is asked to end; return an exit code."""
    given = _parser().parse_args(words)
    if given.parent:
        end_with_parent(given.parent)
    write_to(given.log)
    try:
        return _serve(given)
    except FedsynthError as error:
        logging.getLogger(f"fedsynth.{given.role}").error("%s", error)
        sys.stderr.write(f"fedsynth: {error}\n")
        return error.exit_code
    except Exception:
        logging.getLogger(f"fedsynth.{given.role}").exception("a fault of fedsynth ended this process")
        raise


def _serve(given: argparse.Namespace) -> int:
    if given.role == "train":
        from fedsynth.node.train import TrainServer

        _leave(given)
        server = TrainServer(
            given.train_socket, gate_uid=given.users[1], mode=given.mode, idle_seconds=given.idle_seconds
        )
        _when_asked(lambda: sys.exit(0))
        server.serve()
    elif given.role == "gate":
        from fedsynth.node.gate import GateServer, Users

        _leave(given)
        users = Users(*given.users)
        gate = GateServer(
            given.site, path=given.gate_socket, train=given.train_socket, users=users, mode=given.mode
        )
        _when_asked(gate.end)
        gate.serve()
    else:
        from fedsynth.node.link import Link

        keep_privileges_down()
        hide_memory()
        link = Link(given.kit, gate=given.gate_socket, gate_uid=given.users[1])
        _when_asked(link.stop)
        link.serve()
    return 0


def _leave(given: argparse.Namespace) -> None:
    if given.no_network and not leave_network():
        logging.getLogger(f"fedsynth.{given.role}").warning("this system lets no process leave its network")


def _when_asked(end: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fedsynth.node", allow_abbrev=False)
    parser.add_argument("role", choices=("link", "gate", "train"))
    parser.add_argument("--site", type=Path)
    parser.add_argument("--kit", type=Path)
    parser.add_argument("--gate-socket", type=Path)
    parser.add_argument("--train-socket", type=Path)
    parser.add_argument("--users", type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--mode", type=lambda text: int(text, 8), default=0o600)
    parser.add_argument("--idle-seconds", type=float, default=300.0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--parent", type=int, default=0)
    parser.add_argument("--no-network", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
