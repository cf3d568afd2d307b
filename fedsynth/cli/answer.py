"""One answer: what a command says on stdout and stderr, and its exit code, whatever becomes of it.

With --json, stdout carries one JSON document: the command's, or {"error": {...}}. A sentence for people goes to
stderr in either case. Everything that can go wrong ends here, and nowhere with a traceback for what is no fault of
the program.
"""

import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fedsynth.cli.progress import say
from fedsynth.engines.termination import unwound
from fedsynth.errors import FedsynthError
from fedsynth.extras import explained

REFUSED, INPUT, INTERRUPTED = 1, 2, 130

_stopped: list[Callable[[], str]] = []


@dataclass(frozen=True)
class Failure:
    """What went wrong: a kind that programs can tell apart, a sentence for people, and the exit code."""

    kind: str
    exit_code: int
    said: str


class _UnheardError(Exception):
    """The answer could not be written to stdout."""


@contextlib.contextmanager
def when_stopped(state: Callable[[], str]) -> Iterator[None]:
    """Have `state` say what was kept and what to do, should the command be stopped meanwhile."""
    _stopped.append(state)
    try:
        yield
    finally:
        # Left standing by what passes through, so that `answered` can ask; a command is one process.
        if sys.exc_info()[0] is None:
            _stopped.pop()


def answered(command: Callable[[], Any], *, words: Sequence[str]) -> int:
    """Carry out a command line and return the exit code.

    Args:
        command: does the work, with click's exceptions for usage.
        words: of the command line, without the program's name.
    """
    _stopped.clear()
    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    heard = io.StringIO()
    try:
        if as_json:
            try:
                with contextlib.redirect_stdout(heard):
                    failure = _failure(command)
            except Exception as error:  # a fault of this program: its traceback follows on stderr
                _write(_document("", Failure(type(error).__name__, REFUSED, f"a fault of fedsynth; {_kept()}")))
                raise
            _write(_document(heard.getvalue(), failure))
        else:
            failure = _failure(command)
            _write("")
    except _UnheardError as error:
        failure = Failure("Unheard", INPUT, f"the answer could not be written to standard output ({error})")
    if failure is None:
        return 0
    if failure.said:
        say(f"fedsynth: {failure.said}\n" if failure.kind != "UsageError" else failure.said)
    return failure.exit_code


def _failure(command: Callable[[], Any]) -> Failure | None:
    """Carry out a command; return how it failed, None where it did not."""
    try:
        with unwound(), explained():
            code = command()
            if code == INTERRUPTED:
                raise KeyboardInterrupt
            # click returns the code of its Exit, and 130 where somebody pressed Ctrl-C.
            return Failure("Exit", code, "") if isinstance(code, int) and code else None
    except FedsynthError as error:
        return Failure(type(error).__name__, error.exit_code, str(error))
    except click.ClickException as error:
        return Failure("UsageError", error.exit_code, _usage(error))
    except (KeyboardInterrupt, click.Abort):
        return Failure("Stopped", INTERRUPTED, f"stopped; {_kept()}")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else REFUSED
        if code <= 128:
            return Failure("Exit", code, "") if code else None
        return Failure("Stopped", code, f"stopped by signal {code - 128}; {_kept()}")
    except MemoryError:
        return Failure("MemoryError", INPUT, f"the memory of this machine is used up; {_kept()}")
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # how torch 2 says MemoryError
            raise
        return Failure("MemoryError", INPUT, f"the memory of this machine is used up; {_kept()}")
    except OSError as error:
        _write("")  # was it stdout that failed?
        # Without the file's name: it may be a subject's.
        return Failure("OSError", INPUT, f"the system refused: {error.strerror or type(error).__name__}; {_kept()}")


def _kept() -> str:
    return _stopped[-1]() if _stopped else "nothing was changed. Give the same command again"


def _usage(error: click.ClickException) -> str:
    """Return what click says of a command line that it cannot read."""
    text = io.StringIO()
    error.show(file=text)
    # Typer 0.20 and click 8.5 both ask "Did you mean".
    return re.sub(r"( Did you mean [^?]*\?)\1", r"\1", text.getvalue())


def _document(heard: str, failure: Failure | None) -> str:
    """Return the one document: what the command said, with the failure in it where there is one."""
    try:
        said = json.loads(heard) if heard.strip() else {}
    except ValueError:
        said = {"said": heard}  # help, which is no answer
    if failure is not None:
        words = " ".join(failure.said.split())
        error = {"kind": failure.kind, "exit_code": failure.exit_code, "said": words}
        said = {**(said if isinstance(said, dict) else {"answer": said}), "error": error}
    return json.dumps(said, indent=2) + "\n"


def steady_streams() -> None:
    """Give every standard stream a place, and letters that its encoding lacks another form."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Else the next file that is opened, a ledger perhaps, would be what others take for stderr.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write(text: str) -> None:
    """Write to stdout and see that it arrives.

    Raises:
        _UnheardError: it does not.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _abandon(1)
        raise _UnheardError(getattr(error, "strerror", None) or type(error).__name__) from None


def _abandon(number: int) -> None:
    """Lead a stream that fails to nowhere, so that the interpreter does not fail on it once more at its end."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def finish() -> None:
    """Make sure that nothing is left to be written when the interpreter ends."""
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            _abandon(number)
