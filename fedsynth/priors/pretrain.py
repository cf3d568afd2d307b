"""Pretraining: from the public simulator to the weights that ship; reproducible, and no recording is ever near.

    python -m fedsynth.priors.pretrain FOLDER [FAMILY-MODALITY ...]

Same machine and versions, same bytes; elsewhere, the same up to rounding, which a long training amplifies, so
compare the metrics in the card and not the digests.
"""

import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fedsynth.families.pretrained.base import Source, SourceFamily
from fedsynth.families.pretrained.diffwave import DiffWave
from fedsynth.families.pretrained.layers import Steer
from fedsynth.families.pretrained.time_diffusion import TimeDiffusion
from fedsynth.families.pretrained.time_vqvae import TimeVqvae
from fedsynth.families.pretrained.vae_ldm import VaeLdm
from fedsynth.families.pretrained.weights import parse, weights_file, write
from fedsynth.modalities.pretraining import Pool
from fedsynth.modalities.registry import MODALITIES, codec_of, frame_of, pools_of
from fedsynth.modalities.shape import Shape
from fedsynth.rng import public_seed, torch_generator
from fedsynth.study import Modality

PRETRAINED: tuple[SourceFamily, ...] = (VaeLdm(), DiffWave(), TimeDiffusion(), TimeVqvae())


@dataclass(frozen=True)
class Recipe:
    """How a stage is trained: steps of AdamW at a one-cycle learning rate.

    `condition_dropout` is the share of rows not told their features, `average` the pace of the moving average of
    weights that is kept, `feature_matching` the weight of what drawn windows miss of the features asked for, over
    `matching_rows` rows.
    """

    steps: int
    learning_rate: float = 2e-3
    batch: int = 64
    condition_dropout: float = 0.1
    average: float = 0.998
    feature_matching: float = 0.0
    matching_rows: int = 64


RECIPES = {
    ("vae-ldm", "vae"): Recipe(steps=3500, condition_dropout=0.0),
    ("vae-ldm", "ldm"): Recipe(steps=4000),
    ("vae-ldm", "follow"): Recipe(steps=2500, learning_rate=1e-3, feature_matching=1.0),
    ("diffwave", "denoiser"): Recipe(steps=2500, condition_dropout=0.0),
    ("diffwave", "follow"): Recipe(
        steps=300, learning_rate=1e-3, condition_dropout=0.0, feature_matching=1.0, matching_rows=16
    ),
    ("time-diffusion", "denoiser"): Recipe(steps=3000, condition_dropout=0.0),
    ("time-diffusion", "follow"): Recipe(
        steps=300, learning_rate=1e-3, condition_dropout=0.0, feature_matching=1.0, matching_rows=16
    ),
    ("time-vqvae", "codes"): Recipe(steps=2500, condition_dropout=0.0),
    ("time-vqvae", "prior"): Recipe(steps=3500, condition_dropout=0.0),
}

_POOL = 8000


