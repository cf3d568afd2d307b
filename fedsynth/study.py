"""The study: from `study.toml` to one frozen page that says everything the parties agree on.

A study holds public constants only. Nothing in it may be chosen by looking at the recordings; where somebody
did, that is a disclosure outside the promise (docs/pitfalls.md).
"""

import difflib
import hashlib
import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from fedsynth.condition_plan import ConditionPlan, StatementPlan, Weights, check_conditions
from fedsynth.errors import StudyError
from fedsynth.privacy.gradient_noise import gradient_noise
from fedsynth.privacy.statement import LARGEST_EPSILON
from fedsynth.recording_plan import LabelPlan as LabelPlan
from fedsynth.recording_plan import Modality as Modality
from fedsynth.recording_plan import Name as Name
from fedsynth.recording_plan import Page, RecordingsPlan
from fedsynth.recording_plan import RecordingFormat as RecordingFormat
from fedsynth.recording_plan import SignalPlan as SignalPlan
from fedsynth.recording_plan import WindowPlan as WindowPlan
from fedsynth.recording_plan import rate_ratio as rate_ratio
from fedsynth.toml import dumps

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
CHOICE = "CHOOSE: "
"""What a value begins with that a draft leaves open, with the question that it asks."""
_PLAIN_ROUNDS = 10
MEASURED_FAMILY = "time-diffusion"
"""The family whose layers were trained privately for docs/crossover.md."""
_STEPS_OF_LAYERS = 100
_LOUDEST_GRADIENT = 0.0015  # of the clipping norm, on every coordinate: 10 000 people at half of epsilon 8
_MANY_SITES = 4  # from which one is expected to work against the others
_PEOPLE_PER_DELTA = 10  # delta is at most one tenth of one over the least number of people


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
            return 1 if len(self.sites) >= _MANY_SITES else 0
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
    asked only for the utility of the result. `aggregation` says how the coordinator joins what the sites trained:
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


_MOST_WINDOWS = 1_000_000


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


class Study(Page):
    """Everything the parties agree on before a recording is opened.

    >>> example = Path("examples/bonn/study.toml")
    >>> load_study(example).privacy.unit
    'recording'
    """

    name: Name
    title: str = ""
    signal: SignalPlan
    windows: WindowPlan
    labels: LabelPlan
    conditions: dict[Name, ConditionPlan] = Field(default_factory=dict)
    statements: StatementPlan | None = None
    privacy: PrivacyPlan
    cohort: CohortPlan = CohortPlan()
    family: FamilyPlan
    training: TrainingPlan = Field(default=TrainingPlan(), alias="plan")
    release: ReleasePlan = ReleasePlan()
    recordings: RecordingsPlan = RecordingsPlan()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.signal.format in ("text", "rows") and len(self.signal.channels) != 1:
            raise ValueError(f"{self.signal.format} recordings hold one channel")
        if self.labels.source == "beats" and self.signal.format != "wfdb":
            raise ValueError('labels.source = "beats" needs signal.format = "wfdb": its annotations name the beats')
        asked = self.release.windows_per_label
        if not isinstance(asked, int) and set(asked) != set(self.labels.names):
            raise ValueError(
                f"release.windows_per_label names {', '.join(asked)}; name every label once "
                f"({', '.join(self.labels.names)}), or give one number for all"
            )
        moments = self.training.anchor and self.training.estimator == "moments"
        check_conditions(self.conditions, weights=self.release.conditions)
        if (self.conditions or self.statements) and not moments:
            raise ValueError('conditions and statements need plan.anchor = true and plan.estimator = "moments"')
        largest_delta = 1 / (_PEOPLE_PER_DELTA * self.cohort.least_subjects)
        if self.privacy.is_private and self.privacy.delta > largest_delta:
            raise ValueError(
                f"delta {self.privacy.delta:g} lets a site of {self.cohort.least_subjects} people give somebody "
                f"away with a chance of {self.privacy.delta * self.cohort.least_subjects:.2g}; ask for "
                f"{largest_delta:g} at most"
            )
        if self.privacy.trust == "aggregate":
            if not self.cohort.sites:
                raise ValueError(
                    'trust = "aggregate" needs the sites by name in cohort.sites: they pin one another'
                )
            if len(self.cohort.sites) >= _MANY_SITES and self.cohort.n_dishonest < 1:
                raise ValueError(
                    f"among {len(self.cohort.sites)} sites one may work with the coordinator, or be run by it; "
                    "cohort.dishonest must be 1 or more"
                )
            if self.training.order == "sequential":
                raise ValueError(
                    'plan.order = "sequential" shows the coordinator what each site made of the parts, which '
                    'trust = "aggregate" hides; use order = "averaged" or trust = "site"'
                )
            if self.training.aggregation != "mean":
                raise ValueError(
                    f'plan.aggregation = "{self.training.aggregation}" looks at each site\'s parts, which '
                    'trust = "aggregate" hides; use "mean"'
                )
        return self

    @property
    def windows_by_label(self) -> tuple[int, ...]:
        """How many windows of each label are released, in the order of `labels.names`."""
        asked = self.release.windows_per_label
        names = self.labels.names
        return (asked,) * len(names) if isinstance(asked, int) else tuple(asked[name] for name in names)

    @property
    def strata(self) -> tuple[int, ...]:
        """How many values each condition has; a stratum is a combination of values."""
        return tuple(len(plan.names) for plan in self.conditions.values())

    @property
    def n_statements(self) -> int:
        """How many statements a recording may bear or not."""
        return len(self.statements.names) if self.statements else 0

    @property
    def condition_values(self) -> dict[str, tuple[str, ...]]:
        """The names of every condition's values."""
        return {name: plan.names for name, plan in self.conditions.items()}

    @property
    def learns_plainly(self) -> bool:
        """Whether layers learn by ordinary minibatches: nothing is promised, and more than adapters learn."""
        return self.family.train != "adapters" and not self.privacy.is_private

    @property
    def n_rounds(self) -> int:
        """Rounds of private training; "auto" spends on gradients only where public facts promise a gain.

        With an anchor that is where every layer of a measured family learns and noise is low (`gradients_pay`): as
        many rounds as make a hundred steps. Adapters and low-rank additions gained nothing at any size
        (docs/crossover.md). Without privacy layers learn in ten rounds; one site after the other trains once.
        """
        rounds = self.training.rounds
        if rounds != "auto":
            return rounds
        if self.training.order == "sequential":
            return 1
        if self.learns_plainly:
            return _PLAIN_ROUNDS
        if not self.training.anchor:
            return 2
        pays = self.family.train == "all" and self.family.name == MEASURED_FAMILY and self.gradients_pay()
        return math.ceil(_STEPS_OF_LAYERS / self.training.local_steps) if pays else 0

    def gradients_pay(self, *, gradient_share: float | None = None) -> bool:
        """Whether layers that learn privately gain what no sum asks for, from public facts (docs/crossover.md).

        Args:
            gradient_share: of epsilon, instead of the study's.
        """
        cohort, privacy = self.cohort, self.privacy
        sites = (len(cohort.sites) or cohort.least_sites) if privacy.trust == "aggregate" else 1
        noise = gradient_noise(
            epsilon=privacy.epsilon * (gradient_share or self.training.gradient_share),
            delta=privacy.delta,
            sampling_probability=self.training.sampling_probability,
            steps=_STEPS_OF_LAYERS,
            units=cohort.expected_units * sites,
        )
        return noise <= _LOUDEST_GRADIENT

    def to_plain(self) -> dict[str, Any]:
        """Return the effective configuration (defaults filled in) as plain data, with the keys of its file."""
        return self.model_dump(mode="json", by_alias=True)

    def to_toml(self) -> str:
        """Return the text of a study file with every default filled in; parsed again, it has the same digest."""
        return dumps(self.model_dump(by_alias=True))

    @property
    def digest(self) -> str:
        """SHA-256 of the effective configuration (defaults filled in), as 64 hexadecimal digits."""
        return hashlib.sha256(canonical(self.to_plain()).encode()).hexdigest()


