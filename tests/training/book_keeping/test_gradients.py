"""Gradients kept as factors: held against autograd one unit at a time, in float64."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn import functional as F

from fedsynth.errors import PrivacyError
from fedsynth.training.book_keeping import kinds as factored_kinds
from fedsynth.training.book_keeping import layers as factored_layers
from fedsynth.training.book_keeping.gradients import factored_gradients

N_WINDOWS = 7
UNITS = {
    "one window each": [0, 1, 2, 3, 4, 5, 6],
    "one window each, shuffled": [4, 0, 6, 2, 1, 5, 3],
    "neighbours": [0, 0, 0, 1, 1, 1, 2],
    "ragged and shuffled, one unit without windows": [4, 0, 1, 0, 4, 0, 2],
    "one unit": [0] * 7,
}
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "linear over time": (lambda: nn.Linear(5, 3), (4, 5)),
    "linear over time and channel": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (3, 9)),
    "conv1d, stride and padding": (lambda: nn.Conv1d(3, 4, 5, stride=2, padding=2), (3, 10)),
    "conv1d, stride leaves a rest": (lambda: nn.Conv1d(3, 4, 3, stride=4), (3, 13)),
    "conv1d, dilation and groups": (lambda: nn.Conv1d(4, 6, 3, dilation=2, groups=2, padding=1), (4, 11)),
    "conv1d, one group per channel": (lambda: nn.Conv1d(4, 4, 3, groups=4, bias=False), (4, 8)),
    "conv1d, same with an even kernel": (lambda: nn.Conv1d(3, 2, 4, padding="same", dilation=3), (3, 15)),
    "conv1d, valid": (lambda: nn.Conv1d(3, 2, 4, padding="valid"), (3, 9)),
    "conv1d, circular": (lambda: nn.Conv1d(3, 2, 3, padding=2, padding_mode="circular"), (3, 9)),
    "conv1d, reflect": (lambda: nn.Conv1d(3, 2, 3, padding=2, stride=2, padding_mode="reflect"), (3, 9)),
    "conv2d": (lambda: nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (2, 7, 6)),
    "conv2d, groups": (lambda: nn.Conv2d(4, 4, 3, groups=2, padding=1), (4, 5, 4)),
    "transposed conv1d": (lambda: nn.ConvTranspose1d(3, 4, 4, stride=2, padding=1), (3, 5)),
    "transposed conv1d, all options": (
        lambda: nn.ConvTranspose1d(4, 6, 3, stride=3, padding=2, output_padding=2, groups=2, dilation=2),
        (4, 5),
    ),
    "transposed conv2d": (
        lambda: nn.ConvTranspose2d(2, 3, (3, 2), stride=(2, 1), output_padding=(1, 0)),
        (2, 3, 4),
    ),
    "group norm": (lambda: nn.GroupNorm(2, 6), (6, 5)),
    "group norm without time": (lambda: nn.GroupNorm(2, 6), (6,)),
    "instance norm": (lambda: nn.InstanceNorm1d(3, affine=True), (3, 6)),
    "instance norm over images": (lambda: nn.InstanceNorm2d(3, affine=True), (3, 4, 3)),
    "layer norm": (lambda: nn.LayerNorm(6), (4, 6)),
    "layer norm over two dimensions": (lambda: nn.LayerNorm((4, 6)), (4, 6)),
    "rms norm": (lambda: nn.RMSNorm(6), (4, 6)),
    "conv3d, by Opacus' sampler": (lambda: nn.Conv3d(2, 3, 2), (2, 3, 3, 2)),
}


class Scored(nn.Module):
    """A layer, and a loss of each window that is curved in the layer's output."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, windows: Tensor) -> Tensor:
        out = self.layer(windows).flatten(1)
        slopes = torch.linspace(-1, 2, out.shape[1], dtype=out.dtype)
        return (slopes * torch.sin(out) + 0.1 * out.square()).sum(dim=1)


class SmallCritic(nn.Module):
    """Labels, convolutions with norms, and a head that is used on two views of each window."""

    def __init__(self) -> None:
        super().__init__()
        self.label = nn.Embedding(3, 2)
        self.body = nn.Sequential(
            nn.Conv1d(2, 6, 5, 2, 2), nn.GroupNorm(3, 6), nn.LeakyReLU(0.2, inplace=True), nn.Conv1d(6, 4, 3, 2, 1)
        )
        self.head = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, windows: Tensor, labels: Tensor) -> Tensor:
        views = [self.body(view).mean(dim=2) for view in (windows, windows.flip(2))]
        return sum(self.head(torch.cat([view, self.label(labels)], dim=1))[:, 0] for view in views)


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters())


