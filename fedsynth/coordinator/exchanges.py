"""Exchanges of a run: orders to sites, their answers, and who was asked, has answered and is left.

What was heard is kept before anything follows from it, so that a run that goes on after a crash asks nobody twice.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from fedsynth.coordinator.checkpoint import Checkpoint, Heard
from fedsynth.coordinator.last_words import LastWords
from fedsynth.coordinator.run_state import RunState
from fedsynth.coordinator.transport import Transport
from fedsynth.errors import RefusedError, WireError
from fedsynth.plan import Plan, Step
from fedsynth.progress import Progress
from fedsynth.wire.arrays import check_like
from fedsynth.wire.order import STATEMENT_STEP, Order, PackedOrder
from fedsynth.wire.update import Update


class Exchanges:
    """The sites of one run: `alive` are those that are still asked, `done` numbers the steps that each answered."""

    def __init__(
        self,
        plan: Plan,
        *,
        run: str,
        transport: Transport,
        roster: Mapping[str, bytes],
        progress: Progress,
        checkpoint: Checkpoint | None,
    ) -> None:
        """Begin with everybody whom the transport reaches, and nobody asked.

        Args:
            plan: as approved by the sites.
            run: the name of this run, part of every order.
            transport: reaches the sites.
            roster: the sites' public keys, 32 bytes each.
            progress: called with (what, done, all).
            checkpoint: where every exchange is kept.

        Raises:
            PrivacyError: no key is pinned for a site.
        """
        self._run, self._plan, self._least = run, plan.digest, plan.study.cohort.least_sites
        self._transport, self._checkpoint, self._tell = transport, checkpoint, progress
        self._went_on = False  # and has asked nothing yet: before the crash anybody may have been sent this order
        self.alive = list(transport.sites())
        self.done: dict[str, list[int]] = {}
        self._asked: dict[str, set[int]] = {}  # numbers of the steps that were ordered
        self.words = LastWords(run=run, plan=plan.digest, roster=roster)
        self.words.check(self.alive)

    @property
    def asked(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the steps that each site was ordered, whether or not it answered."""
        return {site: tuple(sorted(steps)) for site, steps in self._asked.items()}

    def go_on(self, state: RunState) -> None:
        """Take over what was kept of this run."""
        self._went_on = True
        self.alive = list(state.alive)
        self.done = {site: list(steps) for site, steps in state.done.items()}
        self._asked = {site: set(steps) for site, steps in state.asked.items()}
        self.words.go_on(state.words)

    def answered(self, site: str, number: int) -> None:
        """Note that a site gave what a step asked for."""
        self.done.setdefault(site, []).append(number)

    def ask(
        self,
        number: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        step: Step,
        wanted: Mapping[str, Tensor],
    ) -> dict[str, Mapping[str, Tensor]]:
        """Send the sites that `tensors` names their orders, and return the answers that look like `wanted`.

        Raises:
            RefusedError: too few sites are left.
        """
        order = partial(Order, self._run, self._plan, number)
        orders = {site: order(sent).to_bytes() for site, sent in tensors.items()}
        updates = self.exchange(orders, step.mechanism.purpose)
        refusals = {site: "no answer" for site in orders if site not in updates}
        answers: dict[str, Mapping[str, Tensor]] = {}
        for site, update in updates.items():
            try:
                if not update.refused:
                    check_like(update.tensors, wanted, sender=site)
                    answers[site] = update.tensors
                    continue
                refusals[site] = update.refused
            except WireError as error:
                refusals[site] = str(error)
        for site in answers:
            self.answered(site, number)
        self.keep_alive(tuple(orders), answers, refusals)
        return {site: answers[site] for site in self.alive if site in answers}

    def ask_last_words(self) -> dict[str, Update]:
        """Ask everybody who can be reached, also those who were left out, for their word on their ledger."""
        order = Order(self._run, self._plan, STATEMENT_STEP, {}).to_bytes()
        return self.exchange(dict.fromkeys(sorted(self._transport.sites()), order), "statements")

    def unheard(self, updates: Mapping[str, Update]) -> tuple[tuple[str, int], ...]:
        """Return whoever cannot be asked any more and may have been charged for what it never answered.

        With every site goes the number of such orders.

        Args:
            updates: what the sites answered last.
        """
        away = [site for site in sorted(self._asked) if site not in updates or updates[site].refused]
        return tuple(
            (site, open_orders)
            for site in away
            if (open_orders := len(self._asked[site]) - self.words.charged(site)) > 0
        )

    def keep_alive(self, asked: Sequence[str], answers: Mapping[str, object], refusals: Mapping[str, str]) -> None:
        """Leave out whoever was asked and gave no answer that counts.

        Raises:
            RefusedError: too few sites are left.
        """
        self.alive = [site for site in self.alive if site in answers or site not in asked]
        self.check_enough(len(self.alive), refusals)

    def exchange(self, orders: Mapping[str, bytes], what: str) -> dict[str, Update]:
        """Ask the sites, or hear what they answered before a crash; keep it before anything follows from it.

        Args:
            orders: bytes by site; whoever is away is not asked.
            what: to tell the user; empty for nothing.
        """
        updates: dict[str, Update] = {}
        if what:
            self._tell(f"{what}, sites", 0, len(orders))
        before = self._checkpoint.next_heard() if self._checkpoint else None
        there = set(self._transport.sites())  # whoever is away now may have been there before a crash
        asked = {site: order for site, order in orders.items() if site in there}
        for site in orders if before or self._went_on else asked:
            order = PackedOrder.from_bytes(orders[site])
            if order.step >= 0 and not order.stage:
                self._asked.setdefault(site, set()).add(order.step)
        heard: dict[str, bytes] = {}
        for site, data in before.answers.items() if before else self._transport.exchange(asked):
            heard[site] = data
            updates[site] = self.words.heard(site, data)
            if what:
                self._tell(f"{what}, sites", len(updates), len(orders))
        if before:
            torch.set_rng_state(torch.frombuffer(bytearray(before.random), dtype=torch.uint8))
        elif self._checkpoint:
            self._went_on = False
            self._checkpoint.keep(Heard(heard, torch.get_rng_state().numpy().tobytes()))
        return updates

    def check_enough(self, left: int, refusals: Mapping[str, str]) -> None:
        """Refuse to go on with fewer sites than the study needs.

        Raises:
            RefusedError: too few sites are left.
        """
        if left < self._least:
            said = ", ".join(f"{site}: {reason}" for site, reason in sorted(refusals.items())) or "none refused"
            raise RefusedError(
                f"{left} sites are left and the study needs {self._least} ({said}). "
                "What they were charged stays charged; nothing was released"
            )
