"""Families whose layers learn: where they begin, what they are shown of windows, and what comes back."""

import pytest
import torch
from torch import Tensor, nn

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.errors import StudyError
from fedsynth.families.joint.family import JointBody, JointFamily
from fedsynth.families.joint.inflation import inflate
from fedsynth.families.joint.low_rank import LowRank, make_low_rank
from fedsynth.families.pretrained.base import SourceFamily
from fedsynth.families.pretrained.layers import Signals
from fedsynth.families.pretrained.weights import load
from fedsynth.families.registry import class_of, family_of
from fedsynth.modalities.eeg.features import spatial_basis
from fedsynth.modalities.measures import band_powers
from fedsynth.modalities.registry import codec_of, frame_of
from fedsynth.modalities.shape import Shape
from fedsynth.study import FamilyPlan, parse_study

PAIR = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, "eeg")
ONE = Shape(("C3",), 128, 100.0, (1.0, 30.0), 2, "eeg")
LEADS = Shape(("I", "II", "III"), 256, 100.0, (0.5, 40.0), 2, "ecg")
NAMES = ("vae-ldm", "diffwave", "time-diffusion", "time-vqvae")


def joint(name: str, *, start: str = "prior", train: str = "all") -> JointFamily:
    family = family_of(FamilyPlan.model_validate({"name": name, "train": train, "start": start}))
    assert isinstance(family, JointFamily)
    return family


def base(name: str) -> SourceFamily:
    family = class_of(name)()
    assert isinstance(family, SourceFamily)
    return family


