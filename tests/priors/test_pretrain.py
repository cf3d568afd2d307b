"""Pretraining: the same public seeds give the same bytes, and what ships is what the card says."""

import hashlib
import math
import re
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.errors import StudyError
from fedsynth.families.pretrained.base import SourceFamily
from fedsynth.families.pretrained.weights import load, weights_file, write
from fedsynth.modalities.frame import blend, relative_spectrum, resample_waves, unit
from fedsynth.modalities.measures import band_bins
from fedsynth.modalities.registry import MODALITIES, frame_of, pools_of
from fedsynth.modalities.shape import Shape
from fedsynth.priors import pretrain as pretraining
from fedsynth.priors.pretrain import PRETRAINED, RECIPES, pretrain
from fedsynth.study import Modality

EEG = Shape(("C3", "C4", "Cz"), 256, 128.0, (0.5, 40.0), 2, modality="eeg")
ECG = Shape(("I", "II", "V1", "V2", "V3", "V4", "V5", "V6"), 500, 100.0, (0.5, 40.0), 2, "ecg")
LARGEST = 10 * 2**20  # bytes, all together


@pytest.mark.parametrize("family", PRETRAINED, ids=lambda family: family.name)
def test_the_same_seeds_give_the_same_bytes(
    family: SourceFamily, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, recipe in RECIPES.items():
        monkeypatch.setitem(RECIPES, key, replace(recipe, steps=3))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        torch.manual_seed(len(folder) + hash(folder) % 1000)  # the global generator must not matter
        sets = pools_of("eeg", count=40)
        write(pretrain(family, "eeg", sets), tmp_path / folder / "weights")

    assert (tmp_path / "one" / "weights").read_bytes() == (tmp_path / "two" / "weights").read_bytes()


def test_what_ships_is_small_and_is_what_the_card_says() -> None:
    folder = files("fedsynth.priors")
    card = folder.joinpath("CARD.md").read_text(encoding="utf-8")
    told = dict(re.findall(r"\| `([\w.-]+)` \|.*\| `([0-9a-f]{64})` \|", card))
    data = {
        weights_file(family.name, modality): folder.joinpath(weights_file(family.name, modality)).read_bytes()
        for family in PRETRAINED
        for modality in MODALITIES
    }

    assert sum(len(value) for value in data.values()) <= LARGEST
    assert told == {name: hashlib.sha256(value).hexdigest() for name, value in data.items()}


@pytest.mark.parametrize("shape", [EEG, ECG], ids=["eeg", "ecg"])
@pytest.mark.parametrize("family", PRETRAINED, ids=lambda family: family.name)
def test_public_weights_are_in_no_message(family: SourceFamily, shape: Shape) -> None:
    parts = family.build(shape, prior_anchor(shape))
    travels = {name.split(".")[0] + "." + name.split(".")[1] for name in parts.state_dict()}

    assert travels == {"body.draw", *(f"{phase.private_part}.weight" for phase in family.phases)}
    assert {name for name, _ in parts.named_parameters()} == {f"{p.private_part}.weight" for p in family.phases}
    assert all(not bool(parameter.any()) for parameter in parts.parameters())


@pytest.mark.parametrize("family", PRETRAINED, ids=lambda family: family.name)
def test_building_leaves_the_global_generator_alone(family: SourceFamily) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    family.build(EEG, prior_anchor(EEG))

    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("family", PRETRAINED, ids=lambda family: family.name)
def test_an_adapter_speaks_of_its_own_label_alone(family: SourceFamily) -> None:
    parts = family.build(EEG, prior_anchor(EEG))
    labels, noise = torch.tensor([0, 1]), torch.randn(2, family.noise_width(EEG))
    with torch.no_grad():
        before = family.sample(parts, labels, noise)
        for phase in family.phases:
            parts[phase.private_part].weight[1] += torch.linspace(-1, 1, 64)
        after = family.sample(parts, labels, noise)

    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=0.1)


def test_weights_of_another_version_are_refused() -> None:
    with pytest.raises(StudyError, match="another version"):
        load(torch.nn.Linear(1, 1), name="vae-ldm", modality="eeg")
    with pytest.raises(StudyError, match="not installed"):
        load(torch.nn.Linear(1, 1), name="nothing", modality="eeg")


