"""A site's session: order bytes in, update bytes out, and nothing else leaves.

For every step of an approved plan, in this order: kill switch, approval, ledger charge, data opened, private sum,
answer kept. A retry of a step returns the same bytes and charges nothing; where a crash came before an answer was
kept, the step is computed again under its charge. Every answer carries the site's signed word on its ledger. What
is refused is refused with one word, whatever the reason; kind and reason stay in the site's own log.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedsynth.errors import BudgetError, ConsentError, FedsynthError
from fedsynth.ledger.ledger import Ledger
from fedsynth.privacy.noise import NoiseSource, system_noise
from fedsynth.progress import Progress
from fedsynth.site.approval import Approval, approval_for, cap_of, check_seen, nonce_of
from fedsynth.site.holdings import Holdings, load_holdings
from fedsynth.site.identity import load_identity
from fedsynth.site.ledger_word import word_of
from fedsynth.site.policy import Policy, check_plan, check_switch, load_policy
from fedsynth.site.secure_sums import SecureSumParticipant
from fedsynth.site.standing import open_ledger
from fedsynth.site.worker import LATTICE, LocalWorker, Task, Worker, check_answer
from fedsynth.wire.order import SETUP_STEP, STATEMENT_STEP, PackedOrder
from fedsynth.wire.packed import pack_arrays, pack_message
from fedsynth.wire.update import REFUSED, Update

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("fedsynth.site")
INTERNAL = "InternalError"
"""The kind, in the site's log, of what broke and was no refusal."""
Tell = Callable[[bytes], bytes]
"""Takes packed arrays, returns the answer that bears them with the site's word."""


class SiteSession:
    """Answers orders for one site's folder."""

    def __init__(
        self,
        folder: Path,
        *,
        progress: Progress | None = None,
        noise: NoiseSource = system_noise,
        observe: "Callable[[Tensor], None] | None" = None,
        worker: Worker | None = None,
    ) -> None:
        """Open the site's folder; nothing about people is read yet.

        Args:
            folder: the site's.
            progress: called with (what, done, all).
            noise: tests and audits only pass something else.
            observe: shown every noisy sum; tests only.
            worker: does the steps; by default this process, to which the three above belong.
        """
        self._folder = folder
        self._worker = worker or LocalWorker(progress=progress, noise=noise, observe=observe)

    def handle(self, data: bytes) -> bytes:
        """Answer one order."""
        try:
            return self._answer(PackedOrder.from_bytes(data))
        except FedsynthError as error:
            kind = type(error).__name__
            log.warning("%s: %s", kind, error, extra={"kind": kind})
        except Exception:  # whatever broke may name a file or a value: it stays here
            log.exception("%s: an order failed", INTERNAL, extra={"kind": INTERNAL})
        return Update(refused=REFUSED).to_bytes()

    def _answer(self, order: PackedOrder) -> bytes:
        policy = load_policy(self._folder)
        check_switch(policy, self._folder)
        approval = approval_for(self._folder, order)
        holdings = load_holdings(self._folder / "holdings")
        check_plan(policy, approval.plan)
        identity = load_identity(self._folder)
        with open_ledger(self._folder, policy) as ledger:
            check_seen(ledger, approval)

            def tell(packed: bytes) -> bytes:
                word = word_of(ledger, run=order.run, plan=approval.plan, site=policy.name, holdings=holdings)
                return Update(word=word, signature=word.sign(identity)).to_bytes(packed)

            if order.step == STATEMENT_STEP and not order.stage:
                return tell(pack_arrays({}))
            secure_sums = SecureSumParticipant(self._folder, order=order, approval=approval, me=policy.name)
            if order.step == SETUP_STEP:
                return tell(pack_message(secure_sums.set_up(order)))
            if not 0 <= order.step < len(approval.plan.steps):
                raise ConsentError(
                    f"the approved plan has {len(approval.plan.steps)} steps; step {order.step} is none of them"
                )
            if order.stage:
                return tell(pack_message(secure_sums.unmask(order)))
            return self._step(order, approval, policy, ledger, holdings, secure_sums, tell)

    def _step(
        self,
        order: PackedOrder,
        approval: Approval,
        policy: Policy,
        ledger: Ledger,
        holdings: Holdings,
        secure_sums: SecureSumParticipant,
        tell: Tell,
    ) -> bytes:
        """Charge, open, sum, keep and answer; or answer again."""
        plan, step = approval.plan, approval.plan.steps[order.step]
        # The site makes the nonce: one per approved step, so that no order can be charged or answered twice.
        nonce = nonce_of(run=order.run, plan=plan, step=order.step)
        kept = ledger.reply(nonce)
        if kept is not None:
            return kept
        task = Task(order, plan, policy.device)
        with self._worker.prepare(task) as work:
            mask = secure_sums.mask(order, size=work.size) if step.mechanism.noise_shares > 1 else None
            try:
                ticket = ledger.charge(
                    step.mechanism,
                    nonce=nonce,
                    study=plan.digest,
                    tokens=holdings.tokens[step.mechanism.group],
                    cap=cap_of(policy, plan),
                    delta=plan.study.privacy.delta,
                    unit=plan.study.privacy.unit,
                )
            except BudgetError:
                kept = ledger.reply(nonce)  # another process may have answered it meanwhile
                if kept is None:
                    raise
                return kept
            with holdings.open(ticket, ledger=ledger) as windows:
                answer = work.run(windows)
        check_answer(answer, task, size=work.size)
        packed = pack_message(mask(answer[LATTICE])) if mask else pack_arrays(answer)
        reply = tell(packed)
        return ledger.keep_reply(nonce, reply)
