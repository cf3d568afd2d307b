"""The pages of a study that say what is promised to whom, who takes part, what learns, and what is drawn."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from fedsynth.condition_plan import Weights
from fedsynth.privacy.statement import LARGEST_EPSILON
from fedsynth.recording_plan import Name, Page

PrivacyUnit = Literal["subject", "recording", "window"]
Trust = Literal["site", "aggregate"]
EstimatorName = Literal["moments", "mean-embedding", "evolution"]
"""The way from private sums to the anchor; one more is a row in `fedsynth/anchors/estimator.py`."""
Train = Literal["adapters", "low-rank", "all"]
"""What of a family learns in rounds of gradients."""
Order = Literal["averaged", "sequential"]
"""How hospitals share what they train: all at once and averaged, or one after the other."""
Start = Literal["prior", "scratch"]
"""Where layers begin that learn."""
MANY_SITES = 4
"""From so many sites on one is expected to work against the others."""
_MOST_WINDOWS = 1_000_000


class PrivacyPlan(Page):
    """The promise that is asked for: epsilon and delta per unit, add-or-remove adjacency, and whom to trust.

    With `trust = "site"` every site adds the full noise. With `trust = "aggregate"` sites add shares of it, and
    secure aggregation shows the coordinator nothing but totals.

    `epsilon = inf` trains without privacy; such a run can be rehearsed but never released. Above
    `LARGEST_EPSILON` nothing is called private.
    """

    unit: PrivacyUnit
    epsilon: float = Field(gt=0)
    delta: float = Field(ge=1e-10, le=1e-3)
    trust: Trust = "site"

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if LARGEST_EPSILON < self.epsilon < math.inf:
            raise ValueError(
                f"epsilon {self.epsilon:g} promises nothing that deserves the name; ask for {LARGEST_EPSILON:g} at "
                "most, or for inf to rehearse without privacy"
            )
        return self

    @property
    def is_private(self) -> bool:
        """Whether anything is promised at all."""
        return math.isfinite(self.epsilon)


class CohortPlan(Page):
    """Which sites take part. `expected_units` is a public guess at the units one site trains on.

    With `sites` empty, every folder beside each other takes part. `expected_units` chooses the anchor's constants
    and steps and the size of gradient batches; it is declared, never counted. `dropouts` and `dishonest` matter to
    secure aggregation: how many sites may fail to answer in a step, and how many may tell the coordinator all they
    know, before the promise of the others is weakened; a coordinator that runs a site of its own is one. With four
    sites or more that is at least 1, and 1 if nothing is said.
    """

    sites: tuple[Name, ...] = ()
    least_sites: int = Field(default=2, ge=1, le=1000)
    least_subjects: int = Field(default=10, ge=1)
    expected_units: int = Field(default=100, ge=1)
    dropouts: int = Field(default=0, ge=0)
    dishonest: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("a site is listed twice")
        if self.sites and len(self.sites) < self.least_sites:
            raise ValueError(f"{len(self.sites)} sites are listed, but least_sites is {self.least_sites}")
        return self

    @property
    def n_dishonest(self) -> int:
        """How many sites may tell the coordinator all they know; what follows where the study says nothing."""
        if self.dishonest is None:
            return 1 if len(self.sites) >= MANY_SITES else 0
        return self.dishonest


class FamilyPlan(Page):
    """The generator family and its hyperparameters (checked by the family itself).

    `train` says what of the family learns in rounds: "adapters" a few numbers for each label (of a GAN everything,
    around the anchor's windows), "low-rank" a narrow addition to every layer, "all" every layer, jointly over
    channels. `start` is where layers begin: at the public prior or "scratch".
    """

    name: Name
    train: Train = "adapters"
    start: Start = "prior"
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.train != "all" and self.start == "scratch":
            raise ValueError(
                f'train = "{self.train}" adds to the public prior; use start = "prior" or train = "all"'
            )
        return self


def _private_step(value: Any) -> Any:
    """Accept "together", the word of version 0.1 for "batched"."""
    return "batched" if value == "together" else value


class TrainingPlan(Page):
    """How rounds are cut and how epsilon is shared; public constants.

    `estimator` is the way from private sums to the anchor. `gradient_share` is the part of epsilon that DP-SGD may
    spend; the anchor takes what remains. With `rounds = 0` nothing is spent on gradients; "auto" leaves it to
    `Study.n_rounds`. `held_out` is the fraction of units that never train and are
    asked only for the utility of the result. With `responses` random convolutions are asked how they respond, where
    noise is low. `aggregation` says how the coordinator joins what the sites trained:
    all but the mean bear some sites that send nonsense (Yin et al. 2018; Blanchard et al. 2017). Where layers learn
    without privacy, a site takes `minibatch_steps` steps of `minibatch_windows` windows for each phase, over all
    rounds. With `order = "sequential"` one site after the other trains what the last one left, once, and
    `consolidation` is the strength of what holds weights that mattered at earlier sites: every site but the last
    then says one more private sum for each phase (`fedsynth.training.consolidation`). `private_step` is
    "isolated" where every unit's gradient is taken alone, and "batched" where many are taken at once: faster with
    few windows per unit, and safe only where the coordinator sends the parameters that training led to.
    """

    anchor: bool = True
    estimator: EstimatorName = "moments"
    rounds: Annotated[int, Field(ge=0, le=1000)] | Literal["auto"] = "auto"
    local_steps: int = Field(default=30, ge=1, le=100_000)
    sampling_probability: float = Field(default=0.2, gt=0, le=1)
    gradient_share: float = Field(default=0.25, gt=0, lt=1)
    gradient_clip: float = Field(default=1.0, ge=1e-4, le=1e4)
    minibatch_steps: int = Field(default=3000, ge=1, le=1_000_000)
    minibatch_windows: int = Field(default=64, ge=1, le=4096)
    held_out: float = Field(default=0.2, ge=0.05, le=0.5)
    responses: bool = True
    aggregation: Literal["mean", "trimmed-mean", "median", "krum"] = "mean"
    order: Order = "averaged"
    consolidation: float = Field(default=0.0, ge=0, le=1e9)
    private_step: Annotated[Literal["isolated", "batched"], BeforeValidator(_private_step)] = "isolated"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.anchor and self.rounds == 0:
            raise ValueError("without an anchor and without rounds nothing would be learned")
        if self.order == "averaged" and self.consolidation:
            raise ValueError(
                'consolidation holds what earlier sites learned, and with order = "averaged" none is earlier; use '
                'order = "sequential", or consolidation = 0'
            )
        if self.order == "sequential" and self.rounds not in ("auto", 1):
            raise ValueError(
                f'with order = "sequential" every site trains once, and rounds is {self.rounds}; use rounds = 1, '
                'or order = "averaged"'
            )
        if self.order == "sequential" and self.aggregation != "mean":
            raise ValueError(
                f'with order = "sequential" nothing is joined, and aggregation is "{self.aggregation}"; '
                "leave it out"
            )
        return self


def _window_counts(value: Any) -> Any:
    """Refuse what is neither a number of windows nor a table of them, in one sentence for both."""
    counts = tuple(value.values()) if isinstance(value, dict) else (value,)
    if not all(type(count) is int and 1 <= count <= _MOST_WINDOWS for count in counts):
        raise ValueError(f"give a whole number from 1 to {_MOST_WINDOWS}, or a table of such numbers by label")
    return value


class ReleasePlan(Page):
    """What is drawn. `draw_seed` makes the drawing repeatable; it has nothing to do with privacy noise.

    `windows_per_label` is one number for all labels, or one for each by its name, so that a rare one can be filled.
    `conditions` are weights of values by condition and value; a condition that is not named is drawn as counted.
    """

    windows_per_label: Annotated[int | dict[str, int], BeforeValidator(_window_counts)] = 2000
    windows_per_subject: int = Field(default=25, ge=1, le=10_000)
    conditions: Weights = Field(default_factory=dict)
    draw_seed: int = Field(default=1, ge=0)
    license: Literal["CC0-1.0", "CC-BY-4.0"] = "CC0-1.0"
    publisher: str = "fedsynth rehearsal"
