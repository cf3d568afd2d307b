"""How beats follow one another: what is measured, what a unit may say, and what windows have of it in the end."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedsynth.anchors.anchor import prior_anchor
from fedsynth.anchors.estimator import beat_series_of
from fedsynth.anchors.moments.beat_series import BeatSeries
from fedsynth.families.beat_series import SequencedBeats
from fedsynth.modalities.ecg.features import measure
from fedsynth.modalities.registry import beat_series, beat_series_added, n_beat_series, usual_beat_series
from fedsynth.modalities.shape import Shape

HEART = Shape(("I", "II"), 600, 100.0, (0.5, 40.0), 2, "ecg", every_lead=True)
T_VARIANCE, T_COVARIANCE, P_VARIANCE, P_STEP, P_PLACE = range(5)
SIZES = slice(6, 8)
SECONDS = 0.04


def hearts(count: int, *, t_sizes: str = "same", pr_grows: bool = False) -> Tensor:
    """Return beats of 0.8 s whose T waves alternate or change by chance, and whose P waves may move by 35 ms."""
    rng, time, out = np.random.default_rng(0), np.arange(600) / 100, []
    for _ in range(count):
        window, at, beat = rng.normal(size=600), rng.uniform(-0.3, 0.3), int(rng.integers(0, 4))
        while at < 6.5:
            factor = {"same": 1.0, "alternate": 0.5 + beat % 2, "chance": 0.5 + rng.integers(0, 2)}[t_sizes]
            places = ((-0.16 - 0.035 * (beat % 4) * pr_grows, 100, 0.022), (0.0, 1000, 0.011))
            for after, height, width in (*places, (0.26, 250 * factor, 0.045)):
                window = window + height * np.exp(-0.5 * ((time - at - after) / width) ** 2)
            at, beat = at + 0.8, beat + 1
        out.append(np.stack([window, 0.5 * window]))
    return torch.from_numpy(np.stack(out).astype(np.float32))


def test_alternating_t_waves_have_a_negative_covariance_and_the_variance_of_those_by_chance() -> None:
    same, alternate, chance = (
        beat_series(hearts(60, t_sizes=kind), HEART).mean(dim=0) for kind in ("same", "alternate", "chance")
    )

    assert float(same[T_VARIANCE]) < 0.01
    assert float(alternate[T_COVARIANCE]) == pytest.approx(-float(alternate[T_VARIANCE]), rel=0.1)
    assert float(chance[T_VARIANCE]) > 0.1
    assert abs(float(chance[T_COVARIANCE])) < 0.5 * float(chance[T_VARIANCE])


def test_p_waves_that_come_earlier_from_beat_to_beat_have_a_step_and_are_not_lost() -> None:
    still, moving = (beat_series(hearts(60, pr_grows=grows), HEART).mean(dim=0) for grows in (False, True))

    assert float(still[P_STEP]) == pytest.approx(0, abs=0.05)
    assert float(still[P_PLACE]) == pytest.approx(0.16 / SECONDS, abs=0.25)
    assert float(moving[P_STEP]) == pytest.approx(0.035 / SECONDS, abs=0.15)
    # Of places 0, 1, 2 and 3 times 35 ms.
    assert float(moving[P_VARIANCE]) == pytest.approx(1.25 * (0.035 / SECONDS) ** 2, rel=0.3)
    assert moving[SIZES].tolist() == pytest.approx([1.0, 0.5], rel=0.25)


@pytest.mark.parametrize("kind", ["alternate", "chance"])
def test_windows_get_the_t_waves_that_are_asked_for(kind: str) -> None:
    wanted = beat_series(hearts(60, t_sizes=kind), HEART).mean(dim=0)
    plain = hearts(60)
    # With T alone: P stays where its place is said to be unknown.
    numbers = torch.zeros(len(wanted))
    numbers[T_VARIANCE], numbers[T_COVARIANCE], numbers[P_VARIANCE] = *wanted[:2].tolist(), 2.0
    made = beat_series(plain + beat_series_added(plain, numbers.expand(60, -1), HEART), HEART).mean(dim=0)

    assert float(made[T_VARIANCE]) == pytest.approx(float(wanted[T_VARIANCE]), rel=0.35)
    assert (float(made[T_COVARIANCE]) < -0.6 * float(made[T_VARIANCE])) == (kind == "alternate")


def test_what_beats_differ_by_takes_the_place_of_noise_between_them() -> None:
    """A recording's T waves that alternate are part of what its median beat leaves, and so of its noise."""
    numbers = beat_series(hearts(60, t_sizes="alternate"), HEART)
    numbers[:, P_VARIANCE] = 2.0
    noise = 200 * torch.randn(60, 2, 600, generator=torch.Generator().manual_seed(0))
    noise = torch.nn.functional.avg_pool1d(noise, 9, stride=1, padding=4)
    plain = hearts(60) + noise
    made = plain + beat_series_added(plain, numbers, HEART)
    before, after = (measure(some, HEART).powers.mean(dim=0) for some in (plain, made))

    assert bool(((after - before).abs() < 0.08).all())


def test_windows_get_the_p_waves_that_are_asked_for() -> None:
    wanted = beat_series(hearts(60, pr_grows=True), HEART).mean(dim=0)
    plain = hearts(60)
    made = beat_series(plain + beat_series_added(plain, wanted.expand(60, -1), HEART), HEART).mean(dim=0)

    assert float(made[P_STEP]) == pytest.approx(float(wanted[P_STEP]), rel=0.35)
    assert made[SIZES].tolist() == pytest.approx(wanted[SIZES].tolist(), rel=0.3)


