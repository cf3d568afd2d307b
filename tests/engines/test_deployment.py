"""The deployment engine: a SuperLink with TLS and node keys, one SuperNode per site, all on loopback."""

from collections.abc import Callable

import pytest

from fedsynth.coordinator.run_folder import RunFolder
from fedsynth.engines.deployment import carry_out
from fedsynth.engines.protocol import Patience
from fedsynth.privacy.statement import PrivacyStatement

MakeRun = Callable[[str], RunFolder]
pytestmark = [pytest.mark.engines, pytest.mark.usefixtures("nothing_stays")]


def test_the_statement_is_the_one_of_a_run_in_process(
    make_run: MakeRun,
    in_process_statement: Callable[[], PrivacyStatement],
    without_heads: Callable[[PrivacyStatement], PrivacyStatement],
) -> None:
    run, told = make_run("deployment"), []

    carry_out(run.path, lambda *news: told.append(news), Patience())

    assert without_heads(run.statement()) == without_heads(in_process_statement())
    assert ("sites connected", 3, 3) in told
    assert ("statements, sites", 3, 3) in told