def canonical(value: Any) -> str:
    """Write plain data as JSON in one way only: sorted keys, no spaces, infinity as a word.

    >>> canonical({"b": 1, "a": (0.5, math.inf)})
    '{"a":[0.5,"inf"],"b":1}'
    """
    return json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def load_study(path: Path) -> Study:
    """Read a study file.

    Raises:
        StudyError: unreadable, not TOML, a choice that is left open, an unknown key (the likely one is named), a
            wrong type or value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = (
            "is a folder; name the study.toml in it"
            if path.is_dir()
            else (
                f"no study can be read there ({type(error).__name__}); name a study.toml, or draft one: "
                "fedsynth init RECORDINGS"
            )
        )
        raise StudyError(f"{path}: {what}") from error
    return parse_study(text, source=str(path))


def parse_study(text: str, *, source: str = "study") -> Study:
    """Read a study from TOML text; `source` is how errors name it.

    Raises:
        StudyError: as `load_study`.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyError(
            f"{source}: not valid TOML: {error}; correct it (docs/study.md has an example). Nothing was opened"
        ) from error
    if choices := dict(_open_choices(raw)):
        said = "; ".join(f"{key}: {question}" for key, question in choices.items())
        many = "1 choice is" if len(choices) == 1 else f"{len(choices)} choices are"
        raise StudyError(f"{source}: {many} left open. {said}. Answer in the file; nothing was opened")
    try:
        return Study.model_validate_json(json.dumps(raw, default=str, allow_nan=True))
    except ValidationError as error:
        raise StudyError(f"{source}: {_explain(error)}. Nothing was opened") from error


def _open_choices(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the keys of a draft's open choices, and their questions."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _open_choices(item, f"{key}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for item in value:
            yield from _open_choices(item, key)
    elif isinstance(value, str) and value.startswith(CHOICE):
        yield key, value.removeprefix(CHOICE)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _explain(error: ValidationError) -> str:
    """Put the first failure into one sentence a study's author can act on."""
    # A key that is unknown explains the one that is missing, so it comes first.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in first["loc"])
    rest = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        table, key = first["loc"][:-1], str(first["loc"][-1])
        close = difflib.get_close_matches(key, _keys(table), n=1, cutoff=0.5)
        known = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(_keys(table))}"
        return f"unknown key {where!r}; {known}{rest}"
    if first["type"] == "missing":
        return f"{where!r} is missing{rest}"
    said = first["msg"].removeprefix("Value error, ")
    if not where:
        return f"{said}{rest}"
    found = first["input"]
    shown = f"; found {found!r}" if isinstance(found, str | int | float | bool) else ""
    return f"{where!r}: {said[0].lower()}{said[1:]}{shown}{rest}"


def _keys(table: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = Study
    for part in table:
        named = {field.alias or name: field for name, field in model.model_fields.items()}
        annotation = named[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return [field.alias or name for name, field in model.model_fields.items()]
