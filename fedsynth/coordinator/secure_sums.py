"""SecureSums: the coordinator's side of secure aggregation, as exchanges of orders and updates.

Keys and shares for every step are exchanged once. Then each step takes three exchanges: masked vectors, signatures
over the list of those who sent one, and the shares that open their total. A site that misses one step may take
part in the next.
"""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from torch import Tensor

from fedsynth.coordinator.aggregation import Total
from fedsynth.errors import RefusedError, WireError
from fedsynth.plan import Plan, context_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.private_sum import LatticeSum, lattice_step
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.secure_aggregation.server import SecureServer
from fedsynth.wire.message import as_tensors, message_in
from fedsynth.wire.order import SETUP_STEP, Order
from fedsynth.wire.update import Update

_Answer = TypeVar("_Answer")
Exchange = Callable[[Mapping[str, bytes], str], dict[str, Update]]


class SecureSums:
    """Private sums over all sites of one run, of which the coordinator sees the totals only."""

    def __init__(self, plan: Plan, *, run: str, secure_cohort: SecureCohort, exchange: Exchange) -> None:
        """Begin with nothing exchanged.

        Args:
            plan: as approved by the sites.
            run: the name of this run.
            secure_cohort: the sites and their public keys; the sites hold their own copy and check.
            exchange: sends orders by site and returns updates by site; takes what to tell the user.
        """
        self._run, self._plan, self._exchange, self._secure_cohort = run, plan.digest, exchange, secure_cohort
        self._server = SecureServer(secure_cohort, context_of(run=run, plan=plan.digest), len(plan.steps))
        self._said: dict[str, str] = {}

    def to_bytes(self) -> bytes:
        """Write what the steps to come need; between two steps only."""
        return self._server.to_bytes()

    def go_on(self, data: bytes) -> None:
        """Continue from what `to_bytes` wrote.

        Raises:
            WireError: it is damaged.
            PrivacyError: it belongs to another cohort.
        """
        self._server = SecureServer.from_bytes(data, cohort=self._secure_cohort)

    def set_up(self, sites: list[str]) -> None:
        """Exchange keys and shares for all steps.

        Raises:
            RefusedError: too few sites answered.
        """
        self._gather({site: self._order(SETUP_STEP, "keys") for site in sites}, "keys of secure aggregation")
        requests = self._asked(self._server.ask_shares)
        orders = {site: self._order(SETUP_STEP, "shares", as_tensors(data)) for site, data in requests.items()}
        self._gather(orders, "shares of secure aggregation")

    def sum(self, number: int, mechanism: Mechanism, tensors: Mapping[str, Tensor], *, size: int) -> Total:
        """Return the total of one step over the sites that lasted through it.

        Args:
            number: of the step in the plan.
            mechanism: of that step.
            tensors: what every site starts from.
            size: coordinates of the sum.

        Raises:
            RefusedError: too few sites lasted; what they were charged stays charged.
        """
        server, what = self._server, mechanism.purpose
        requests = self._asked(lambda: server.ask_sum(number, size))
        self._gather({s: self._order(number, "", {**tensors, **as_tensors(d)}) for s, d in requests.items()}, what)
        requests = self._asked(lambda: server.ask_agree(number))
        self._gather({s: self._order(number, "agree", as_tensors(d)) for s, d in requests.items()}, "")
        requests = self._asked(lambda: server.ask_unmask(number))
        self._gather({s: self._order(number, "unmask", as_tensors(d)) for s, d in requests.items()}, "")
        total = self._asked(lambda: server.total(number))
        step = lattice_step(
            mechanism.clipping_norm, mechanism.noise_multiplier, noise_shares=mechanism.noise_shares
        )
        one = mechanism.noise_multiplier * mechanism.clipping_norm
        return Total(
            values=LatticeSum(total.values.view(np.int64), step).natural(),
            noise_std=one * math.sqrt(len(total.survivors) / mechanism.noise_shares),
            sites=total.survivors,
        )

    def _order(self, step: int, stage: str, tensors: Mapping[str, Tensor] | None = None) -> bytes:
        return Order(self._run, self._plan, step, tensors or {}, stage).to_bytes()

    def _gather(self, orders: Mapping[str, bytes], what: str) -> None:
        """Exchange, and hand what validates to the protocol; who fails counts as dropped out of the step."""
        updates = self._exchange(orders, what)
        self._said = {site: "no answer" for site in orders if site not in updates}
        for site, update in updates.items():
            if update.refused:
                self._said[site] = update.refused
                continue
            try:
                self._server.receive(site, message_in(update.tensors))
            except WireError as error:
                self._said[site] = str(error)

    def _asked(self, ask: Callable[[], _Answer]) -> _Answer:
        try:
            return ask()
        except RefusedError as error:
            said = ", ".join(f"{site}: {reason}" for site, reason in sorted(self._said.items())) or "none refused"
            raise RefusedError(f"{error} ({said}). What the sites were charged stays charged") from error