def float64_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomised(module: nn.Module) -> nn.Module:
    """Give every parameter, the scales of norms too, a value of its own."""
    for number, parameter in enumerate(module.parameters()):
        parameter.data = float64_normal(*parameter.shape, seed=number + 1) * 0.7
    return module.double()


def one_by_one(parameters: list[nn.Parameter], losses: Tensor, units: Tensor) -> Tensor:
    """Return every unit's gradient of the mean of its losses by autograd, shape (unit, size)."""
    rows = []
    for unit in range(int(units.max()) + 1):
        mine = losses[units == unit]
        mean = mine.mean() if len(mine) else 0.0 * losses.sum()
        gradients = torch.autograd.grad(mean, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(gradients, parameters, strict=True)
        rows.append(torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for g, p in pairs]))
    return torch.stack(rows)


def assert_same(module: nn.Module, loss: Callable[[], Tensor], units: Tensor) -> None:
    parameters = parameters_of(module)
    rows = one_by_one(parameters, loss(), units)
    factors = torch.linspace(-0.5, 2.0, len(rows), dtype=torch.float64)

    factored = factored_gradients(module, parameters, loss, units, check=True)

    assert (factored.n_units, factored.size) == rows.shape
    torch.testing.assert_close(factored.norms(), rows.norm(dim=1), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(factored.weighted_sum(factors), factors @ rows, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS)
@pytest.mark.parametrize("layer", LAYERS)
def test_norms_and_sums_are_those_of_one_unit_at_a_time(layer: str, units: list[int]) -> None:
    make, shape = LAYERS[layer]
    module = randomised(Scored(make()))
    windows = float64_normal(N_WINDOWS, *shape)

    assert_same(module, lambda: module(windows), torch.tensor(units))


@pytest.mark.parametrize("at_once", [1, 200, 2**19])
@pytest.mark.parametrize("method", ["rows", "gram", "outer"])
@pytest.mark.parametrize("layer", [name for name in LAYERS if "norm" not in name and "Opacus" not in name])
def test_every_way_to_the_norms_of_a_weight_agrees(
    layer: str, method: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factored_layers, "_way", lambda _: method)
    monkeypatch.setattr(factored_kinds, "_AT_ONCE", {"cpu": at_once})
    make, shape = LAYERS[layer]
    module = randomised(Scored(make()))
    windows = float64_normal(N_WINDOWS, *shape)

    for units in UNITS.values():
        assert_same(module, lambda: module(windows), torch.tensor(units))


@pytest.mark.parametrize("method", ["rows", "gram", "outer"])
@pytest.mark.parametrize("padding", [None, 1])
@pytest.mark.parametrize("shape", [(N_WINDOWS,), (N_WINDOWS, 4)], ids=["a label", "a sequence"])
def test_an_embedding_counts_equal_tokens_of_a_unit_together(
    shape: tuple[int, ...], padding: int | None, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factored_layers, "_way", lambda _: method)
    module = randomised(Scored(nn.Embedding(3, 4, padding_idx=padding)))
    tokens = torch.arange(math.prod(shape)).view(shape) * 5 % 3

    for units in UNITS.values():
        assert_same(module, lambda: module(tokens), torch.tensor(units))


@given(units=st.lists(st.integers(0, 4), min_size=1, max_size=9), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_a_critic_with_reused_layers_is_exact_for_any_units(units: list[int], seed: int) -> None:
    critic = randomised(SmallCritic())
    windows, labels = float64_normal(len(units), 2, 16, seed=seed), torch.arange(len(units)) % 3

    assert_same(critic, lambda: critic(windows, labels), torch.tensor(units))


def test_a_layer_used_again_on_its_own_output_keeps_its_cross_terms() -> None:
    step = nn.Conv1d(3, 3, 3, stride=2, padding=1)
    module = randomised(Scored(nn.Sequential(step, nn.Tanh(), step, nn.Tanh(), step)))
    windows = float64_normal(N_WINDOWS, 3, 16)

    for units in UNITS.values():
        assert_same(module, lambda: module(windows), torch.tensor(units))


def test_two_losses_and_several_noise_levels_of_a_window_are_one_unit() -> None:
    critic = randomised(SmallCritic())
    windows, labels = float64_normal(4, 2, 16), torch.tensor([0, 1, 2, 0])
    levels = torch.linspace(0.5, 2.0, 3, dtype=torch.float64)
    noisy = torch.cat([windows * level for level in levels])
    units = torch.tensor([0, 1, 1, 2]).repeat(4)

    def loss() -> Tensor:
        values = critic(torch.cat([noisy, windows]), labels.repeat(4))
        return torch.cat([values[:12].square(), -values[12:]])

    assert_same(critic, loss, units)


def test_two_windows_that_agree_are_longer_than_two_that_do_not() -> None:
    layer = nn.Linear(2, 1, bias=False).double()
    windows = torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0], [-3.0, -4.0]], dtype=torch.float64)

    factored = factored_gradients(layer, [layer.weight], lambda: layer(windows)[:, 0], torch.tensor([0, 0, 1, 1]))

    # The mean of (3, 4) and (3, 4), and that of (3, 4) and (-3, -4); a root of summed squares would give 3.5 twice.
    assert factored.norms().tolist() == pytest.approx([5.0, 0.0], abs=1e-12)


