"""A run's folder at the coordinator: made in one piece, known again, and never taken for another's."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from federation import STUDY

from fedsynth.coordinator.asking import REQUEST
from fedsynth.deployment import run as deployment
from fedsynth.deployment.metrics import metrics_of, served
from fedsynth.deployment.run import StudyRun, prepare, run_study
from fedsynth.deployment.service import Running
from fedsynth.deployment.status import status_of
from fedsynth.engines.processes import free_ports
from fedsynth.errors import RefusedError, RunError
from fedsynth.federation.proposal import StudyRequest


@pytest.fixture
def what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRun:
    """A study run whose request is not signed by anybody: membership has tests of its own."""

    def ask_sites(_folder: Path, *, study: object, run: str, note: str) -> tuple[StudyRequest, bytes]:
        identities = {name: bytes([number]) * 32 for number, name in enumerate(("east", "north", "west"))}
        request = StudyRequest("trial", run, "{}", identities, "2026-01-01T00:00:00Z", note)
        return request, str(study).encode()[:40]

    monkeypatch.setattr(deployment, "ask_sites", ask_sites)
    text = STUDY.format(trust="site", dishonest="")
    return StudyRun(
        study_text=text, source="study.toml", federation=tmp_path / "c", out=tmp_path / "runs" / "first"
    )


def test_a_run_is_named_by_its_folder_and_pins_the_sites_keys(what: StudyRun) -> None:
    run = prepare(what)

    assert (run.path / REQUEST).exists()
    assert run.facts().run == "first"
    assert run.facts().engine == "federation"
    assert run.facts().roster == {"east": "00" * 32, "north": "01" * 32, "west": "02" * 32}
    assert status_of(run).state == "interrupted"


def test_the_same_command_finds_its_run_again(what: StudyRun) -> None:
    first = (prepare(what).path / "run.json").read_bytes()

    assert (prepare(what).path / "run.json").read_bytes() == first


def test_another_study_in_the_same_folder_is_refused(what: StudyRun) -> None:
    prepare(what)
    other = StudyRun(**{**what.__dict__, "study_text": what.study_text.replace("epsilon = 8.0", "epsilon = 4.0")})

    with pytest.raises(RefusedError, match="holds another run"):
        prepare(other)


def test_a_folder_that_was_being_made_when_the_machine_stopped_is_made_anew(
    what: StudyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deployment, "settle", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(what)

    assert prepare(what).facts().run == "first"


def test_without_a_service_nothing_is_asked(what: StudyRun) -> None:
    with pytest.raises(RunError, match="fedsynth federation start"):
        run_study(what, progress=lambda *_: None)


def test_a_full_disk_is_named_where_the_program_could_leave_no_word(
    what: StudyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployment.Running, "load", lambda _: Running(what.out, {}))
    monkeypatch.setattr(deployment, "_submit", lambda *_, **__: False)
    monkeypatch.setattr(deployment.shutil, "disk_usage", lambda _: SimpleNamespace(free=0))

    with pytest.raises(RunError, match="is full"):
        run_study(what, progress=lambda *_: None)


def test_a_service_that_starts_again_is_waited_for(what: StudyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    there, submitted = iter([True, False, False, True]), list[int]()

    def load(_folder: Path) -> Running:
        if not next(there):
            raise RunError("no service of this federation runs")
        return Running(what.out, {})

    def submit(*_: object, **__: object) -> bool:
        submitted.append(1)
        if len(submitted) == 2:
            raise RefusedError("far enough")
        return False

    monkeypatch.setattr(deployment.Running, "load", load)
    monkeypatch.setattr(deployment, "_submit", submit)
    monkeypatch.setattr(deployment, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(deployment, "_PATIENCE", (0.0, 0.01))

    with pytest.raises(RefusedError, match="far enough"):
        run_study(what, progress=lambda *_: None)
    assert next(there, None) is None


def test_epsilon_by_site_and_step_is_told_while_a_run_goes_on(what: StudyRun) -> None:
    run = prepare(what)
    lines = [
        {"at": 100.0, "step": 1, "alive": ["east", "north", "west"], "answered": {"east": [0], "north": [0]}},
        {"at": 160.0, "step": 2, "alive": ["east"], "answered": {"east": [0, 1], "north": [0]}},
    ]
    (run.path / "contributions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut": ')

    found = status_of(run)

    assert (found.step, found.steps) == (2, len(run.plan().steps))
    assert [found.sites[name].answered for name in ("east", "north", "west")] == [2, 1, 0]
    assert found.sites["west"].epsilon == 0
    assert 0 < found.sites["north"].epsilon < found.sites["east"].epsilon < found.epsilon_of_plan
    assert [site.asked for site in found.sites.values()] == [True, False, False]
    assert found.rounds[1][1] == found.sites["east"].epsilon


def test_metrics_are_served_on_loopback_and_hold_the_status(what: StudyRun) -> None:
    run = prepare(what)
    (port,) = free_ports(1)

    with served(port, lambda: status_of(run)):
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.request("GET", "/")
        other = connection.getresponse()
        other.read()

    assert (answer.status, other.status) == (200, 404)
    assert body == metrics_of(status_of(run))
    assert 'fedsynth_run_state{run="first",state="interrupted"} 1' in body


def test_a_port_that_is_taken_is_one_sentence(what: StudyRun) -> None:
    run = prepare(what)
    (port,) = free_ports(1)

    with (
        served(port, lambda: status_of(run)),
        pytest.raises(RunError, match="nobody can listen"),
        served(port, lambda: status_of(run)),
    ):
        raise AssertionError
