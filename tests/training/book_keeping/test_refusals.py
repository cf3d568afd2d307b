"""What book-keeping must refuse: wherever factors would be a wrong account of a unit's gradient."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from fedsynth.errors import PrivacyError
from fedsynth.training.book_keeping.gradients import factored_gradients, unsupported


class Doubled(nn.Linear):
    """A linear layer with another forward."""

    def forward(self, values: Tensor) -> Tensor:
        return 2 * super().forward(values)


class Scale(nn.Module):
    """A parameter that no known layer holds."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.scale


def tied() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


def overridden() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.forward = lambda values: 2 * F.linear(values, layer.weight, layer.bias)  # type: ignore[method-assign]
    return layer


def frozen() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.weight.requires_grad_(False)
    return layer


UNKNOWN: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "batch norm": (lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), r"1 \(BatchNorm1d\): statistics"),
    "batch norm without parameters": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False)),
        "statistics over windows",
    ),
    "instance norm that keeps statistics": (
        lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
        "statistics over windows",
    ),
    "one weight in two layers": (tied, "parameter 0 in 2 places"),
    "another forward in a subclass": (lambda: Doubled(4, 4), "Doubled"),
    "another forward in an instance": (overridden, "Linear"),
    "a parametrised weight": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "weight.*ParametrizationList"),
    "a weight replaced before each call": (lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), "Linear"),
    "a parameter outside of any layer": (Scale, r"the module itself \(Scale\)"),
    "a recurrent layer": (lambda: nn.GRU(4, 4), "GRU"),
    "an embedding that rescales itself": (lambda: nn.Embedding(3, 4, max_norm=1.0), "Embedding"),
    "an embedding that counts over the batch": (lambda: nn.Embedding(3, 4, scale_grad_by_freq=True), "Embedding"),
    "an embedding of bags": (lambda: nn.EmbeddingBag(3, 4), "EmbeddingBag"),
    "a frozen parameter": (frozen, "parameter 0, frozen"),
}


@pytest.mark.parametrize(("make", "reason"), UNKNOWN.values(), ids=UNKNOWN)
def test_layers_without_a_formula_are_named_and_refused(make: Callable[[], nn.Module], reason: str) -> None:
    module = make()
    parameters = list(module.parameters())

    with pytest.raises(PrivacyError, match=reason):
        factored_gradients(module, parameters, lambda: torch.zeros(2), torch.arange(2))
    assert unsupported(module, parameters)


def test_parameters_must_be_the_modules_and_listed_once() -> None:
    module, stranger = nn.Linear(4, 1), nn.Parameter(torch.ones(2))

    assert unsupported(module, [module.weight, stranger]) == ["parameter 1 in 0 places: no layer of the module"]
    assert unsupported(module, [module.weight, module.weight]) == ["a parameter listed twice"]
    assert unsupported(module, []) == ["no parameter at all"]


def test_everything_that_families_are_built_from_is_supported() -> None:
    module = nn.Sequential(
        nn.Embedding(3, 4), nn.Conv1d(4, 4, 3), nn.GroupNorm(2, 4), nn.LeakyReLU(), nn.Flatten(), nn.Linear(8, 1)
    )

    assert unsupported(module, list(module.parameters())) == []


def test_a_layer_of_anothers_batch_norm_is_no_obstacle() -> None:
    parts = nn.ModuleDict({"critic": nn.Linear(4, 1), "generator": nn.BatchNorm1d(4)})

    assert unsupported(parts["critic"], list(parts["critic"].parameters())) == []


WINDOWS = torch.linspace(-1, 1, 24).view(6, 4)


class Odd(nn.Module):
    """A linear layer, a norm and a head, and ways to go wrong with them."""

    def __init__(self, method: Callable[["Odd", Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.norm, self.head, self.method = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1), method
        self.scaled = nn.GroupNorm(2, 4)

    def forward(self, windows: Tensor) -> Tensor:
        return self.method(self, windows)

    def value(self, windows: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.body(windows))))[:, 0]


def slope_penalty(odd: Odd, windows: Tensor) -> Tensor:
    windows = windows.clone().requires_grad_()
    (slope,) = torch.autograd.grad(odd.value(windows).sum(), windows, create_graph=True)
    return slope.square().sum(dim=1)


def changed_afterwards(odd: Odd, windows: Tensor) -> Tensor:
    windows = windows.clone()
    values = odd.value(windows)
    windows.mul_(2)
    return values