def test_parameters_that_the_losses_do_not_reach_count_as_zero() -> None:
    module = nn.ModuleDict({"used": Scored(nn.Linear(3, 2)), "idle": nn.Linear(2, 2)}).double()
    windows = float64_normal(5, 3)

    assert_same(module, lambda: module["used"](windows), torch.arange(5))


def test_some_parameters_may_be_public() -> None:
    critic = randomised(SmallCritic())
    windows, labels, units = float64_normal(5, 2, 16), torch.arange(5) % 3, torch.tensor([0, 1, 1, 2, 0])
    private = [critic.head[2].bias, critic.body[0].weight, critic.body[1].bias]
    rows = one_by_one(private, critic(windows, labels), units)

    factored = factored_gradients(critic, private, lambda: critic(windows, labels), units)

    torch.testing.assert_close(factored.norms(), rows.norm(dim=1), rtol=1e-9, atol=0)
    torch.testing.assert_close(factored.weighted_sum(torch.ones(3)), rows.sum(dim=0), rtol=1e-9, atol=1e-12)


def test_opacus_finds_the_same_gradients_where_units_are_windows() -> None:
    critic = randomised(SmallCritic())
    windows, labels = float64_normal(6, 2, 16), torch.arange(6) % 3
    parameters = parameters_of(critic)
    factored = factored_gradients(critic, parameters, lambda: critic(windows, labels), torch.arange(6))

    critic.body[2].inplace = False  # Opacus' hooks do not stand changes in place
    hooked = GradSampleModule(critic, loss_reduction="sum")
    hooked(windows, labels).sum().backward()
    samples = [p.grad_sample for p in parameters]
    # Opacus keeps one entry for each call of a layer.
    rows = torch.cat([(sum(s) if isinstance(s, list) else s).reshape(6, -1) for s in samples], dim=1)

    torch.testing.assert_close(factored.norms(), rows.norm(dim=1), rtol=1e-9, atol=0)
    factors = torch.linspace(0, 1, 6, dtype=torch.float64)
    torch.testing.assert_close(factored.weighted_sum(factors), factors @ rows, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 1e30])
@pytest.mark.parametrize("n_units", [9, 3])
def test_a_window_that_overflows_spoils_its_own_unit_only(bad: float, n_units: int) -> None:
    torch.manual_seed(0)
    critic = SmallCritic()
    parameters = parameters_of(critic)
    windows, labels, units = torch.randn(9, 2, 16), torch.arange(9) % 3, torch.arange(9) % n_units
    clean = factored_gradients(critic, parameters, lambda: critic(windows, labels), units)
    spoilt = windows.clone()
    spoilt[4, 0, 3] = bad
    factors = torch.ones(n_units)
    factors[units[4]] = 0.0

    factored = factored_gradients(critic, parameters, lambda: critic(spoilt, labels), units)

    others = factors > 0
    assert math.isfinite(bad) or not torch.isfinite(factored.norms()[~others]).any()
    torch.testing.assert_close(factored.norms()[others], clean.norms()[others], rtol=1e-5, atol=0)
    torch.testing.assert_close(factored.weighted_sum(factors), clean.weighted_sum(factors), rtol=1e-4, atol=1e-6)


def test_nobody_left_is_a_sum_of_exact_zeros() -> None:
    critic = SmallCritic()
    windows = torch.full((3, 2, 16), math.nan)
    labels = torch.zeros(3, dtype=torch.int64)

    factored = factored_gradients(critic, parameters_of(critic), lambda: critic(windows, labels), torch.arange(3))

    assert not factored.weighted_sum(torch.zeros(3)).any()


