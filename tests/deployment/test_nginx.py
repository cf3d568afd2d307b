"""nginx with the configuration of deploy/: what passes, what is not there, and who is not heard."""

import http.client
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fedsynth.deployment.service import _loopback_files
from fedsynth.engines.processes import free_ports

from .federation import Federation

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed here"),
]
PASSED = (
    "/v1/fleet/activate-node",
    "/v1/fleet/deactivate-node",
    "/v1/fleet/pull-messages",
    "/v1/fleet/push-messages",
    "/v1/fleet/pull-object",
    "/v1/fleet/push-object",
    "/v1/fleet/send-node-heartbeat",
    "/v1/fleet/confirm-message-received",
)
CLOSED = (
    "/",
    "/docs",
    "/v1/control/start-run",
    "/v1/runtime/pull-app-inputs",
    "/v1/fleet",
    "/v1/fleet/",
    "/v1/fleet/get-fab",
    "/v1/fleet/register-node",
    "/v1/fleet/../control/start-run",
    "/v1/fleet/%2e%2e/control/start-run",
    "/v1/fleet/pull-messages/../../control/start-run",
    "/v1/control/../fleet/pull-messages",
    "/v1/%66leet/get-fab",
    "//v1/fleet/pull-messages",
    "/v1//fleet/pull-messages",
    "/v1/fleet/pull-messages?to=/v1/control/start-run",
    "/V1/FLEET/pull-messages",
)


class Upstream(BaseHTTPRequestHandler):
    """A SuperLink's place: it says yes to whatever reaches it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Front:
    """nginx before the stub, and a hospital that asks."""

    def __init__(self, trial: Federation, *, port: int) -> None:
        self.trial, self.port = trial, port

    def ask(self, path: str, *, site: str | None = "north") -> int:
        """Return the status of a request, with a hospital's certificate or with none."""
        folder = self.trial.site(site or "north") / "federation"
        context = ssl.create_default_context(cafile=str(folder / "authority.pem"))
        if site:
            context.load_cert_chain(folder / "tls.pem", folder / "tls.key")
        connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=context)
        try:
            connection.putrequest("POST", path, skip_accept_encoding=True)
            connection.putheader("Content-Length", "4")
            connection.endheaders(b"body")
            answer = connection.getresponse()
            body = answer.read().decode()
        finally:
            connection.close()
        assert answer.status != 200 or body == path
        return answer.status


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    root = tmp_path_factory.mktemp("front")
    outside, inside = free_ports(2)
    trial = Federation(root, address=f"localhost:{outside}")
    trial.provision()
    # North's words stay good; west is put out, and the coordinator takes the notice in.
    trial.say("authority", "federation", "revoke", "west", "--authority", "authority", "--out", "put-out")
    trial.say("coordinator", "federation", "join", "put-out/notice", "--federation", trial.coordinator)
    service = trial.coordinator / "service"
    service.mkdir(mode=0o700)
    files = _loopback_files(service / "tls")
    server = ThreadingHTTPServer(("127.0.0.1", inside), Upstream)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    trial.start_nginx(listen=f"127.0.0.1:{outside}", upstream=inside)
    made = Front(trial, port=outside)

    def answers() -> bool:
        try:
            return made.ask("/") > 0
        except ConnectionRefusedError:
            return False

    trial.wait(answers, what="nginx")
    yield made
    trial.end()
    server.shutdown()
    server.server_close()


def test_nginx_reads_the_configuration(front: Front) -> None:
    home = front.trial.root / "nginx"

    done = subprocess.run(
        ["nginx", "-t", "-p", str(home), "-c", str(home / "nginx.conf")],
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr


@pytest.mark.parametrize("path", PASSED)
def test_what_a_link_asks_for_passes(front: Front, path: str) -> None:
    assert front.ask(path) == 200


@pytest.mark.parametrize("path", CLOSED)
def test_nothing_else_is_there(front: Front, path: str) -> None:
    assert front.ask(path) == 404


def test_without_a_certificate_nobody_is_heard(front: Front) -> None:
    assert front.ask(PASSED[0], site=None) == 400


def test_a_member_that_was_revoked_is_not_heard(front: Front) -> None:
    assert front.ask(PASSED[0], site="west") == 400
    assert front.ask(PASSED[0], site="east") == 200
