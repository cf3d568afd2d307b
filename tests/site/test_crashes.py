"""A site's process is killed between any two writes of an answer: the step is answered all the same, paid once."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fedsynth.anchors.estimator import estimator_of
from fedsynth.ledger import disk
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, context_of, plan_of, secure_cohort_of
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.recordings.recording import Recording
from fedsynth.secure_aggregation.messages import SiteState
from fedsynth.secure_aggregation.server import SecureServer
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.identity import make_identity
from fedsynth.site.session import SiteSession
from fedsynth.study import parse_study
from fedsynth.wire.message import as_tensors, message_in
from fedsynth.wire.order import SETUP_STEP, Order
from fedsynth.wire.update import REFUSED, Update

SITES = ("east", "north", "west")
AGGREGATE = (
    ("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"'),
    ("least_sites = 2", f"least_sites = 3\ndropouts = 0\ndishonest = 0\nsites = {json.dumps(SITES)}"),
)


@dataclass
class Asked:
    """One site, its order of step 0, and what the coordinator of a secure sum holds."""

    site: Path
    order: bytes
    plan: Plan
    roster: dict[str, bytes]
    server: SecureServer | None = None

    @property
    def masked(self) -> bytes:
        """The vector that this site has masked, as its state keeps it."""
        cohort = secure_cohort_of(self.plan.study, self.roster)
        assert cohort is not None
        (state,) = (self.site / "secure").glob("*.state")
        return SiteState.from_bytes(state.read_bytes(), cohort=cohort).masked


Make = Callable[[str], Asked]


@pytest.fixture
def asked(
    tmp_path: Path,
    tiny_text: str,
    make_site: Callable[..., Holdings],
    make_people: Callable[..., list[Recording]],
) -> Make:
    def make(trust: str) -> Asked:
        text = tiny_text
        for old, new in AGGREGATE if trust == "aggregate" else ():
            text = text.replace(old, new)
        plan = plan_of(parse_study(text))
        for seed, name in enumerate(SITES):
            make_site(tmp_path / name, make_people(10, seed=seed), study=plan.study)
        roster = {name: make_identity(tmp_path / name) for name in SITES} if plan.is_aggregate else {}
        for name in SITES:
            approve(tmp_path / name, run="run", plan=plan, roster=roster)
        tensors = plan.estimator.prior(plan.shape).tensors()
        if trust == "site":
            return Asked(tmp_path / "east", Order("run", plan.digest, 0, tensors).to_bytes(), plan, roster)
        server = set_up(tmp_path, plan, roster)
        request = server.ask_sum(0, estimator_of(plan.study).statistic_size(plan.shape, step=0))["east"]
        order = Order("run", plan.digest, 0, {**tensors, **as_tensors(request)})
        return Asked(tmp_path / "east", order.to_bytes(), plan, roster, server)

    return make


def set_up(folder: Path, plan: Plan, roster: dict[str, bytes]) -> SecureServer:
    cohort = secure_cohort_of(plan.study, roster)
    assert cohort is not None
    server = SecureServer(cohort, context_of(run="run", plan=plan.digest), len(plan.steps))
    requests = dict.fromkeys(SITES, b"")
    for stage in ("keys", "shares"):
        for name, data in requests.items():
            order = Order("run", plan.digest, SETUP_STEP, as_tensors(data) if data else {}, stage)
            answer = SiteSession(folder / name).handle(order.to_bytes())
            server.receive(name, message_in(Update.from_bytes(answer).tensors))
        if stage == "keys":
            requests = server.ask_shares()
    return server


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """Do work in a child that is killed before its write or commit of this number; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]

        def one_more() -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        transaction, replace, sync = Ledger._transaction, Path.replace, disk.sync_folder

        @contextmanager
        def counted(ledger: Ledger) -> Iterator[None]:
            one_more()
            with transaction(ledger):
                yield
                one_more()
            one_more()

        Ledger._transaction = counted  # type: ignore[method-assign]
        Path.replace = lambda *paths: (one_more(), replace(*paths))[1]  # type: ignore[method-assign,misc,assignment]
        disk.sync_folder = lambda folder: (sync(folder), one_more())[0]
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def lines(site: Path) -> int:
    with Ledger(site / "ledger") as ledger:
        return len(ledger)


@pytest.mark.slow
@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_a_kill_at_any_write_costs_neither_the_site_nor_a_second_charge(asked: Make, trust: str) -> None:
    one = asked(trust)
    handle = SiteSession(one.site).handle
    files = {path: path.read_bytes() for path in sorted(one.site.rglob("*")) if path.is_file()}
    number, masked = 0, set[bool]()
    while True:
        number += 1
        for path in one.site.rglob("*"):
            if path.is_file() and path not in files:
                path.unlink()
        for path, data in files.items():
            path.write_bytes(data)
        if not killed_at(number, lambda: handle(one.order)):
            break
        before = one.masked if trust == "aggregate" else b""

        first, again = handle(one.order), handle(one.order)

        assert Update.from_bytes(first).refused == "", number
        assert first == again
        assert lines(one.site) == 1
        if trust == "aggregate":
            sent = message_in(Update.from_bytes(first).tensors)
            assert sent == one.masked
            assert before in (b"", sent), "two vectors left under one mask"
            masked.add(bool(before))
    assert number > (14 if trust == "aggregate" else 10)
    assert masked == ({True, False} if trust == "aggregate" else set())


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_an_answer_that_was_not_kept_does_not_leave(
    asked: Make, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = asked(trust)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Ledger, "_reply_seal", full)
    lost = Update.from_bytes(SiteSession(one.site).handle(one.order))
    monkeypatch.undo()

    assert (lost.refused, dict(lost.tensors)) == (REFUSED, {})
    assert Update.from_bytes(SiteSession(one.site).handle(one.order)).refused == ""
    assert lines(one.site) == 1


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_two_computations_at_once_have_one_answer(asked: Make, trust: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = asked(trust)
    meeting = threading.Barrier(2)
    read = "read_lattice" if trust == "aggregate" else "read"
    close = getattr(PrivateSum, read)
    noisy: list[object] = []

    def together(total: PrivateSum) -> object:
        meeting.wait(timeout=30)  # both have charged, opened and added up
        noisy.append(close(total))
        return noisy[-1]

    monkeypatch.setattr(PrivateSum, read, together)
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(SiteSession(one.site).handle(one.order))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(noisy) == 2
    assert answers[0] == answers[1]
    assert Update.from_bytes(answers[0]).refused == ""
    assert lines(one.site) == 1


def test_a_computation_that_failed_is_done_again_with_fresh_noise(
    asked: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody was told is not kept either: the second computation draws noise, and people, anew."""
    one, seen = asked("site"), list[torch.Tensor]()
    monkeypatch.setattr(Ledger, "keep_reply", lambda *_: (_ for _ in ()).throw(MemoryError()))
    SiteSession(one.site, observe=seen.append).handle(one.order)
    monkeypatch.undo()
    answer = SiteSession(one.site, observe=seen.append).handle(one.order)

    assert not torch.isclose(seen[0], seen[1]).any()
    assert torch.equal(Update.from_bytes(answer).tensors["sum"], seen[1])