def cancelling(dtype: torch.dtype) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a layer and losses with large inputs that all but cancel over time: Gram matrices lose the rest."""
    layer = nn.Conv1d(2, 3, 3).to(dtype)
    layer.weight.data = float64_normal(3, 2, 3).to(dtype)
    windows = (3000.0 + float64_normal(6, 2, 12)).to(dtype)
    slopes = (-1.0) ** torch.arange(10, dtype=dtype)
    return layer, lambda: (layer(windows) * slopes).sum(dim=(1, 2))


@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]])
def test_products_that_cancel_do_not_hide_a_units_length(units: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored_layers, "_way", lambda _: "gram")
    exact, exact_loss = cancelling(torch.float64)
    truth = one_by_one([exact.weight], exact_loss(), torch.tensor(units)).norm(dim=1)
    layer, loss = cancelling(torch.float32)

    factored = factored_gradients(layer, [layer.weight], loss, torch.tensor(units))

    for unit, length in enumerate(truth):
        alone = factored.weighted_sum(torch.eye(len(truth))[unit]).norm()
        assert alone <= factored.norms()[unit]
        assert float(factored.norms()[unit]) == pytest.approx(float(length), rel=0.05)


def test_without_that_care_gram_matrices_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factored_layers, "_way", lambda _: "gram")
    monkeypatch.setattr("fedsynth.training.book_keeping.gradients._SETTLED", -1.0)
    monkeypatch.setattr("fedsynth.training.book_keeping.gradients._ROUNDING", 0.0)
    exact, exact_loss = cancelling(torch.float64)
    truth = one_by_one([exact.weight], exact_loss(), torch.arange(6)).norm(dim=1)
    layer, loss = cancelling(torch.float32)

    careless = factored_gradients(layer, [layer.weight], loss, torch.arange(6)).norms()

    assert not torch.allclose(careless, truth, rtol=0.1, equal_nan=False)


@given(scale=st.floats(1e-3, 1e6), units=st.lists(st.integers(0, 3), min_size=2, max_size=8))
@settings(max_examples=25, deadline=None)
def test_clipped_by_these_norms_no_unit_moves_the_sum_by_more_than_c(scale: float, units: list[int]) -> None:
    torch.manual_seed(1)
    critic = SmallCritic()
    windows, labels = torch.randn(len(units), 2, 16) * scale, torch.arange(len(units)) % 3
    factored = factored_gradients(
        critic, parameters_of(critic), lambda: critic(windows, labels), torch.tensor(units)
    )
    factors = (1.0 / factored.norms().clamp_min(1e-30)).clamp(max=1.0)

    for unit in range(factored.n_units):
        without = factors.clone()
        without[unit] = 0.0
        moved = factored.weighted_sum(factors).double() - factored.weighted_sum(without).double()
        # The sum itself is in float32: other units' rounding is what is left above C.
        assert float(moved.norm()) <= 1.0 + 1e-6 * factored.n_units


def test_no_window_is_no_unit() -> None:
    critic = SmallCritic()

    def loss() -> Tensor:
        raise AssertionError("there is nothing to run")

    factored = factored_gradients(critic, parameters_of(critic), loss, torch.zeros(0, dtype=torch.int64))

    assert factored.n_units == 0
    assert factored.norms().shape == (0,)
    assert factored.weighted_sum(torch.zeros(0)).tolist() == [0.0] * factored.size


def test_the_module_is_left_as_it_was() -> None:
    critic = SmallCritic()
    parameters = parameters_of(critic)
    before = [p.detach().clone() for p in parameters]
    windows, labels = torch.randn(4, 2, 16), torch.arange(4) % 3

    factored_gradients(critic, parameters, lambda: critic(windows, labels), torch.arange(4))

    assert all(torch.equal(p, q) and p.grad is None for p, q in itertools.zip_longest(parameters, before))
    assert not any(layer._forward_hooks or "forward" in layer.__dict__ for layer in critic.modules())


def test_the_losses_are_those_of_the_module_alone() -> None:
    torch.manual_seed(0)
    critic = SmallCritic()
    windows, labels, seen = torch.randn(4, 2, 16), torch.arange(4) % 3, []

    def loss() -> Tensor:
        seen.append(critic(windows, labels))
        return seen[0]

    factored_gradients(critic, parameters_of(critic), loss, torch.arange(4))

    torch.testing.assert_close(seen[0], critic(windows, labels), rtol=1e-6, atol=1e-7)


def test_factors_must_be_finite_and_one_for_each_unit() -> None:
    layer = nn.Linear(2, 1)
    factored = factored_gradients(
        layer, parameters_of(layer), lambda: F.softplus(layer(torch.ones(3, 2)))[:, 0], torch.arange(3)
    )

    for factors in (torch.ones(2), torch.tensor([1.0, math.nan, 1.0]), torch.tensor([1.0, math.inf, 0.0])):
        with pytest.raises(PrivacyError, match="3 units"):
            factored.weighted_sum(factors)
