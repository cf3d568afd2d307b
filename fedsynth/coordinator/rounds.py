"""The coordinator's rounds: from an approved plan and a transport to a generator, its scores and the statement."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from fedsynth.coordinator.aggregation import add_sums, mean_state
from fedsynth.coordinator.generator import Generator, at_prior, untrained
from fedsynth.coordinator.transport import Transport
from fedsynth.errors import PrivacyError, RefusedError, WireError
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.tally import scores_of, tally_size
from fedsynth.evaluation.transfer import train_referee
from fedsynth.families.anchor import advance, statistic_size
from fedsynth.families.shape import shape_of
from fedsynth.privacy.accountant import ADJACENCY, PLD, PRV, epsilon_pld, epsilon_prv
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement, SiteStatement
from fedsynth.wire.arrays import check_like
from fedsynth.wire.order import STATEMENT, Order
from fedsynth.wire.plan import Plan, Step
from fedsynth.wire.update import Update

REFEREE_WINDOWS_PER_LABEL = 800
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """What a run leaves with the coordinator; all of it is post-processing of private sums."""

    generator: Generator
    scores: tuple[Score, ...]
    statement: PrivacyStatement
    ledger_lengths: Mapping[str, int]


def run_plan(
    plan: Plan, *, run: str, transport: Transport, composes: str, progress: Progress | None = None
) -> Result:
    """Carry out a plan.

    A site that refuses or does not answer is left out from then on; with fewer than the study's `least_sites`
    the run ends. What was charged stays charged.

    Args:
        plan: as approved by the sites.
        run: the name of this run, part of every order.
        transport: reaches the sites.
        composes: what the statement shall say about earlier runs.
        progress: called with (what, done, all).

    Raises:
        RefusedError: too few sites are left.
        PrivacyError: a site that contributed does not confirm what it was charged.
    """
    return _Run(plan, run, transport, progress).finish(composes)


class _Run:
    """The state of one run between its steps."""

    def __init__(self, plan: Plan, run: str, transport: Transport, progress: Progress | None) -> None:
        self.plan, self.run, self.transport = plan, run, transport
        self.tell = progress or (lambda *_: None)
        self.study, self.shape = plan.study, shape_of(plan.study)
        self.alive = list(transport.sites())
        self.generator = at_prior(self.study)
        self.units = {site: float(self.study.cohort.expected_units) for site in self.alive}
        self.scores: tuple[Score, ...] = ()
        self.done: dict[str, list[Mechanism]] = {}

    def finish(self, composes: str) -> Result:
        self._enough({})
        work: dict[str, Callable[[int, Step], None]] = {
            "anchor": self._anchor,
            "train": self._train,
            "assess": self._assess,
        }
        for number, step in enumerate(self.plan.steps):
            work[step.kind](number, step)
        statement, lengths = self._statement(composes)
        return Result(self.generator, self.scores, statement, lengths)

    def _anchor(self, number: int, step: Step) -> None:
        wanted = _sum_like(statistic_size(self.shape, step=step.index))
        answers = self._ask(number, dict.fromkeys(self.alive, self.generator.anchor.tensors()), step, wanted)
        total = add_sums(answers)
        if step.index == 0:
            # Every site's own noisy count is public by now, and sizes its share of what follows.
            self.units = {
                site: float(advance(self.generator.anchor, self.shape, total=one["sum"], noise_std=0).counts.sum())
                for site, one in answers.items()
            }
        anchor = advance(self.generator.anchor, self.shape, total=total, noise_std=_std(step, len(answers)))
        self.generator = untrained(self.study, anchor)

    def _train(self, number: int, step: Step) -> None:
        counts = self.generator.anchor.counts
        shares = (counts / counts.sum()).to(torch.float32)
        parts = {f"parts.{name}": value for name, value in self.generator.state.items()}
        orders = {
            site: {**parts, "label_shares": shares, "seen_units": torch.tensor([self.units[site]])}
            for site in self.alive
        }
        answers = self._ask(number, orders, step, self.generator.state)
        state = mean_state(answers, weights=self.units)
        self.generator = Generator(self.study, state, self.generator.anchor)

    def _assess(self, number: int, step: Step) -> None:
        per_label = min(REFEREE_WINDOWS_PER_LABEL, self.study.release.windows_per_label)
        windows = self.generator.draw(per_label=per_label, seed="referee")
        referee = train_referee(
            windows.signal,
            windows.labels,
            n_labels=self.shape.n_labels,
            seed=0,
            progress=partial(self.tell, "referee on synthetic windows"),
        )
        wanted = _sum_like(tally_size(self.shape.n_labels))
        answers = self._ask(number, dict.fromkeys(self.alive, referee.state_dict()), step, wanted)
        self.scores = scores_of(
            add_sums(answers),
            label_names=self.study.labels.names,
            positive=self.study.labels.names.index(self.study.labels.positive),
            noise_std=_std(step, len(answers)),
            source="private sum",
        )

    def _statement(self, composes: str) -> tuple[PrivacyStatement, dict[str, int]]:
        order = Order(self.run, self.plan.digest, STATEMENT, {}).to_bytes()
        updates = self._exchange(dict.fromkeys(sorted(self.done), order), "statements")
        for site, done in self.done.items():
            # Whoever contributed is in the generator; without its ledger's word nothing can be promised.
            if not _covers(updates.get(site), done):
                raise PrivacyError(
                    f"site {site} contributed {len(done)} private sums and its ledger does not confirm them; "
                    "the run makes no statement and cannot be released"
                )
        delta = self.study.privacy.delta
        sites = tuple(_site_statement(site, update, delta) for site, update in sorted(updates.items()))
        statement = PrivacyStatement(
            epsilon=max((site.epsilon for site in sites), default=math.inf),
            delta=delta,
            unit=self.study.privacy.unit,
            adjacency=ADJACENCY,
            trust=self.study.privacy.trust,
            accountant=PLD,
            second_accountant=PRV,
            composes=composes,
            overlap="assumed: nobody is treated at two sites; whoever is, spends the sum of both",
            sites=sites,
        )
        return statement, {site: update.ledger_length for site, update in updates.items()}

    def _ask(
        self,
        number: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        step: Step,
        wanted: Mapping[str, Tensor],
    ) -> dict[str, Mapping[str, Tensor]]:
        """Send every living site its order, and return the answers that look like `wanted`."""
        orders = {site: Order(self.run, self.plan.digest, number, tensors[site]).to_bytes() for site in self.alive}
        updates = self._exchange(orders, step.mechanism.purpose)
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
        self.alive = [site for site in self.alive if site in answers]
        for site in self.alive:
            self.done.setdefault(site, []).append(step.mechanism)
        self._enough(refusals)
        return {site: answers[site] for site in self.alive}

    def _exchange(self, orders: Mapping[str, bytes], what: str) -> dict[str, Update]:
        updates: dict[str, Update] = {}
        what = f"{what}, sites"
        self.tell(what, 0, len(orders))
        for site, data in self.transport.exchange(orders):
            try:
                updates[site] = Update.from_bytes(data)
            except WireError as error:
                updates[site] = Update(refused=type(error).__name__)
            self.tell(what, len(updates), len(orders))
        return updates

    def _enough(self, refusals: Mapping[str, str]) -> None:
        if len(self.alive) < self.study.cohort.least_sites:
            said = ", ".join(f"{site}: {reason}" for site, reason in sorted(refusals.items())) or "none refused"
            raise RefusedError(
                f"{len(self.alive)} sites are left and the study needs {self.study.cohort.least_sites} ({said}). "
                "What they were charged stays charged; nothing was released"
            )


def _site_statement(site: str, update: Update, delta: float) -> SiteStatement:
    histories: tuple[tuple[Mechanism, ...], ...] = (update.train_history, update.held_out_history)
    return SiteStatement(
        site=site,
        epsilon=max(epsilon_pld(history, delta=delta) for history in histories),
        epsilon_second=max(epsilon_prv(history, delta=delta) for history in histories),
        delta=delta,
        ledger_head=update.ledger_head,
        events=update.train_history,
        held_out=update.held_out_history,
    )


def _covers(update: Update | None, done: list[Mechanism]) -> bool:
    """Whether a site's own word holds every private sum that it was seen to answer."""
    if update is None or update.refused:
        return False
    told = Counter([*update.train_history, *update.held_out_history])
    return not Counter(done) - told


def _sum_like(size: int) -> dict[str, Tensor]:
    return {"sum": torch.zeros(size, dtype=torch.float64)}


def _std(step: Step, sites: int) -> float:
    """Return the noise of each coordinate of a sum over sites, every one of which added its own."""
    if not step.mechanism.is_private:
        return 0.0
    return step.mechanism.noise_multiplier * step.mechanism.clipping_norm * math.sqrt(sites)