def drawn(family: JointFamily, parts: nn.ModuleDict, shape: Shape) -> Tensor:
    noise = torch.randn(2, family.noise_width(shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return family.sample(parts, torch.tensor([0, 1]), noise)


@pytest.mark.parametrize("name", ["diffwave", "time-diffusion", "time-vqvae"])
def test_of_one_channel_the_network_begins_as_the_prior(name: str) -> None:
    """Places and features weigh nothing yet. (A VAE's latents are normalised anew, so that it begins elsewhere.)"""
    family, raw, more = base(name), frame_of(ONE).raw_width, codec_of(ONE).n_features
    narrow, wide = family.source(raw), family.source(raw + more, Signals(1, located=True))
    load(narrow, name=name, modality="eeg")
    inflate(wide, narrow.state_dict())
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, narrow.noise_width(frame_of(ONE).length), generator=generator)
    condition, features = torch.randn(2, raw, generator=generator), torch.randn(2, more, generator=generator)
    with torch.no_grad():
        theirs = narrow.draw(condition, noise, narrow.zero_shifts(2))
        ours = wide.draw(torch.cat([condition, features], dim=1), noise, wide.zero_shifts(2))

    assert torch.allclose(ours[:, 0], theirs, atol=1e-4)


@pytest.mark.parametrize("shape", [pytest.param(PAIR, id="eeg"), pytest.param(LEADS, id="ecg")])
@pytest.mark.parametrize("start", ["prior", "scratch"])
@pytest.mark.parametrize("name", NAMES)
def test_every_layer_that_draws_learns_in_some_phase(name: str, start: str, shape: Shape) -> None:
    family = joint(name, start=start)
    parts = family.build(shape, prior_anchor(shape))
    windows = 30 * torch.randn(4, len(shape.channels), shape.n_times)
    for phase in family.phases:
        noise = torch.randn(4, family.example_noise_width(shape, phase))
        family.example_loss(parts, phase, windows, torch.tensor([0, 1, 0, 1]), noise).sum().backward()
    still = [name for name, parameter in parts.named_parameters() if parameter.grad is None]

    assert not still


@pytest.mark.parametrize("name", NAMES)
def test_low_rank_begins_at_the_prior_and_learns_a_fifth_of_the_numbers(name: str) -> None:
    whole, narrow = joint(name), joint(name, train="low-rank")
    all_of_it, added = (family.build(PAIR, prior_anchor(PAIR)) for family in (whole, narrow))
    sizes = [sum(parameter.numel() for parameter in parts.parameters()) for parts in (all_of_it, added)]

    assert torch.allclose(drawn(whole, all_of_it, PAIR), drawn(narrow, added, PAIR), atol=1e-3)
    assert sizes[1] < 0.2 * sizes[0]


def test_a_low_rank_layer_adds_the_product_of_its_two_layers() -> None:
    layer = nn.Conv1d(3, 5, 3, padding=2, dilation=2)
    alone, flow = layer(torch.ones(1, 3, 9)), torch.ones(1, 3, 9)
    added = LowRank(layer, 2)
    with torch.no_grad():
        added.up.weight.fill_(1.0)  # type: ignore[union-attr]

        assert torch.allclose(added(flow) - alone, added.down(flow).sum(dim=1, keepdim=True).expand(-1, 5, -1))


def test_frozen_layers_are_in_no_message() -> None:
    network = nn.ModuleList([nn.Linear(4, 4), nn.LayerNorm(4)])
    make_low_rank(network, rank=1)

    assert {name.split(".")[1] for name in network.state_dict()} == {"down", "up"}


@pytest.mark.parametrize("shape", [pytest.param(PAIR, id="eeg"), pytest.param(LEADS, id="ecg")])
def test_what_a_network_is_shown_comes_back_as_it_was(shape: Shape) -> None:
    """Of EEG with the window's own features: their gain does nothing. Of ECG with leads that fit together."""
    frame, codec = frame_of(shape), codec_of(shape)
    time = torch.arange(shape.n_times) / shape.sfreq
    waves = [torch.sin(2 * torch.pi * (5 + channel) * time) for channel in range(2)]
    signal = 40 * torch.stack([*waves, waves[1] - waves[0]][: len(shape.channels)])[None]
    signal = signal + 3 * torch.randn(signal.shape, generator=torch.Generator().manual_seed(0))
    signal = (
        signal if shape.modality == "eeg" else torch.cat([signal[:, :2], signal[:, 1:2] - signal[:, :1]], dim=1)
    )
    again = frame.render_together(frame.read_together(signal), codec.features(signal))

    assert float(torch.cosine_similarity(signal.flatten(1), again.flatten(1))) > 0.98
    assert float(again.std() / signal.std()) == pytest.approx(1, rel=0.05)


def test_windows_have_the_powers_that_were_asked_for_on_the_maps() -> None:
    frame, codec, basis = frame_of(PAIR), codec_of(PAIR), spatial_basis(PAIR)
    vector = codec.features(codec.simulate(16))
    waves = torch.randn(16, 2, frame.length, generator=torch.Generator().manual_seed(0))
    windows = frame.render_together(waves, vector)
    got = torch.einsum("mc,wcb->wmb", basis, band_powers(windows, PAIR)) / 2
    asked = torch.einsum("mc,wcb->wmb", basis, band_powers(codec.simulate(16), PAIR)) / 2

    assert float((got - asked).abs().median()) < 0.1


def test_the_body_holds_no_learned_weight() -> None:
    """Registered twice, a layer would travel twice and be averaged apart."""
    parts = joint("vae-ldm").build(PAIR, prior_anchor(PAIR))
    body = parts["body"]
    assert isinstance(body, JointBody)

    assert not list(body.parameters())
    assert set(body.state_dict()) == {f"draw.{name}" for name in body.draw.state_dict()}


def test_adapters_are_what_they_were() -> None:
    assert isinstance(family_of(FamilyPlan(name="vae-ldm")), SourceFamily)


def test_a_study_refuses_low_rank_from_scratch() -> None:
    text = """
name = "tiny"
[signal]
modality = "eeg"
format = "edf"
channels = ["C3"]
sfreq = 100.0
[windows]
n_times = 128
[labels]
names = ["a", "b"]
source = "participants.tsv"
positive = "b"
[privacy]
unit = "subject"
epsilon = 8.0
delta = 1e-5
[family]
name = "vae-ldm"
train = "low-rank"
start = "scratch"
"""
    with pytest.raises(StudyError, match="adds to the public prior"):
        parse_study(text)
