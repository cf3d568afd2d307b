"""The coordinator's side written down between two steps, and a site's masked vector kept for a retry."""

from collections.abc import Callable

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.errors import PrivacyError, RefusedError, WireError
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.secure_aggregation.server import SecureServer

SIZE, STEPS = 3, 3
NAMES = "ABCD"


class Play:
    """Four sites, one of which may be silent in a step, and a coordinator that is read anew between steps."""

    def __init__(self) -> None:
        self.keys = {name: Ed25519PrivateKey.generate() for name in NAMES}
        roster = {name: key.public_key().public_bytes_raw() for name, key in self.keys.items()}
        self.cohort = SecureCohort(roster, dropouts=1, dishonest=0)
        self.sites = {n: SecureSite.begin(self.cohort, n, key, "run", STEPS) for n, key in self.keys.items()}
        self.server = SecureServer(self.cohort, "run", STEPS)

    def set_up(self) -> None:
        for name, site in self.sites.items():
            self.server.receive(name, site.keys())
        for name, data in self.server.ask_shares().items():
            self.server.receive(name, self.sites[name].shares(data))

    def anew(self) -> None:
        self.server = SecureServer.from_bytes(self.server.to_bytes(), cohort=self.cohort)

    def step(self, step: int, *, silent: str = "") -> tuple[tuple[str, ...], list[int]]:
        for name, data in self.server.ask_sum(step, SIZE).items():
            if name not in silent:
                vector = np.full(SIZE, 10**step, np.uint64)
                self.server.receive(name, self.sites[name].mask(step, vector, data))
        for name, data in self.server.ask_agree(step).items():
            self.server.receive(name, self.sites[name].agree(step, data))
        for name, data in self.server.ask_unmask(step).items():
            self.server.receive(name, self.sites[name].unmask(step, data))
        total = self.server.total(step)
        return total.survivors, total.values.tolist()


@pytest.mark.parametrize("silent", ["", "D"])
def test_a_server_goes_on_from_what_it_wrote_between_any_two_steps(silent: str) -> None:
    """A site that missed the first step is still sent its shares with the second."""
    play = Play()
    play.set_up()
    sizes = []
    for step in range(STEPS):
        play.anew()
        sizes.append(len(play.server.to_bytes()))
        gone = silent if step == 0 else ""
        present = tuple(name for name in NAMES if name not in gone)

        assert play.step(step, silent=gone) == (present, [len(present) * 10**step] * SIZE)

    # Shares that were delivered are not written any more.
    assert sizes[0] > sizes[1] >= sizes[2]


def test_a_server_cannot_be_left_in_the_middle_of_a_step() -> None:
    play = Play()
    with pytest.raises(RefusedError, match="'keys' is awaited"):
        play.server.to_bytes()
    play.set_up()
    play.server.ask_sum(0, SIZE)
    with pytest.raises(RefusedError, match="'masked' is awaited of step 0"):
        play.server.to_bytes()


def test_what_a_server_wrote_belongs_to_its_cohort() -> None:
    play, other = Play(), Play()
    play.set_up()

    with pytest.raises(PrivacyError, match="another cohort"):
        SecureServer.from_bytes(play.server.to_bytes(), cohort=other.cohort)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-3], id="cut short"),
        pytest.param(lambda data: data + b"more", id="longer"),
        pytest.param(lambda data: data.replace(b'"stage":"shares"', b'"stage":"masked"'), id="in mid-step"),
        pytest.param(lambda data: data.replace(b'"members":["A",', b'"members":['), id="a dealer less"),
        pytest.param(lambda data: data.replace(b'"step":-1', b'"step":3'), id="a step too far"),
    ],
)
def test_a_damaged_file_of_a_server_is_refused(damage: Callable[[bytes], bytes]) -> None:
    play = Play()
    play.set_up()
    data = play.server.to_bytes()
    assert damage(data) != data

    with pytest.raises(WireError):
        SecureServer.from_bytes(damage(data), cohort=play.cohort)


def test_a_site_remembers_the_vector_that_it_masked_until_the_step_is_unmasked() -> None:
    play = Play()
    play.set_up()
    site, request = play.sites["A"], play.server.ask_sum(0, SIZE)["A"]
    assert site.masked(0, SIZE) is None
    reply = site.mask(0, np.zeros(SIZE, np.uint64), request)
    again = SecureSite.from_bytes(site.to_bytes(), cohort=play.cohort, identity=play.keys["A"])

    assert again.masked(0, SIZE) == reply
    assert again.masked(0, SIZE + 1) is None
    assert again.masked(1, SIZE) is None
    assert again.mask(0, np.zeros(SIZE, np.uint64), request) == reply
    with pytest.raises(PrivacyError, match="a second vector at step 0"):
        again.mask(0, np.ones(SIZE, np.uint64), request)


def test_a_vector_is_forgotten_with_the_secrets_of_its_step() -> None:
    play = Play()
    play.set_up()
    play.step(0)

    assert {site.masked(0, SIZE) for site in play.sites.values()} == {None}
