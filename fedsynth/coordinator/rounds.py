"""The coordinator's rounds: from an approved plan and a transport to a generator, its scores and the statement."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedsynth.coordinator.aggregation import Total, add_sums, aggregate, within_reach
from fedsynth.coordinator.checkpoint import Checkpoint
from fedsynth.coordinator.exchanges import Exchanges
from fedsynth.coordinator.run_state import RunState
from fedsynth.coordinator.secure_sums import SecureSums
from fedsynth.coordinator.sequential import in_turn, train_in_turn
from fedsynth.coordinator.statement import charged, statement_of
from fedsynth.coordinator.transport import Transport
from fedsynth.errors import FedsynthError, RunError
from fedsynth.evaluation.asked import Asked
from fedsynth.evaluation.classifier import windows_to_train_on
from fedsynth.evaluation.compared_scores import compared_scores
from fedsynth.evaluation.label_counts import label_counts
from fedsynth.evaluation.private_scores import scores_of, tally_size
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.tally_plan import tally_plan_of
from fedsynth.families.protocol import Phase
from fedsynth.plan import Plan, Step, gradient_steps_of, secure_cohort_of
from fedsynth.privacy.making import Making
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.progress import Progress
from fedsynth.synthesis.archive import archive_digest, draw_archive
from fedsynth.synthesis.generator import Generator, at_prior, untrained
from fedsynth.synthesis.windows import SyntheticStream
from fedsynth.training.trainer import StepScale, Trainer, largest_move, private_parameters
from fedsynth.wire.last_word import SignedWord


@dataclass(frozen=True)
class Contributions:
    """What sites have given by now: `step` steps of the plan are done, and `answered` numbers those of each site.

    `alive` are the sites that are still asked.
    """

    step: int
    alive: tuple[str, ...]
    answered: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Result:
    """What a run leaves with the coordinator; all of it is post-processing of private sums."""

    generator: Generator
    scores: tuple[Score, ...]
    statement: PrivacyStatement
    ledger_lengths: Mapping[str, int]
    words: Mapping[str, SignedWord]


def run_plan(
    plan: Plan,
    *,
    run: str,
    transport: Transport,
    composes: str,
    roster: Mapping[str, bytes],
    progress: Progress | None = None,
    engine: str = "in-process",
    cohort: str = "recordings",
    archive: Path | None = None,
    checkpoint: Checkpoint | None = None,
    note: Callable[["Contributions"], None] | None = None,
) -> Result:
    """Carry out a plan, or go on with it where a checkpoint was left.

    A site that refuses or does not answer is left out from then on; with fewer than the study's `least_sites`
    the run ends. What was charged stays charged.

    Args:
        plan: as approved by the sites.
        run: the name of this run, part of every order.
        transport: reaches the sites.
        composes: what the statement shall say about earlier runs.
        roster: the sites' public keys, 32 bytes each: of their words on their ledgers, and of secure aggregation.
        progress: called with (what, done, all).
        engine: what carries the messages, and `cohort` whose recordings they are about; for the statement.
        cohort: see `engine`.
        archive: where the windows to be released are drawn to, and scored; without it they are not kept.
        checkpoint: what was kept of this run, and where it is kept after every exchange; goes with `archive`.
        note: told between two steps what sites have given.

    Raises:
        RefusedError: too few sites are left.
        PrivacyError: no key is pinned for a site, or one that contributed does not confirm what it was charged.
        RunError: the disk refused to keep what was reached, or what was kept is of another run.
    """
    made = Making(gradient_steps_of(plan), engine, cohort, windows="0" * 64)  # refused before anybody is charged
    with nullcontext(archive) if archive else _for_now() as place:
        running = _Run(plan, run, transport, progress, roster, place, checkpoint, note)
        try:
            return running.finish(composes, made)
        except FedsynthError:
            if checkpoint:
                checkpoint.forget_last_answers()
            raise


@contextmanager
def _for_now() -> Iterator[Path]:
    """Yield a place for an archive that nobody wants to keep."""
    with tempfile.TemporaryDirectory(prefix="fedsynth-") as folder:
        yield Path(folder) / "windows.npz"


def train_generator(
    plan: Plan, *, run: str, transport: Transport, roster: Mapping[str, bytes], progress: Progress | None = None
) -> Generator:
    """Carry out a plan up to the generator: no scores are asked for and nothing is promised.

    For comparisons that score for themselves.

    Args:
        plan: the private steps; with sites that add all of their noise.
        run: the name of this run.
        transport: reaches the sites.
        roster: as in `run_plan`.
        progress: called with (what, done, all).

    Raises:
        RefusedError: too few sites are left.
    """
    running = _Run(plan, run, transport, progress, roster, Path())
    running.learn()
    return running.generator


class _Run:
    """The state of one run between its steps."""

    def __init__(
        self,
        plan: Plan,
        run: str,
        transport: Transport,
        progress: Progress | None,
        roster: Mapping[str, bytes],
        archive: Path,
        checkpoint: Checkpoint | None = None,
        note: Callable[["Contributions"], None] | None = None,
    ) -> None:
        self.archive, self.windows = archive, ""
        self.note = note or (lambda _: None)
        self.checkpoint, self.step = checkpoint, 0
        self.classifier: Mapping[str, Tensor] = {}
        self.plan, self.tell = plan, progress or (lambda *_: None)
        self.study, self.shape = plan.study, plan.shape
        self.estimator, self.family = plan.estimator, plan.family
        self.sites = Exchanges(
            plan, run=run, transport=transport, roster=roster, progress=self.tell, checkpoint=checkpoint
        )
        self.generator = at_prior(self.study)
        self.units = {site: float(self.study.cohort.expected_units) for site in self.sites.alive}
        self.scores: tuple[Score, ...] = ()
        self.secure_cohort = secure_cohort_of(self.study, roster)
        self.secure_sums = (
            SecureSums(plan, run=run, secure_cohort=self.secure_cohort, exchange=self.sites.exchange)
            if self.secure_cohort
            else None
        )
        self.trainer: Trainer | None = None

    def finish(self, composes: str, made: Making) -> Result:
        self._carry_out({**self._learning(), "assess": self._assess})
        statement, lengths = self._statement(composes, replace(made, windows=self.windows))
        return Result(self.generator, self.scores, statement, lengths, self.sites.words.signed)

    def learn(self) -> None:
        self._carry_out(self._learning())

    def _learning(self) -> dict[str, Callable[[int, Step], None]]:
        return {"anchor": self._anchor, "train": self._train, "gradient": self._gradient}

    def _carry_out(self, work: Mapping[str, Callable[[int, Step], None]]) -> None:
        """Carry out the plan's steps from where the run stands; those that `work` does not name are left out."""
        is_set_up = self._go_on()
        if self.secure_sums and not is_set_up:
            self.secure_sums.set_up(self.sites.alive)
            self._keep(is_set_up=True)
        for number, step in enumerate(self.plan.steps[self.step :], start=self.step):
            if step.kind in work:
                work[step.kind](number, step)
            self.step, self.classifier = number + 1, {}
            self._keep(is_set_up=True)

    def _go_on(self) -> bool:
        """Take over what was kept of this run, or keep its beginning; return whether keys were exchanged before."""
        if self.checkpoint is None or self.checkpoint.state is None:
            self.sites.check_enough(len(self.sites.alive), {})
            self._keep(is_set_up=False)
            return False
        state = RunState.from_bytes(self.checkpoint.state)
        self.sites.go_on(state)
        self.step, self.units = state.step, dict(state.units)
        self.scores, self.windows, self.classifier = state.scores, state.windows, state.classifier
        self.generator = Generator.from_tensors(self.study, state.generator)
        if state.training:
            phase = self.plan.phase(self.plan.steps[state.step])
            first = next(s for s in self.plan.steps if s.kind == "gradient" and self.plan.phase(s) == phase)
            self.trainer = self._new_trainer(first, phase)
            self.trainer.go_on(state.trainer)
        if self.secure_sums and state.secure:
            self.secure_sums.go_on(state.secure)
        torch.set_rng_state(state.random)
        return bool(state.secure)

    def _keep(self, *, is_set_up: bool) -> None:
        """Keep the state between two steps."""
        self.note(Contributions(self.step, tuple(self.sites.alive), self.sites.done))
        if self.checkpoint is None:
            return
        following = self.plan.steps[self.step : self.step + 1]
        trainer = self.trainer if following and following[0].kind == "gradient" else None
        training = trainer is not None and trainer.phase == self.plan.phase(following[0])
        state = RunState(
            step=self.step,
            alive=tuple(self.sites.alive),
            units=self.units,
            done={site: tuple(steps) for site, steps in self.sites.done.items()},
            asked=self.sites.asked,
            words=self.sites.words.signed,
            generator=self.generator.tensors(),
            random=torch.get_rng_state(),
            trainer=trainer.optimizers() if trainer and training else {},
            training=training,
            windows=self.windows,
            classifier=self.classifier,
            scores=self.scores,
            secure=self.secure_sums.to_bytes() if self.secure_sums and is_set_up else b"",
        )
        self.checkpoint.keep_state(state.to_bytes(), step=self.step)

    def _anchor(self, number: int, step: Step) -> None:
        before, size = self.generator.anchor, self.estimator.statistic_size(self.shape, step=step.index)
        total = self._sum(number, step, before.tensors(), size=size)
        if step.index == 0 and total.by_site:
            # Every site's own noisy count is public by now, and sizes its share of what follows.
            self.units = {
                site: float(self.estimator.advance(before, self.shape, total=one, noise_std=0).counts.sum())
                for site, one in total.by_site.items()
            }
        if step.index == 0:
            counts, noise_std = self.estimator.counts(self.shape, total=total.values, noise_std=total.noise_std)
            names, unit = self.study.labels.names, self.study.privacy.unit
            self.scores = label_counts(counts, noise_std=noise_std, label_names=names, unit=unit)
        anchor = self.estimator.advance(before, self.shape, total=total.values, noise_std=total.noise_std)
        self.generator = untrained(self.study, anchor)

    def _train(self, number: int, step: Step) -> None:
        family, phase = self.family, self.plan.phase(step)
        parts = family.build(self.shape, self.generator.anchor)
        if self.study.training.order == "sequential":
            parts.load_state_dict(dict(self.generator.state))
            sites = in_turn(self.sites.alive, self.study.cohort.sites)
            how: dict[str, Any] = {"units": self.units, "trained": self._trained, "ask": self.sites.ask}
            train_in_turn(self.plan, number, sites, parts, **how)
        else:
            answers = self._trained(number, step, tuple(self.sites.alive), start=self.generator.state, more={})
            parts.load_state_dict(aggregate(answers, weights=self.units, rule=self.study.training.aggregation))
        # A mean of weights at their bound can round to just beyond it, and sites refuse what lies beyond.
        family.constrain(parts, phase)
        self.generator = Generator(self.study, parts.state_dict(), self.generator.anchor)

    def _trained(
        self,
        number: int,
        step: Step,
        sites: Sequence[str],
        *,
        start: Mapping[str, Tensor],
        more: Mapping[str, Tensor],
    ) -> dict[str, Mapping[str, Tensor]]:
        """Have sites train parts, and return those that training can have led to."""
        sent = {f"parts.{name}": value for name, value in start.items()} | dict(more)
        orders = {
            site: {**sent, "label_shares": self._label_shares(), "seen_units": torch.tensor([self.units[site]])}
            for site in sites
        }
        answers = self.sites.ask(number, orders, step, start)
        size = sum(value.numel() for value in start.values())
        farthest = largest_move(self.plan.phase(step), steps=step.mechanism.steps, size=size)
        answers, strange = within_reach(answers, start=start, largest_move=farthest)
        self.sites.keep_alive(sites, answers, strange)
        return answers

    def _gradient(self, number: int, step: Step) -> None:
        """Take one step of private training here, on the total over all sites."""
        phase = self.plan.phase(step)
        if self.trainer is None or self.trainer.phase != phase:
            self.trainer = self._new_trainer(step, phase)
        trainer = self.trainer
        parts = {f"parts.{name}": value for name, value in trainer.parts.state_dict().items()}
        size = sum(p.numel() for p in private_parameters(trainer.parts, trainer.phase))
        trainer.step(self._sum(number, step, parts, size=size).values)
        state = {name: value.clone() for name, value in trainer.parts.state_dict().items()}
        self.generator = Generator(self.study, state, self.generator.anchor)

    def _new_trainer(self, step: Step, phase: Phase) -> Trainer:
        parts = self.family.build(self.shape, self.generator.anchor)
        parts.load_state_dict(dict(self.generator.state))
        scale = StepScale(
            expected_units=float(self.study.cohort.expected_units * len(self.study.cohort.sites)),
            seen_units=float(self.generator.anchor.counts.sum())
            if self.study.training.anchor
            else sum(self.units.values()),
            label_shares=self._label_shares(),
        )
        return Trainer(self.family, parts, phase=phase, shape=self.shape, mechanism=step.mechanism, scale=scale)

    def _label_shares(self) -> Tensor:
        counts = self.generator.anchor.counts
        return (counts / counts.sum()).to(torch.float32)

    def _assess(self, number: int, step: Step) -> None:
        positive, tally = self.study.labels.names.index(self.study.labels.positive), tally_plan_of(self.study)
        if not self.classifier:
            windows, asked = windows_to_train_on(self._draw(), shape=self.shape), Asked(self.shape, tally)
            told = partial(self.tell, "classifier on synthetic windows")
            asked.learn(windows, self.generator.anchor, positive=positive, progress=told)
            self.classifier = asked.tensors()
            self._keep(is_set_up=True)  # the sites score these very windows
        elif not self.archive.exists() or archive_digest(self.archive) != self.windows:
            self._draw()
        size = tally_size(self.shape.n_labels, compared=tally.compared)
        total = self._sum(number, step, self.classifier, size=size)
        how: dict[str, Any] = {"label_names": self.study.labels.names, "positive": positive, "tally": tally}
        scores = scores_of(total.values, noise_std=total.noise_std, source="private sum", **how)
        compared = compared_scores(total.values, noise_std=total.noise_std, **how)
        of_release = [replace(score, windows=self.windows) for score in (*scores, *compared)]
        self.scores = (*of_release, *self.scores)

    def _draw(self) -> SyntheticStream:
        """Draw what is scored and released: once, here, and named by its digest.

        Raises:
            RunError: windows that were drawn before, scored and lost come out differently now.
        """
        drawn, digest = draw_archive(self.archive, self.generator, progress=partial(self.tell, "drawing windows"))
        if self.windows not in ("", digest):
            raise RunError(
                f"the windows in {self.archive} are lost, and drawn again they are not those that the sites were "
                "asked about (other threads or libraries). Put them back, or begin a new run"
            )
        self.windows = digest
        return drawn

    def _statement(self, composes: str, made: Making) -> tuple[PrivacyStatement, dict[str, int]]:
        updates = self.sites.ask_last_words()
        steps = self.plan.steps
        done = {site: [steps[number].mechanism for number in numbers] for site, numbers in self.sites.done.items()}
        words = charged(self.sites.words.by_site, done=done)
        statement = statement_of(
            words,
            study=self.study,
            composes=composes,
            made=made,
            secure_cohort=self.secure_cohort,
            unheard=self.sites.unheard(updates),
        )
        return statement, {site: word.ledger_length for site, word in words.items()}

    def _sum(self, number: int, step: Step, tensors: Mapping[str, Tensor], *, size: int) -> Total:
        """Ask every living site for one private sum, and return the total over them."""
        if self.secure_sums:
            total = self.secure_sums.sum(number, step.mechanism, tensors, size=size)
            for site in total.sites:
                self.sites.answered(site, number)
            self.sites.check_enough(len(total.sites), {})
            return total
        wanted = {"sum": torch.zeros(size, dtype=torch.float64)}
        answers = self.sites.ask(number, dict.fromkeys(self.sites.alive, tensors), step, wanted)
        return add_sums({site: one["sum"] for site, one in answers.items()}, mechanism=step.mechanism)