@pytest.mark.parametrize("step", [0.0, 0.9], ids=["in no label", "in another label"])
def test_p_waves_are_drawn_anew_only_where_they_move_in_some_label(step: float) -> None:
    numbers = beat_series(hearts(60), HEART).mean(dim=0).repeat(2, 1)
    numbers[:, P_VARIANCE] = 0.1
    numbers[:, SIZES] *= 2
    numbers[1, P_STEP] = step
    anchor = replace(prior_anchor(HEART), beats=numbers.to(torch.float64))
    plain, labels = hearts(20), torch.zeros(20, dtype=torch.long)
    larger = beat_series(SequencedBeats(HEART, anchor)(labels, plain), HEART).mean(dim=0)[SIZES]
    before = beat_series(plain, HEART).mean(dim=0)[SIZES]

    assert (larger / before).tolist() == pytest.approx([2.0, 2.0] if step else [1.0, 1.0], rel=0.2)


@pytest.mark.parametrize(
    "odd",
    [torch.zeros(4, 2, 600), 1e9 * torch.ones(4, 2, 600), torch.eye(600)[:4, None].repeat(1, 2, 1)],
    ids=["silence", "enormous", "one sample"],
)
def test_windows_without_beats_give_finite_numbers_and_are_left_finite(odd: Tensor) -> None:
    numbers = beat_series(odd, HEART)

    assert torch.isfinite(numbers).all()
    assert torch.isfinite(beat_series_added(odd, numbers, HEART)).all()


def test_no_unit_brings_more_than_its_bound() -> None:
    stage = BeatSeries(radius=0.1)
    for signal in (hearts(6, t_sizes="alternate"), 1e9 * hearts(6), torch.zeros(6, 2, 600)):
        for labels in (torch.zeros(6, dtype=torch.long), torch.arange(6) % 2):
            row = stage.contribution(HEART, signal=signal, labels=labels)

            assert row.shape == (2, n_beat_series(HEART))
            assert float(row.norm()) <= stage.request(HEART).clipping_norm * (1 + 1e-9)


def test_enormous_noise_leaves_the_decoder_s_own_beats() -> None:
    stage = BeatSeries()
    anchor = stage.prior(prior_anchor(HEART), HEART)
    anchor.counts.fill_(20.0)
    size = n_beat_series(HEART)
    rows = 1e5 * torch.randn(2, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    after = stage.advance(anchor, HEART, rows=rows, noise_std=1e5).beats
    assert after is not None

    assert float((after - usual_beat_series(HEART)).abs().max()) < 0.05


def test_an_anchor_that_was_not_asked_leaves_windows_bit_for_bit() -> None:
    windows = hearts(3)

    assert SequencedBeats(HEART, prior_anchor(HEART))(torch.zeros(3, dtype=torch.long), windows) is windows


@pytest.mark.parametrize(
    ("shape", "noise", "asked"),
    [
        pytest.param(HEART, 0.0, True, id="no noise"),
        pytest.param(HEART, 0.009, True, id="little"),
        pytest.param(HEART, 0.011, False, id="few people: what was asked before"),
        pytest.param(replace(HEART, centred=True), 0.0, False, id="single beats"),
        pytest.param(replace(HEART, n_times=300), 0.0, False, id="too short for several beats"),
        pytest.param(replace(HEART, modality="eeg", channels=("C3", "C4")), 0.0, False, id="EEG"),
    ],
)
def test_what_is_asked_follows_from_public_facts(shape: Shape, noise: float, asked: bool) -> None:
    assert (beat_series_of(shape, noise=noise) is not None) is asked


@pytest.mark.parametrize("noise", [0.0097, 0.007, 0.003, 0.0005])
def test_a_wider_bound_brings_no_more_noise_than_the_least_one_may(noise: float) -> None:
    stage = beat_series_of(HEART, noise=noise)

    assert stage is not None
    assert BeatSeries().radius <= stage.radius <= 1.42 * n_beat_series(HEART) ** 0.5
    assert stage.radius * noise <= 0.02


def test_where_noise_is_low_usual_beats_are_not_cut() -> None:
    stage = beat_series_of(HEART, noise=0.0007)
    assert stage is not None
    for pr_grows in (False, True):
        signal, labels = hearts(40, pr_grows=pr_grows), torch.zeros(2, dtype=torch.long)
        units = [stage.contribution(HEART, signal=pair, labels=labels)[0] for pair in signal.split(2)]
        found = torch.stack(units).mean(dim=0) + usual_beat_series(HEART)

        assert found.tolist() == pytest.approx(beat_series(signal, HEART).mean(dim=0).tolist(), abs=0.02)


def test_what_is_added_stays_within_the_band_and_limb_leads_agree() -> None:
    shape = replace(HEART, channels=("I", "II", "III"))
    two = hearts(40)
    plain = torch.cat([two, two[:, 1:] - two[:, :1]], dim=1)
    wanted = beat_series(hearts(40, t_sizes="alternate", pr_grows=True), HEART).mean(dim=0)
    numbers = torch.cat([wanted, wanted[-1:]])  # one more lead, one more size of P

    added = beat_series_added(plain, numbers.expand(40, -1), shape)

    spectrum = torch.fft.rfft(added * torch.hann_window(600)).abs().square()
    beyond = torch.fft.rfftfreq(600, 0.01) > 45
    assert float(added.abs().max()) > 20
    assert float(spectrum[..., beyond].mean() / spectrum.mean()) < 1e-5
    assert torch.allclose(added[:, 2], added[:, 1] - added[:, 0], atol=1e-2)
