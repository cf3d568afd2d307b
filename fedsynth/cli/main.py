"""The command line: one verb a file; answers on stdout, progress and refusals on stderr."""

import functools
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from fedsynth.cli import (
    audit,
    check,
    draw,
    evaluate,
    federation,
    fetch,
    ingest,
    init,
    provision,
    rehearse,
    release,
    run,
    site,
    site_node,
    verify,
)
from fedsynth.cli.answer import answered, finish, steady_streams
from fedsynth.cli.described import Described
from fedsynth.cli.progress import silenced

# Before torch is loaded: threads that wait actively cost a shared machine more than they win.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

app = typer.Typer(
    name="fedsynth",
    help=(
        "Federated, differentially private synthesis of biosignals: EEG and ECG.\n\n"
        "Answers go to stdout, progress and refusals to stderr. Exit codes: 0 done, 1 refused, "
        "2 configuration, input or machine, 3 privacy, 4 a release that does not verify, 130 stopped."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _quietable(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option --quiet."""
    signature = inspect.signature(command)
    option = Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")]
    quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)

    @functools.wraps(command)
    def run(*args: Any, quiet: bool = False, **others: Any) -> Any:
        with silenced(quiet):
            return command(*args, **others)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), quiet])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "quiet": option}
    return run


@app.callback(invoke_without_command=True)
def _fedsynth(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="print the version of the code and its digest")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="answer as JSON", hidden=True)] = False,
) -> None:
    """Say which version this is."""
    if version:
        from fedsynth.source_code import code_in_use

        code = code_in_use()
        body = {"fedsynth": code.version, "source_sha256": code.digest}
        sys.stdout.write(json.dumps(body) + "\n" if as_json else f"fedsynth {code.version} ({code.digest[:12]})\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("give a command")


for _verb in (
    init.init,
    check.check,
    fetch.fetch,
    ingest.ingest,
    rehearse.rehearse,
    release.release,
    draw.draw,
    verify.verify,
    audit.audit,
    evaluate.evaluate,
    provision.provision,
    run.run,
):
    app.command(cls=Described)(_quietable(_verb))
federation.app.command()(run.start)
federation.app.command()(run.status)
federation.app.command()(run.pause)
federation.app.command()(run.resume)
federation.app.command()(run.stop)
site.app.command("ingest")(ingest.site_ingest)
site.app.command()(site_node.start)
site.app.command()(site_node.stop)
site.app.command()(site_node.status)
for _name, _group in (("site", site.app), ("federation", federation.app)):
    for _info in _group.registered_commands:
        if _info.callback is not None:
            _info.callback = _quietable(_info.callback)
            _info.cls = Described
    app.add_typer(_group, name=_name)


def main() -> None:
    """Run the command line and turn failures into one sentence and an exit code."""
    steady_streams()
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("fedsynth").setLevel(logging.WARNING)
    code = answered(lambda: app(prog_name="fedsynth", standalone_mode=False), words=sys.argv[1:])
    finish()
    sys.exit(code)
