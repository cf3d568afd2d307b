"""What left the sites: from the bytes of orders and updates to what an adversary at the coordinator holds.

Every byte is accounted for. An update has one way to be written; its tensors are those that the order asks for; the
rest of it is what the plan and the site's own ledger say beforehand. Anything else left without having been paid
for, and ends the audit. Of secure aggregation the adversary runs a server of its own on the same bytes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from fedsynth.errors import FedsynthError, PrivacyError
from fedsynth.plan import Plan, Step, context_of, secure_cohort_of
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.private_sum import LatticeSum, lattice_step
from fedsynth.secure_aggregation.messages import LARGEST_VECTOR, MessageReader
from fedsynth.secure_aggregation.roster import Session
from fedsynth.secure_aggregation.server import SecureServer
from fedsynth.wire.last_word import LastWord, repeated
from fedsynth.wire.message import message_in, without_message
from fedsynth.wire.order import SETUP_STEP, STATEMENT_STEP, Order
from fedsynth.wire.packed import MESSAGE
from fedsynth.wire.update import Update

_LEGIBLE = 2.0**44  # steps of the lattice, far above any sum; a masked word is as small once in 2^19
_BY_CHANCE = 4  # legible words of a vector; more than that happens once in 10^9 vectors of 4096 words


@dataclass(frozen=True)
class Passed:
    """One order of a site and what came back, as they passed."""

    site: str
    order: Order
    update: Update


@dataclass
class Tap:
    """Stands between the coordinator and the sites, and keeps what passes."""

    passed: list[Passed] = field(default_factory=list)

    def on(self, site: str, handle: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
        """Return a site's handler, tapped.

        Raises:
            PrivacyError: when it answers with bytes that are more than an update.
        """

        def tapped(data: bytes) -> bytes:
            reply = handle(data)
            self.passed.append(Passed(site, Order.from_bytes(data), _only_an_update(reply, site)))
            return reply

        return tapped


@dataclass(frozen=True)
class Heard:
    """What the answers to an order come to: a noisy sum over `sites`, or the parts that one site trained."""

    sites: tuple[str, ...]
    step: Step
    order: Order
    total: Tensor | None = None
    parts: Mapping[str, Tensor] = field(default_factory=dict)


def check_answers(
    passed: Sequence[Passed],
    plan: Plan,
    *,
    run: str,
    links: Mapping[str, Sequence[str]],
    roster: Mapping[str, bytes],
) -> None:
    """Refuse answers that hold anything but what was asked for and paid for.

    Args:
        passed: everything, in order.
        plan: as approved.
        run: the run's name.
        links: every site's ledger, link by link.
        roster: the public key of every site.

    Raises:
        PrivacyError: naming the site and what is odd.
    """
    charged: dict[str, list[Mechanism]] = {site: [] for site in links}
    for one in passed:
        order, update, mine = one.order, one.update, charged[one.site]
        if update.refused:
            continue
        if order.step >= 0 and not order.stage:
            mine.append(plan.steps[order.step].mechanism)
        word = LastWord(
            run=run,
            plan=plan.digest,
            site=one.site,
            ledger_head=links[one.site][len(mine) - 1] if mine else "0" * 64,
            ledger_length=len(mine),
            charged=len(mine),
            train=repeated([event for event in mine if event.group == "train"]),
            held_out=repeated([event for event in mine if event.group == "held-out"]),
        )
        if update.word != word or not word.is_signed(update.signature, key=roster[one.site]):
            raise _more(one, "another word than that of its ledger")
        if set(update.tensors) != _names(one, plan):
            raise _more(one, "other tensors than the order asks for")


def heard(passed: Sequence[Passed], plan: Plan, *, run: str, roster: Mapping[str, bytes]) -> Iterator[Heard]:
    """Yield what the adversary hears, in order.

    Args:
        passed: everything, in order.
        plan: as approved.
        run: the run's name.
        roster: public keys, where sums are aggregated securely.

    Raises:
        PrivacyError: a masked vector that can be read.
        WireError: an answer of secure aggregation that the adversary's server cannot take.
    """
    answered = [one for one in passed if not one.update.refused]
    if plan.is_aggregate:
        yield from _Aggregated(plan, run=run, roster=roster).heard(answered)
        return
    for one in answered:
        if one.order.step < 0:
            continue
        step = plan.steps[one.order.step]
        if step.kind == "train":
            yield Heard((one.site,), step, one.order, parts=one.update.tensors)
        else:
            yield Heard((one.site,), step, one.order, total=one.update.tensors["sum"])


class _Aggregated:
    """The adversary's own server of secure aggregation."""

    def __init__(self, plan: Plan, *, run: str, roster: Mapping[str, bytes]) -> None:
        cohort = secure_cohort_of(plan.study, roster)
        if cohort is None:
            raise PrivacyError("the plan has no secure aggregation to listen to")
        context = context_of(run=run, plan=plan.digest)
        self._plan, self._session = plan, Session(cohort, context, len(plan.steps))
        self._server = SecureServer(cohort, context, len(plan.steps))

    def heard(self, passed: Sequence[Passed]) -> Iterator[Heard]:
        asked: dict[int, Order] = {}
        for one in passed:
            order, number, server = one.order, one.order.step, self._server
            if number == STATEMENT_STEP:
                continue
            data = message_in(one.update.tensors)
            if number != SETUP_STEP and not order.stage:
                if asked and number not in asked:
                    yield self._total(asked)
                    asked = {}
                asked[number] = order
                server.ask_sum(number, self._size_of_masked(data, site=one.site, number=number))
            elif order.stage == "shares":
                server.ask_shares()
            elif order.stage == "agree":
                server.ask_agree(number)
            elif order.stage == "unmask":
                server.ask_unmask(number)
            server.receive(one.site, data)
        if asked:
            yield self._total(asked)

    def _size_of_masked(self, data: bytes, *, site: str, number: int) -> int:
        """Return how many words a masked vector has, once none of them says anything.

        Raises:
            PrivacyError: some are too small for a mask to hide them.
        """
        reader = MessageReader(data, kind="masked", session=self._session, sender=site, step=number)
        reader.text("site")
        size = reader.number("size", least=1, most=LARGEST_VECTOR)
        words = np.frombuffer(reader.end(payload=8 * size), "<i8").astype(np.float64)
        legible = int((np.abs(words) < _LEGIBLE).sum())
        if legible > _BY_CHANCE:
            raise PrivacyError(
                f"site {site} sent a masked vector for step {number}, and {legible} of its {size} words can be "
                "read, with one share of the noise on them. Release nothing"
            )
        return size

    def _total(self, asked: Mapping[int, Order]) -> Heard:
        [(number, order)] = asked.items()
        total = self._server.total(number)
        step = self._plan.steps[number]
        mechanism = step.mechanism
        width = lattice_step(
            mechanism.clipping_norm, mechanism.noise_multiplier, noise_shares=mechanism.noise_shares
        )
        plain = replace(order, tensors=without_message(order.tensors))
        return Heard(total.survivors, step, plain, total=LatticeSum(total.values.view(np.int64), width).natural())


def _only_an_update(data: bytes, site: str) -> Update:
    try:
        update = Update.from_bytes(data)
    except FedsynthError as error:
        raise PrivacyError(f"site {site} sent {len(data)} bytes that are more than an update: {error}") from error
    if update.to_bytes() != data:
        raise PrivacyError(f"site {site} sent {len(data)} bytes, and no update is written so")
    return update


def _names(one: Passed, plan: Plan) -> set[str]:
    if one.order.step == STATEMENT_STEP:
        return set()
    if plan.is_aggregate:
        return {MESSAGE}
    if plan.steps[one.order.step].kind == "train":
        return {name.removeprefix("parts.") for name in one.order.tensors if name.startswith("parts.")}
    return {"sum"}


def _more(one: Passed, what: str) -> PrivacyError:
    return PrivacyError(
        f"site {one.site} sent more than was paid for: its answer to step {one.order.step} holds {what}. "
        "Release nothing before it is known what that says"
    )
