"""A site's side of secure aggregation, from the messages in orders to those that answer them.

The protocol is `fedsynth.secure_aggregation.protocol`; here its state is kept in the site's folder between two
orders, on the disk before an answer leaves, and by one process at a time. A site that forgets what it said could be
asked again, and so could one that answers twice at once.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedsynth.errors import ConsentError
from fedsynth.ledger import disk as disk
from fedsynth.plan import context_of, secure_cohort_of
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import SecureCohort
from fedsynth.site.approval import Approval, run_file
from fedsynth.site.identity import load_identity
from fedsynth.wire.order import PackedOrder

Mask = Callable[[NDArray[np.int64]], bytes]
"""Takes a sum in steps of its lattice, returns the message that hides it."""


class SecureSumParticipant:
    """Secure aggregation at one site for the run that an order belongs to."""

    def __init__(self, folder: Path, *, order: PackedOrder, approval: Approval, me: str) -> None:
        """Take what was approved; nothing is read yet."""
        self._folder, self._me, self._approval = folder, me, approval
        self._context = context_of(run=order.run, plan=order.plan)
        self._states = folder / "secure"
        self._path = self._states / f"{run_file(self._context)}.state"

    def set_up(self, order: PackedOrder) -> bytes:
        """Answer one of the two messages that open a run: this site's keys, or its shares.

        Raises:
            ConsentError: the plan approved has no secure aggregation.
            PrivacyError: keys that the pinned roster does not vouch for, or the run is past this.
        """
        if order.stage not in ("keys", "shares"):
            raise ConsentError(f"no stage {order.stage!r} opens a run")
        with self._alone():
            if order.stage == "keys":
                site = self._load() if self._path.exists() else self._begin()
                reply = site.keys()
            else:
                site = self._load()
                reply = site.shares(order.message())
            self._save(site)
        return reply

    def mask(self, order: PackedOrder, *, size: int) -> Mask:
        """Check the request for a masked vector; return what turns a sum into one.

        Raises:
            ConsentError: keys and shares were not exchanged.
            WireError: a request that is not for this step and `size` words.
            PrivacyError: the step is over.
        """
        step, data = order.step, order.message()
        trial = self._load()
        if trial.masked(step, size) is None:
            # On a copy of the state, which is thrown away: refuse before anything is charged.
            trial.mask(step, np.zeros(size, dtype=np.uint64), data)

        def masked(values: NDArray[np.int64]) -> bytes:
            with self._alone():
                site = self._load()
                # A crash, or another process, may have come between this and the answer that was to be kept: the
                # vector of a step is masked once, and that one is the answer whoever asks.
                reply = site.masked(step, size)
                if reply is None:
                    reply = site.mask(step, values.view(np.uint64), data)
                    self._save(site)
            return reply

        return masked

    def unmask(self, order: PackedOrder) -> bytes:
        """Sign the list of survivors of a step, or reveal the shares that open its total.

        Raises:
            ConsentError: no such stage belongs to a step.
            PrivacyError: another list than before, too few survivors or signatures.
        """
        if order.stage not in ("agree", "unmask"):
            raise ConsentError(f"no stage {order.stage!r} belongs to a step")
        with self._alone():
            site = self._load()
            answer = site.agree if order.stage == "agree" else site.unmask
            reply = answer(order.step, order.message())
            self._save(site)
        return reply

    def _circle(self) -> SecureCohort:
        secure_cohort = secure_cohort_of(self._approval.plan.study, self._approval.roster)
        if secure_cohort is None:
            raise ConsentError("the approved plan has no secure aggregation")
        return secure_cohort

    def _begin(self) -> SecureSite:
        secure_cohort, steps = self._circle(), len(self._approval.plan.steps)
        return SecureSite.begin(secure_cohort, self._me, load_identity(self._folder), self._context, steps)

    def _load(self) -> SecureSite:
        secure_cohort = self._circle()
        if not self._path.exists():
            raise ConsentError("the keys of this run's secure aggregation were never exchanged")
        return SecureSite.from_bytes(
            self._path.read_bytes(), cohort=secure_cohort, identity=load_identity(self._folder)
        )

    def _save(self, site: SecureSite) -> None:
        disk.write_durably(self._path, site.to_bytes(), like=self._states)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold this site's states: two orders at once could each find nothing signed, and sign two lists."""
        self._circle()  # without secure aggregation nothing is kept
        disk.make_folder(self._states)
        with disk.lock(self._states):
            yield