def in_low_precision(odd: Odd, windows: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return odd.value(windows)


MISUSES: dict[str, tuple[Callable[[Odd, Tensor], Tensor], str]] = {
    "a weight used beside its layer": (lambda o, x: o.value(x) + 0.1 * o.body.weight.sum(), "SumBackward"),
    "a weight used instead of its layer": (lambda o, x: o.head(F.linear(x, o.body.weight))[:, 0], "TBackward"),
    "a forward called past the hooks": (lambda o, x: o.head(o.body.forward(x))[:, 0], "through its layer"),
    "a norm called past the hooks": (lambda o, x: o.scaled.forward(o.body(x)).sum(dim=1), "through its layer"),
    "a gradient penalty": (slope_penalty, "through its layer"),
    "two batches joined after the module": (lambda o, x: torch.cat([o.value(x[:2]), o.value(x[2:])]), "6 losses"),
    "another batch added": (lambda o, x: o.value(x) + o.value(torch.cat([x, x])).mean(), "6 losses"),
    "one row for all windows": (lambda o, x: o.value(x) + o.value(x.mean(dim=0, keepdim=True)), "6 losses"),
    "one row for all windows in a norm": (
        lambda o, x: o.value(x) + o.scaled(x.mean(dim=0, keepdim=True))[:, 0],
        "6 losses",
    ),
    "no dimension for windows": (lambda o, x: o.value(x) + o.body(x[0, :4]).sum(), "6 losses"),
    "an input changed afterwards": (changed_afterwards, "changed in place"),
    "a layer in low precision": (in_low_precision, "precision"),
    "losses that are one number": (lambda o, x: o.value(x).mean(), "losses have shape"),
    "losses without parameters": (lambda _, x: x.sum(dim=1), "do not depend"),
}


@pytest.mark.parametrize(("method", "reason"), MISUSES.values(), ids=MISUSES)
def test_parameters_that_act_outside_their_layers_rows_are_refused(
    method: Callable[[Odd, Tensor], Tensor], reason: str
) -> None:
    odd = Odd(method)

    with pytest.raises(PrivacyError, match=reason):
        factored_gradients(odd, list(odd.parameters()), lambda: odd(WINDOWS), torch.arange(6))


def test_an_input_that_has_as_many_features_as_windows_is_no_batch() -> None:
    layer = nn.Linear(6, 6)

    with pytest.raises(PrivacyError, match="6 losses"):
        factored_gradients(layer, list(layer.parameters()), lambda: layer(torch.ones(6)), torch.arange(6))


MIXES: dict[str, Callable[[Odd, Tensor], Tensor]] = {
    "centred over the batch": lambda o, x: o.value(x - x.mean(dim=0)) - o.value(x).mean(),
    "rows in another order": lambda o, x: o.value(x).roll(1),
    "rows in reverse": lambda o, x: o.value(x).flip(0),
    "the greatest of the batch": lambda o, x: torch.logsumexp(o.value(x), dim=0) + 0 * o.value(x),
}


@pytest.mark.parametrize("method", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]])
def test_the_check_finds_rows_that_are_not_independent(
    method: Callable[[Odd, Tensor], Tensor], units: list[int]
) -> None:
    odd = Odd(method).double()
    parameters = list(odd.parameters())

    with pytest.raises(PrivacyError, match="not autograd's"):
        factored_gradients(odd, parameters, lambda: odd(WINDOWS.double()), torch.tensor(units), check=True)


def test_the_check_finds_a_gradient_that_is_changed_on_its_way() -> None:
    odd = Odd(Odd.value)
    odd.body.weight.register_hook(lambda gradient: 2 * gradient)

    with pytest.raises(PrivacyError, match="not autograd's"):
        factored_gradients(odd, list(odd.parameters()), lambda: odd(WINDOWS), torch.arange(6), check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_check_passes_what_is_right(dtype: torch.dtype) -> None:
    odd = Odd(Odd.value).to(dtype)

    factored = factored_gradients(
        odd, list(odd.parameters()), lambda: odd(WINDOWS.to(dtype)), torch.tensor([0, 1, 0, 2, 2, 1]), check=True
    )

    assert torch.isfinite(factored.norms()).all()


@pytest.mark.parametrize(
    "units",
    [
        pytest.param(torch.arange(5), id="too few"),
        pytest.param(torch.arange(6) - 1, id="negative"),
        pytest.param(torch.arange(6.0), id="not whole"),
        pytest.param(torch.arange(6)[:, None], id="two dimensions"),
    ],
)
def test_units_must_number_the_losses(units: Tensor) -> None:
    odd = Odd(Odd.value)

    with pytest.raises(PrivacyError):
        factored_gradients(odd, list(odd.parameters()), lambda: odd(WINDOWS), units)


def test_fast_and_loose_matrix_products_are_refused() -> None:
    odd = Odd(Odd.value)
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(PrivacyError, match="highest"):
            factored_gradients(odd, list(odd.parameters()), lambda: odd(WINDOWS), torch.arange(6))
    finally:
        torch.set_float32_matmul_precision("highest")


def test_hooks_are_gone_after_a_loss_that_fails() -> None:
    critic = nn.Sequential(nn.Linear(4, 4), nn.GroupNorm(2, 4), nn.Linear(4, 1))

    def loss() -> Tensor:
        critic(WINDOWS)
        raise RuntimeError("a window too many")

    with pytest.raises(RuntimeError, match="too many"):
        factored_gradients(critic, list(critic.parameters()), loss, torch.arange(6))
    assert not any(layer._forward_hooks or "forward" in layer.__dict__ for layer in critic.modules())