def pretrain(family: SourceFamily, modality: Modality, sets: list[Pool], *, start: Source | None = None) -> Source:
    """Train a family's source from public seeds, stage after stage.

    With `start`, a source of another modality, its weights are where this one begins, as far as they fit, and a few
    steps are enough: coloured noise is learned already.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(public_seed("source", family.name, modality) % 2**32)
        source = family.source(frame_of(sets[0].shape).raw_width)
    if start is not None:
        own, theirs = source.state_dict(), start.state_dict()
        source.load_state_dict(
            {key: theirs[key] if theirs[key].shape == own[key].shape else own[key] for key in own}
        )
    told = torch.cat([pool.condition for pool in sets])
    for module in source.modules():
        if isinstance(module, Steer):
            module.get_buffer("centre").copy_(told.mean(dim=0))
            module.get_buffer("spread").copy_(told.std(dim=0).clamp_min(0.05))
    for stage in source.stages:
        recipe = RECIPES[family.name, stage]
        if start is not None:
            recipe = replace(
                recipe, steps=recipe.steps // 4, feature_matching=0.0, learning_rate=recipe.learning_rate / 2
            )
        _train(source, family, stage, sets, recipe)
        with torch.no_grad():
            source.fit_scale(stage, sets[0].waves, sets[0].condition)
    return source.eval()


def _train(source: Source, family: SourceFamily, stage: str, sets: list[Pool], recipe: Recipe) -> None:
    generator = torch_generator("pretraining", family.name, stage)
    source.requires_grad_(False)
    learning = source.trainable(stage)
    for module in learning:
        module.requires_grad_(True)
    parameters = [parameter for module in learning for parameter in module.parameters()]
    slow = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps)
    weights = torch.tensor([float(pool.weight) for pool in sets])
    begun, seen = time.monotonic(), 0.0
    for step in range(recipe.steps):
        pool = sets[int(torch.multinomial(weights, 1, generator=generator))]
        # Every step costs about the same, whatever the length.
        rows = max(8, min(recipe.batch, recipe.batch * 128 // pool.waves.shape[1]))
        chosen = torch.randint(0, len(pool.waves), (rows,), generator=generator)
        noise = torch.randn(rows, source.loss_width(stage, pool.waves.shape[1]), generator=generator)
        known = (torch.rand(rows, generator=generator) >= recipe.condition_dropout).float()
        waves = pool.waves[chosen]
        loss = source.loss(stage, waves, pool.condition[chosen], noise, known=known).mean()
        if recipe.feature_matching:
            loss = (
                loss
                + recipe.feature_matching
                * _disobedience(source, pool, chosen[: recipe.matching_rows], generator).mean()
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        share = min(recipe.average, (1 + step) / (10 + step))
        torch._foreach_lerp_(slow, [parameter.detach() for parameter in parameters], 1 - share)
        seen = loss.item() if step == 0 else 0.99 * seen + 0.01 * loss.item()
        if (step + 1) % 500 == 0:
            spent = time.monotonic() - begun
            print(f"{family.name} {stage}: step {step + 1}, loss {seen:.4f}, {spent:.0f} s", file=sys.stderr)
    with torch.no_grad():
        for parameter, average in zip(parameters, slow, strict=True):
            parameter.copy_(average)


def _disobedience(source: Source, pool: Pool, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Return how far the features of drawn windows are from those asked for, shape (row, feature), through the
    whole sampler; the gradient is that of the sampler's steps."""
    asked, condition = pool.vectors[chosen], pool.condition[chosen]
    noise = torch.randn(len(chosen), source.noise_width(pool.waves.shape[1]), generator=generator)
    waves = source.draw(condition, noise, source.zero_shifts(len(chosen)))
    windows = frame_of(pool.shape).render(waves[:, None], asked, asked.new_zeros(len(asked), 0))
    got = codec_of(pool.shape).features(windows)
    spread = pool.vectors.std(dim=0).clamp_min(0.02)
    return nn.functional.smooth_l1_loss(got / spread, asked / spread, reduction="none")


def build(folder: Path, name: str, modalities: tuple[Modality, ...]) -> None:
    """Pretrain one family for some modalities, in order, and write its weights.

    Args:
        folder: of the weights; for ECG those of EEG must be there, or be built before.
        name: the family's.
        modalities: some of `MODALITIES`.
    """
    # One thread: sums in another order would give other bytes.
    torch.set_num_threads(1)
    family = next(family for family in PRETRAINED if family.name == name)
    folder.mkdir(parents=True, exist_ok=True)
    for modality in modalities:
        start = None
        if modality != MODALITIES[0]:
            start = family.source(frame_of(Shape(("any",), 128, 128.0, (0.5, 40.0), 1, modality="eeg")).raw_width)
            start.load_state_dict(parse((folder / weights_file(name, MODALITIES[0])).read_bytes()))
        write(
            pretrain(family, modality, pools_of(modality, count=_POOL), start=start),
            folder / weights_file(name, modality),
        )


def main(arguments: list[str]) -> None:
    """Pretrain every family for every modality, two families at a time; or what is named, one after another."""
    folder, names = Path(arguments[0]), arguments[1:]
    if names:
        for name in names:
            family, modality = name.rsplit("-", 1)
            build(folder, family, tuple(known for known in MODALITIES if known == modality))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=2, mp_context=spawn) as workers:
        jobs = [workers.submit(build, folder, family.name, MODALITIES) for family in PRETRAINED]
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main(sys.argv[1:])
