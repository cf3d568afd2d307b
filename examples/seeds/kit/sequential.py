"""Sequential fine-tuning: one hospital after the other trains what the last one left; no recording moves."""

import math
from dataclasses import replace

import torch

from fedsynth.evaluation.protocol.material import Material
from fedsynth.plan import plan_of
from fedsynth.synthesis.generator import Generator
from fedsynth.training.minibatches import Round, train_plainly
from fedsynth.training.private_gradient import Batch
from kit.arms import Arm, deal, drawn, study_of, trained
from kit.bench import Bench, Source

HOSPITALS = 4


def sequential(bench: Bench, arm: Arm, *, name: str, per_label: int) -> Source:
    """Return a source that fine-tunes an arm's layers hospital by hospital, without privacy.

    Every hospital takes a quarter of the arm's steps for each phase, and the learning rate falls within each: a
    hospital that comes later does not know that others came before. The anchor is that of all hospitals' sums.
    """

    def make(real: Material, fold: int) -> Material:
        generator = fine_tuned(bench, arm, real)
        return drawn(generator, per_label=per_label, seed=f"{bench.name} {name} {fold}")

    return Source(name, make, ("minority only", "synthetic alone"))


def fine_tuned(bench: Bench, arm: Arm, real: Material) -> Generator:
    """Return the generator that the last hospital leaves."""
    frame, shape = bench.frame, bench.frame.shape
    start = trained(Arm(arm.name, family=arm.family), real, frame)
    plan = plan_of(study_of(arm, frame, people=real.n_people, per_person=1, channels=shape.channels))
    parts = plan.family.build(shape, start.anchor)
    steps = {plan.phase(step).name: step.mechanism for step in plan.steps if step.kind == "train"}
    for windows in deal(real, frame, hospitals=HOSPITALS).values():
        columns = (torch.from_numpy(some) for some in (windows.signal, windows.labels, windows.subjects))
        batch = Batch(*columns)
        for phase in plan.family.phases:
            asked = steps[phase.name]
            train_plainly(
                plan.family,
                parts,
                phase=phase,
                shape=shape,
                batch=batch,
                mechanism=replace(asked, steps=math.ceil(asked.steps / HOSPITALS)),
                round_=Round(0, 1, plan.study.training.minibatch_windows),
            )
    return Generator(plan.study, parts.state_dict(), start.anchor)
