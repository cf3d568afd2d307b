"""The simulation engine: Flower on Ray, the repository's own apps."""

from collections.abc import Callable

import pytest

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.protocol import Patience
from fedsynth.engines.simulation import carry_out
from fedsynth.errors import RefusedError
from fedsynth.privacy.statement import PrivacyStatement

MakeRun = Callable[..., RunFolder]
pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("nothing_stays")]


def test_the_statement_is_the_one_of_a_run_in_process(
    make_run: MakeRun,
    in_process_statement: Callable[[], PrivacyStatement],
    without_heads: Callable[[PrivacyStatement], PrivacyStatement],
) -> None:
    run, told = make_run("simulation"), []

    carry_out(run.path, lambda *news: told.append(news), Patience())

    assert without_heads(run.statement()) == without_heads(in_process_statement())
    assert ("sites connected", 3, 3) in told
    assert ("statements, sites", 3, 3) in told


def test_nothing_listens_beyond_loopback(make_run: MakeRun, listening: Callable[[], set[str]]) -> None:
    before, seen = listening(), set[str]()

    carry_out(make_run("simulation").path, lambda *_: seen.update(listening() - before), Patience())

    addresses = {address.rpartition(":")[0] for address in seen}
    assert len(seen) >= 5
    assert addresses <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}


def test_secure_aggregation_runs_on_flower(make_run: MakeRun, study_of_secure_sums: str) -> None:
    run = make_run("simulation", study_of_secure_sums)

    carry_out(run.path, lambda *_: None, Patience())

    statement = run.statement()
    assert statement.trust == "aggregate"
    assert {event.noise_shares for site in statement.sites for event in site.events} == {3}
    assert statement.epsilon <= 8


def test_sites_that_refuse_end_the_run_with_the_coordinator_s_words(make_run: MakeRun) -> None:
    run = make_run("simulation")
    for site in ("east", "west"):
        (run.site(site) / "STOP").touch()

    with pytest.raises(
        RefusedError, match=r"1 sites are left and the study needs 2 \(east: refused, west: refused\)"
    ):
        carry_out(run.path, lambda *_: None, Patience())


def test_an_interrupted_run_leaves_no_process(make_run: MakeRun) -> None:
    def interrupt(what: str, done: int, _total: int) -> None:
        if (what, done) == ("sites connected", 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(make_run("simulation").path, interrupt, Patience())
