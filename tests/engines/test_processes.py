"""Processes: whatever was started ends, however it hides; and what Flower needs is at hand."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from fedsynth.engines.flower import MANIFEST, write_app, write_settings
from fedsynth.engines.processes import Processes, free_ports
from fedsynth.errors import RunError

ROOT = Path(__file__).resolve().parents[2]
HIDER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1], "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
time.sleep(600)
"""


HIDDEN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(600)
"""


def test_a_process_that_detaches_itself_and_ignores_the_request_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.engines.processes._GRACE_SECONDS", 0.2)
    note = tmp_path / "pid"

    with Processes(tmp_path / "logs") as processes:
        processes.start("hider", [sys.executable, "-c", HIDER, str(note)])
        while not (note.exists() and note.read_text()):
            time.sleep(0.05)
        hidden = Path("/proc", note.read_text())
        assert hidden.exists()

    assert _ended(hidden)
    assert not processes.home.exists()


def test_a_process_that_proc_does_not_show_is_ended_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As under ProtectProc=invisible, where Flower's SuperExec is not seen: it forbids that its memory be read."""
    monkeypatch.setattr("fedsynth.engines.processes._GRACE_SECONDS", 0.2)
    monkeypatch.setattr("fedsynth.engines.relatives._table", lambda _: {})
    note = tmp_path / "pid"

    with Processes(tmp_path / "logs") as processes:
        hidden = processes.start("hidden", [sys.executable, "-c", HIDDEN, str(note)])
        while not note.exists():
            time.sleep(0.01)

    assert hidden.returncode == -signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_everything_ends_when_the_run_is_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    with suppress(KeyboardInterrupt, SystemExit), Processes(tmp_path / "logs") as processes:
        process = processes.start("sleeper", [sys.executable, "-c", "import time; time.sleep(600)"])
        signal.raise_signal(number)

    assert signal.getsignal(number) is before

    assert process.returncode is not None
    assert not processes.home.exists()


HOLDER = """
import sys, time
from pathlib import Path
from fedsynth.engines.processes import Processes
with Processes(Path(sys.argv[1], "logs")) as processes:
    children = [
        processes.start("child", [sys.executable, "-c", "import time; time.sleep(600)"]),
        processes.start("hider", [sys.executable, "-c", sys.argv[2], str(Path(sys.argv[1], "hidden"))]),
    ]
    while not Path(sys.argv[1], "hidden").exists() or not Path(sys.argv[1], "hidden").read_text():
        time.sleep(0.05)
    Path(sys.argv[1], "facts.new").write_text(f"{processes.home} {children[0].pid}")
    Path(sys.argv[1], "facts.new").rename(Path(sys.argv[1], "facts"))
    time.sleep(600)
"""


def test_nothing_stays_when_the_run_itself_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path), HIDER])
    while not (tmp_path / "facts").exists():
        assert holder.poll() is None
        time.sleep(0.05)
    home, child = (tmp_path / "facts").read_text().split()
    hidden = (tmp_path / "hidden").read_text()
    assert Path(home).is_dir()
    assert Path("/proc", child).exists()
    assert Path("/proc", hidden).exists()

    holder.kill()
    holder.wait()

    ends = time.monotonic() + 10
    while Path(home).exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(home).exists()
    assert _ended(Path("/proc", child))
    assert _ended(Path("/proc", hidden))


def test_a_failed_command_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"speaker\.log"), Processes(tmp_path / "logs") as processes:
        processes.run("speaker", [sys.executable, "-c", "print('last words'); raise SystemExit(3)"])

    assert (tmp_path / "logs" / "speaker.log").read_text() == "last words\n"


def test_a_server_that_ends_before_it_listens_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not listen"), Processes(tmp_path / "logs") as processes:
        processes.start_server("server", [sys.executable, "-c", ""], port=free_ports(1)[0])


@pytest.mark.parametrize("goes", [False, True], ids=["and stays", "and goes"])
def test_a_port_that_somebody_has_is_waited_for_and_never_taken_for_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes: bool
) -> None:
    monkeypatch.setattr("fedsynth.engines.processes._PORT_SECONDS", 1.0)
    serve = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); s.accept(); s.accept()"
    with socket.create_server(("127.0.0.1", 0)) as other, Processes(tmp_path / "logs") as processes:
        port = int(other.getsockname()[1])
        command = [sys.executable, "-c", serve, str(port)]
        if goes:
            threading.Timer(0.5, other.close).start()
            assert processes.start_server("server", command, port=port).poll() is None
            return
        with pytest.raises(RunError, match=f"another program listens on port {port}"):
            processes.start_server("server", command, port=port)
        assert not (tmp_path / "logs" / "server.log").exists()


def test_the_run_ends_with_the_process_it_needs(tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        needed = processes.start("needed", [sys.executable, "-c", ""])
        process = processes.start("run", [sys.executable, "-c", "import time; time.sleep(600)"])
        with pytest.raises(RunError, match="SuperLink ended"):
            processes.wait(process, needs=needed, meanwhile=lambda: None)


def test_every_process_is_offline_and_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLWR_HOME", "/somewhere/else")
    monkeypatch.setenv("NO_PROXY", "example.org")

    with Processes(tmp_path / "logs") as processes:
        processes.run("out", [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"])

    found = json.loads((tmp_path / "logs" / "out.log").read_text())
    assert found["FLWR_HOME"] == str(processes.home)
    assert found["NO_PROXY"] == "example.org,127.0.0.1,localhost"
    assert found["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert found["FLWR_TELEMETRY_ENABLED"] == found["RAY_USAGE_STATS_ENABLED"] == "0"


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def test_the_app_is_the_repository_s_own(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app")

    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    copied = tomllib.loads(MANIFEST)["tool"]["flwr"]["app"]
    assert {**copied, "config": {}} == {**ours, "config": {}}
    assert set(ours["config"]) <= set(copied["config"])
    for name in ("server/app.py", "server/orders.py", "server/transport.py", "client/app.py"):
        assert (app / name).read_bytes() == (ROOT / name).read_bytes()


def test_settings_hold_any_path(tmp_path: Path) -> None:
    odd = Path("/a 'single' \"double\" \\ ünïcode")

    file = write_settings(tmp_path / "settings.toml", {"run": odd})

    assert tomllib.loads(file.read_text(encoding="utf-8")) == {"run": str(odd)}


def _ended(process: Path) -> bool:
    """Whether a process is gone, or only waits for its parent to notice."""
    return not process.exists() or (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
