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
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from fedsynth.condition_plan import ConditionPlan, StatementPlan, check_conditions
from fedsynth.errors import StudyError
from fedsynth.privacy.gradient_noise import gradient_noise
from fedsynth.recording_plan import LabelPlan as LabelPlan
from fedsynth.recording_plan import Modality as Modality
from fedsynth.recording_plan import Name as Name
from fedsynth.recording_plan import Page, RecordingsPlan
from fedsynth.recording_plan import RecordingFormat as RecordingFormat
from fedsynth.recording_plan import SignalPlan as SignalPlan
from fedsynth.recording_plan import WindowPlan as WindowPlan
from fedsynth.recording_plan import rate_ratio as rate_ratio
from fedsynth.toml import dumps
from fedsynth.training_plan import MANY_SITES, CohortPlan, PrivacyPlan, ReleasePlan, TrainingPlan
from fedsynth.training_plan import EstimatorName as EstimatorName
from fedsynth.training_plan import FamilyPlan as FamilyPlan
from fedsynth.training_plan import PrivacyUnit as PrivacyUnit
from fedsynth.training_plan import Start as Start
from fedsynth.training_plan import Train as Train
from fedsynth.training_plan import Trust as Trust

CHOICE = "CHOOSE: "
"""What a value begins with that a draft leaves open, with the question that it asks."""
_PLAIN_ROUNDS = 10
MEASURED_FAMILY = "time-diffusion"
"""The family whose layers were trained privately for docs/crossover.md."""
_STEPS_OF_LAYERS = 100
_LOUDEST_GRADIENT = 0.0015  # of the clipping norm, on every coordinate: 10 000 people at half of epsilon 8
_PEOPLE_PER_DELTA = 10  # delta is at most one tenth of one over the least number of people


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
            if len(self.cohort.sites) >= MANY_SITES and self.cohort.n_dishonest < 1:
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
