"""Sites in memory, for comparisons: what sites compute for a plan, without ledger, approval and files.

Nobody is charged and no statement is made, so nothing that comes from here can be released. Recordings that
somebody has to account for go through `fedsynth.rehearsal.rehearse`.
"""

from collections.abc import Iterator, Mapping

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedsynth.coordinator.rounds import train_generator
from fedsynth.plan import Plan
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.progress import Progress
from fedsynth.recordings.recording import Windows
from fedsynth.site.steps import prepare
from fedsynth.synthesis.generator import Generator
from fedsynth.wire.last_word import LastWord
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

_RUN = "comparison"


def train_in_memory(plan: Plan, windows: Mapping[str, Windows], *, progress: Progress | None = None) -> Generator:
    """Carry out a plan up to the generator, with every order and update written and read as on the wire.

    Args:
        plan: with sites that add all of their noise.
        windows: of every site, by its name.
        progress: called with (what, done, all).

    Raises:
        RefusedError: too few sites.
    """
    sites = Sites(plan, windows)
    return train_generator(plan, run=_RUN, transport=sites, roster=sites.roster, progress=progress)


class Sites:
    """A transport (`fedsynth.coordinator.transport`) to sites in this process; each signs with a key of its own."""

    def __init__(self, plan: Plan, windows: Mapping[str, Windows]) -> None:
        """Hold every site's windows."""
        self._plan, self._windows, self._answered = plan, windows, 0
        self._keys = {site: Ed25519PrivateKey.generate() for site in windows}
        self.roster = {site: key.public_key().public_bytes_raw() for site, key in self._keys.items()}

    def sites(self) -> tuple[str, ...]:
        """Return their names."""
        return tuple(self._windows)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Answer each order."""
        for site, data in orders.items():
            order = Order.from_bytes(data)
            step = self._plan.steps[order.step]
            work = prepare(order, self._plan, step, device=torch.device("cpu"))
            answer = work.run(self._windows[site], Allowance(step.mechanism))
            tensors = {"sum": answer.read()} if isinstance(answer, PrivateSum) else answer
            self._answered += 1
            word = LastWord(_RUN, self._plan.digest, site, "0" * 64, self._answered, 0)
            signature = word.sign(self._keys[site].private_bytes_raw())
            yield site, Update(tensors, word=word, signature=signature).to_bytes()
