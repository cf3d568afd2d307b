"""Metrics of a run in Prometheus' text format (version 0.0.4), served on loopback and nowhere else.

Numbers of sites and steps and their epsilon, all of them the coordinator's own; nothing of any person.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from fedsynth.deployment.status import RunStatus
from fedsynth.engines.processes import LOOPBACK
from fedsynth.errors import FedsynthError, RunError

_STATES = ("waiting for approvals", "running", "paused", "interrupted", "failed", "finished")
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_of(status: RunStatus) -> str:
    """Write a status as metrics."""
    run = f'run="{status.run}"'
    lines = [
        "# HELP fedsynth_run_state Whether the run is in this state.",
        "# TYPE fedsynth_run_state gauge",
        *(f'fedsynth_run_state{{{run},state="{state}"}} {int(state == status.state)}' for state in _STATES),
        "# HELP fedsynth_run_steps_done Private steps of the plan that are done.",
        "# TYPE fedsynth_run_steps_done gauge",
        f"fedsynth_run_steps_done{{{run}}} {status.step}",
        "# HELP fedsynth_run_steps Private steps of the plan.",
        "# TYPE fedsynth_run_steps gauge",
        f"fedsynth_run_steps{{{run}}} {status.steps}",
        "# HELP fedsynth_site_answers Private steps that a site has answered.",
        "# TYPE fedsynth_site_answers gauge",
        *(f'fedsynth_site_answers{{{run},site="{name}"}} {one.answered}' for name, one in status.sites.items()),
        "# HELP fedsynth_site_epsilon What those steps cost, at the study's delta.",
        "# TYPE fedsynth_site_epsilon gauge",
        *(f'fedsynth_site_epsilon{{{run},site="{name}"}} {one.epsilon:.6g}' for name, one in status.sites.items()),
        "# HELP fedsynth_site_asked Whether the site is still asked.",
        "# TYPE fedsynth_site_asked gauge",
        *(f'fedsynth_site_asked{{{run},site="{name}"}} {int(one.asked)}' for name, one in status.sites.items()),
    ]
    return "\n".join(lines) + "\n"


@contextmanager
def served(port: int | None, status: Callable[[], RunStatus]) -> Iterator[None]:
    """Serve `/metrics` on a port of the loopback address while the context lasts; nothing without a port.

    Raises:
        RunError: nobody can listen there.
    """
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                body = metrics_of(status()).encode()
            except FedsynthError:
                self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", _CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing of who reads."""

    try:
        server = ThreadingHTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise RunError(
            f"nobody can listen on {LOOPBACK}:{port} ({error.strerror}); name another --metrics"
        ) from error
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
