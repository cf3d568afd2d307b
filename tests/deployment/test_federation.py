"""Hospitals with a network address and three users each run a study by the commands alone, from keys to a release.

In each run the coordinator's program is killed, and no site is charged twice: under trust `site` in every exchange,
under trust `aggregate` in one of each kind, or in every one by `-m long`. In one process every exchange is killed
under both (tests/coordinator/test_checkpoint.py).
"""

import os
import time
from collections.abc import Iterator

import pytest
from federation import Federation
from founding import founded
from trial import InExchanges, Trial, row

pytestmark = [
    pytest.mark.federation,
    pytest.mark.xdist_group("second"),
    pytest.mark.skipif(os.name != "posix", reason="namespaces are Linux's"),
]
SITES = ("east", "north", "west")
KEYS, MASKED, SIGNATURES, SHARES, WORDS = 2, 5, 10, 15, 26
"""Records of the checkpoint that exchanges of secure aggregation leave, each of another kind and step."""


@pytest.fixture
def federation() -> Iterator[Federation]:
    with founded(SITES) as one:
        yield one


@pytest.mark.parametrize(
    ("trust", "among"),
    [
        pytest.param("site", None, id="site"),
        pytest.param("aggregate", frozenset({KEYS, MASKED, SIGNATURES, SHARES, WORDS}), id="aggregate"),
        pytest.param("aggregate", None, marks=pytest.mark.long, id="aggregate-every-exchange"),
    ],
)
def test_from_keys_to_a_countersigned_release_with_a_coordinator_that_is_killed(
    federation: Federation, trust: str, among: frozenset[int] | None
) -> None:
    one = federation
    trial = Trial(one, f"trial-{trust}-{len(among or ())}", SITES, trust=trust)
    trial.ready()
    trial.begin()
    trial.approve()

    killer, began = InExchanges(trial, among=among), time.monotonic()
    while trial.process.poll() is None:
        killer.look()
        time.sleep(0.005)
        assert time.monotonic() < began + 1800, one.log(trial.name)
    trial.ends()

    # Sums are one exchange each, and three in secure aggregation, after two for its keys; then statements.
    exchanges = trial.steps + 1 if trust == "site" else 3 * trial.steps + 3
    charges = trial.charges()
    counts = {name: len(lines) for name, lines in charges.items()}
    row(
        f"coordinator killed in {'one exchange of each kind' if among else 'every exchange'}, trust {trust}",
        f"finished after {killer.kills} kills in {exchanges} exchanges",
        charges=counts,
        seconds=round(time.monotonic() - began, 1),
    )
    # The last answers may be written before anybody sees them come.
    assert killer.kills >= (len(among) if among else exchanges) - 1
    assert counts == dict.fromkeys(SITES, trial.steps)
    assert all(len(set(lines)) == len(lines) for lines in charges.values())
    assert trial.status()["state"] == "finished"
    assert trial.stated() == set(SITES)
    _release(trial)


def _release(trial: Trial) -> None:
    one, release = trial.federation, trial.federation.root / f"{trial.name}-release"
    one.say("coordinator", "release", trial.folder, "--out", release)
    publisher = one.root / f"{trial.name}.pub"
    publisher.write_bytes((trial.folder / "keys" / "release.key.pub").read_bytes())
    signatures = release.with_name(f"{release.name}.countersignatures")
    signatures.mkdir()
    signatures.chmod(0o1777)
    for path in (release, *release.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

    def countersign(name: str) -> None:
        out = signatures / f"{name}.countersignature.json"
        words = ["site", "countersign", one.site(name), release, "--publisher", publisher, "--out", out]
        one.say(name, *words)

    one.each(trial.sites[:2], countersign)
    told = one.say("coordinator", "verify", release, "--sites", one.coordinator, "--threshold", "2")
    assert "Countersigned by 2 of 3 sites" in told
    missing = one.say("coordinator", "verify", release, "--sites", one.coordinator, code=4)
    assert trial.sites[2] in missing