@pytest.mark.parametrize("modality", MODALITIES)
def test_simulated_waveforms_have_mean_0_and_deviation_1(modality: Modality) -> None:
    for pool in pools_of(modality, count=40):
        assert pool.waves.shape[1] % 16 == 0
        assert torch.allclose(pool.waves.mean(dim=1), torch.zeros(len(pool.waves)), atol=1e-5)
        assert torch.allclose(pool.waves.std(dim=1, correction=0), torch.ones(len(pool.waves)), atol=1e-3)
        assert pool.condition.shape == (len(pool.waves), frame_of(pool.shape).raw_width)


@pytest.mark.parametrize(("old", "new"), [(100, 240), (240, 100), (128, 112), (64, 64)])
def test_resampling_keeps_a_sine_and_a_slope(old: int, new: int) -> None:
    """A slope is no period of anything: without taking it out the ends would ring."""

    def signal(length: int) -> torch.Tensor:
        at = torch.arange(length, dtype=torch.float64) / length
        return 3 * at + torch.sin(2 * torch.pi * 5 * at)

    error = (resample_waves(signal(old), new) - signal(new)).abs()
    inside = error[: new * (old - 1) // old]  # what follows the last sample is a guess

    assert float(inside.max()) < 0.12
    assert float(inside.mean()) < 0.025


def test_a_flat_window_stays_finite() -> None:
    assert torch.equal(unit(torch.full((1, 64), 7.0)), torch.zeros(1, 64))
    for family in PRETRAINED:
        parts = family.build(EEG, prior_anchor(EEG))
        for phase in family.phases:
            noise = torch.zeros(1, family.example_noise_width(EEG, phase))
            loss = family.example_loss(parts, phase, torch.zeros(1, 3, 256), torch.tensor([0]), noise)

            assert bool(torch.isfinite(loss).all())


def test_every_stage_has_a_recipe() -> None:
    assert set(RECIPES) == {
        (family.name, stage) for family in pretraining.PRETRAINED for stage in family.source_type.stages
    }


@pytest.mark.parametrize("family", PRETRAINED, ids=lambda family: family.name)
def test_limb_leads_keep_einthoven_s_identity(family: SourceFamily) -> None:
    shape = Shape(("I", "II", "III", "V1", "V2", "V3"), 300, 100.0, (0.5, 40.0), 1, "ecg")
    noise = torch.randn(2, family.noise_width(shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        windows = family.sample(family.build(shape, prior_anchor(shape)), torch.tensor([0, 0]), noise)

    assert torch.allclose(windows[:, 2], windows[:, 1] - windows[:, 0], atol=1e-2)


def test_channels_share_a_source_and_keep_their_own_part() -> None:
    """Of unit variance each; the shared source's share of a channel is 0.8, so the mean correlation is 0.64."""
    generator = torch.Generator().manual_seed(0)
    sources, mixing = torch.randn(400, 4, 500, generator=generator), torch.randn(400, 3 * 6, generator=generator)
    mixed = blend(sources[:, :1], sources[:, 1:], mixing, share=0.8)
    products = torch.einsum("wct,wdt->cd", mixed, mixed) / mixed[:, 0].numel()

    assert torch.allclose(products.diagonal(), torch.ones(6), atol=0.03)
    assert torch.allclose(products[0, 1:], torch.full((5,), 0.64), atol=0.04)


def test_a_spectrum_means_the_same_at_any_rate_and_length() -> None:
    """White noise up to the upper edge has the same density everywhere: 1 over the width of the band in Hz."""
    for seconds, sfreq in ((1.0, 128.0), (2.0, 128.0), (2.0, 250.0)):
        shape = Shape(("C3",), round(seconds * sfreq), sfreq, (0.5, 40.0), 1, modality="eeg")
        bins = band_bins(shape)
        width = torch.tensor([(last - first) / seconds for first, last in bins])
        told = relative_spectrum(torch.log10(width)[None], bins, shape)

        assert torch.allclose(told, torch.full_like(told, -math.log10(float(width.sum()))), atol=1e-5)
