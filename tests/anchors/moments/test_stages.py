"""What every stage of a moments estimator promises: rows as announced, within the bound; and leaky ones that fail.

Vectors and anchors are made up, so that nothing but the stage itself keeps a contribution short.
"""

import math
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedsynth.anchors import estimator as presets
from fedsynth.anchors.anchor import Anchor
from fedsynth.anchors.moments import components, log_variances, means, products
from fedsynth.anchors.moments.components import Components
from fedsynth.anchors.moments.estimator import Moments, Stage
from fedsynth.anchors.moments.log_variances import LogVariances
from fedsynth.anchors.moments.means import CountsAndMeans
from fedsynth.anchors.moments.second_moments import SecondMoments, SecondMomentsByPart
from fedsynth.anchors.moments.subjects import OwnProducts, Ratios
from fedsynth.modalities.registry import codec_of
from fedsynth.modalities.shape import Shape

EEG = Shape(("C3", "C4"), 128, 100.0, (1.0, 30.0), 2, modality="eeg")
ECG = Shape(("II",), 600, 100.0, (0.5, 40.0), 3, "ecg")
SHAPES = [pytest.param(EEG, id="eeg"), pytest.param(ECG, id="ecg")]
STAGES = [
    pytest.param(CountsAndMeans(), id="counts and means"),
    pytest.param(SecondMoments(product_weight=2.0), id="second moments"),
    pytest.param(SecondMomentsByPart(core_weight=0.3), id="second moments by part"),
    pytest.param(SecondMoments(own=OwnProducts()), id="second moments, own products"),
    pytest.param(
        SecondMomentsByPart(product_weight=2.0, core_weight=0.3, own=Ratios(), reach=True), id="ratios and reach"
    ),
    pytest.param(LogVariances(radius=0.4), id="log variances"),
    pytest.param(Components(axes=1), id="two components"),
    pytest.param(Components(axes=2, radius=0.75), id="four components"),
]
PRESETS = {name: value for name, value in vars(presets).items() if isinstance(value, Moments)}


def room(stage: Stage) -> float:
    """Return how far beyond its bound a contribution may go: by the squares of a unit's own mean, a thirtieth."""
    counted = not isinstance(stage, SecondMoments) or isinstance(stage.own, Ratios)
    return 1 + 1e-9 if counted else 1.04


def any_anchor(shape: Shape, seed: int) -> Anchor:
    """Return an anchor such as no sums need have made: the coordinator may send any."""
    generator, size = torch.Generator().manual_seed(seed), codec_of(shape).n_features
    root = torch.randn(shape.n_labels, 4, size, size, generator=generator, dtype=torch.float64)
    return Anchor(
        counts=torch.ones(shape.n_labels, dtype=torch.float64),
        noise_variance=torch.zeros(shape.n_labels, dtype=torch.float64),
        weights=torch.full((shape.n_labels, 4), 0.25, dtype=torch.float64),
        means=4 * torch.randn(shape.n_labels, 4, size, generator=generator, dtype=torch.float64),
        covariances=root @ root.mT / size,
        between=0.5 * torch.eye(size, dtype=torch.float64).expand(shape.n_labels, -1, -1),
        component_correlation=torch.ones(shape.n_labels, dtype=torch.float64),
        done=1,
    )


def adverse(shape: Shape, seed: int, *, windows: int, size: float, mixed: bool) -> tuple[Tensor, Tensor]:
    """Return vectors of any size, one of them along a single axis, and labels."""
    generator = torch.Generator().manual_seed(seed)
    vector = size * torch.randn(windows, codec_of(shape).n_features, generator=generator, dtype=torch.float64)
    vector[0, 1:] = 0
    labels = torch.arange(windows) % shape.n_labels if mixed else torch.zeros(windows, dtype=torch.long)
    return vector, labels


def length(stage: Stage, shape: Shape, vector: Tensor, labels: Tensor, *, seed: int = 0) -> float:
    """Return how long a contribution is beside the bound of its sum."""
    rows = stage.contribution(any_anchor(shape, seed), shape, vector=vector, labels=labels)
    assert rows.shape == (shape.n_labels, stage.size(shape))
    return float(rows.norm()) / stage.request(shape).clipping_norm


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", STAGES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**20), exponent=st.floats(-3, 8), windows=st.integers(1, 5), mixed=st.booleans())
def test_no_vector_and_no_anchor_bring_a_contribution_beyond_its_bound(
    stage: Stage, shape: Shape, seed: int, exponent: float, windows: int, mixed: bool
) -> None:
    vector, labels = adverse(shape, seed, windows=windows, size=10.0**exponent, mixed=mixed)

    assert length(stage, shape, vector, labels, seed=seed) <= room(stage)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stage", STAGES)
def test_huge_windows_of_one_label_come_near_the_bound(stage: Stage, shape: Shape) -> None:
    """A bound that nobody comes near would waste the budget. Products of EEG's waveform are squares alone."""
    vector, labels = adverse(shape, 1, windows=4, size=1e7, mixed=False)

    assert length(stage, shape, vector[1:2].expand(4, -1), labels) > 0.65


@pytest.mark.parametrize(
    ("module", "stage"),
    [
        pytest.param(means, CountsAndMeans(), id="counts and means"),
        pytest.param(products, SecondMoments(), id="second moments"),
        pytest.param(products, SecondMomentsByPart(), id="second moments by part"),
        pytest.param(log_variances, LogVariances(), id="log variances"),
        pytest.param(components, Components(), id="components, means"),
        pytest.param(products, Components(), id="components, products"),
    ],
)
def test_the_bound_fails_for_a_stage_that_cuts_nothing(
    module: ModuleType, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    vector, labels = adverse(ECG, 0, windows=3, size=1e6, mixed=False)
    monkeypatch.setattr(module, "within", lambda vector, _: vector)

    assert length(stage, ECG, vector, labels) > room(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_label_without_windows_gets_a_row_of_zeros(stage: Stage) -> None:
    vector, labels = adverse(EEG, 2, windows=3, size=1.0, mixed=False)

    rows = stage.contribution(any_anchor(EEG, 2), EEG, vector=vector, labels=labels)

    assert float(rows[0].abs().max()) > 0
    assert float(rows[1].abs().max()) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_rows_hold_the_same_for_windows_in_any_order(stage: Stage) -> None:
    vector, labels = adverse(EEG, 3, windows=5, size=1.0, mixed=True)
    anchor = any_anchor(EEG, 3)

    rows = stage.contribution(anchor, EEG, vector=vector, labels=labels)
    turned = stage.contribution(anchor, EEG, vector=vector.flip(0), labels=labels.flip(0))

    assert torch.allclose(rows, turned, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_the_stages_of_a_preset_share_the_budget(name: str) -> None:
    requests = PRESETS[name].requests(EEG)

    assert math.fsum(request.weight for request in requests) == pytest.approx(1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_counts_first_and_has_room_for_its_components(name: str) -> None:
    first, *others = PRESETS[name].stages
    numbers = [stage.number for stage in others if isinstance(stage, Components)]

    assert isinstance(first, CountsAndMeans)
    assert PRESETS[name].prior(EEG).weights.shape == (2, *(numbers or [1]))


def test_a_codec_without_parts_gets_second_moments_of_everything() -> None:
    whole, by_part = SecondMoments(), SecondMomentsByPart()

    assert by_part.asked(EEG) == whole.asked(EEG)
    assert [products.features for products in by_part.asked(ECG)] == list(codec_of(ECG).parts)
    assert [products.features for products in whole.asked(ECG)] == [codec_of(ECG).core, codec_of(ECG).n_features]
