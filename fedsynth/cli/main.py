"""The command line: one verb a file; answers on stdout, progress and refusals on stderr."""

import logging
import os
import sys

import typer

from fedsynth.cli import audit, check, rehearse, release, site, verify
from fedsynth.engines.termination import unwound
from fedsynth.errors import FedsynthError
from fedsynth.extras import explained

# Before torch is loaded: threads that wait actively cost a shared machine more than they win.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

app = typer.Typer(
    name="fedsynth",
    help=(
        "Federated, differentially private synthesis of biosignals: EEG and ECG.\n\n"
        "Answers go to stdout, progress and refusals to stderr. Exit codes: 0 done, 1 refused, "
        "2 configuration or input, 3 privacy, 4 a release that does not verify."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(check.check)
app.command()(rehearse.rehearse)
app.command()(release.release)
app.command()(verify.verify)
app.command()(audit.audit)
app.add_typer(site.app, name="site")


def main() -> None:
    """Run the command line and turn failures into one sentence and an exit code."""
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s")
    logging.getLogger("fedsynth").setLevel(logging.WARNING)
    try:
        with unwound(), explained():
            app(standalone_mode=True)
    except FedsynthError as error:
        sys.stderr.write(f"fedsynth: {error}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.stderr.write("fedsynth: stopped; what was charged stays charged\n")
        sys.exit(1)
