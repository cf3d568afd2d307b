"""How a release was made: the label on the box, in the same words wherever a release speaks."""

from dataclasses import dataclass
from typing import Any

from fedsynth.errors import PrivacyError


@dataclass(frozen=True)
class Setting:
    """Where an engine's sites run, and whose code runs there."""

    words: str
    is_rehearsal: bool
    own_code: bool


ENGINES = {
    "in-process": Setting("rehearsal: every site was a folder on one machine, in one process", True, False),
    "simulation": Setting("rehearsal: every site was a folder on one machine, in Flower's simulation", True, False),
    "deployment": Setting(
        "rehearsal: every site was a process on one machine, in Flower's deployment runtime", True, False
    ),
    "federation": Setting(
        "deployment: every site ran the code that it had installed, and its people approved the plan there",
        False,
        True,
    ),
}
"""What is true of each engine. `own_code`: every site runs code that it installed itself, and nothing that came
from the coordinator's machine. In a rehearsal on Flower the coordinator's code runs at the sites (Flower ships
`client/`), so nobody may be told that the coordinator need not behave."""

COHORTS = {
    "toy": "made-up people: a program simulated their recordings",
    "recordings": "recordings that were given as files; nothing here simulated them",
}


@dataclass(frozen=True)
class Making:
    """How the windows of a release were made.

    `gradient_steps` are the private gradient steps that the run's plan took, at each site or over all of them; 0
    means that the windows stand on the anchor alone. `engine` and `cohort` are keys of `ENGINES` and `COHORTS`.
    `windows` is the SHA-256 of the archive that was drawn, scored and released, 64 hexadecimal digits.
    """

    gradient_steps: int
    engine: str
    cohort: str
    windows: str

    def __post_init__(self) -> None:
        """Refuse what nobody has words for."""
        if type(self.gradient_steps) is not int or self.gradient_steps < 0:
            raise PrivacyError(f"no run takes {self.gradient_steps!r} gradient steps")
        if self.engine not in ENGINES or self.cohort not in COHORTS:
            raise PrivacyError(f"nothing is known of engine {self.engine!r} on {self.cohort!r}")
        if len(self.windows) != 64 or set(self.windows) - set("0123456789abcdef"):
            raise PrivacyError("the digest of the windows is not 64 hexadecimal digits")

    @property
    def is_trained(self) -> bool:
        """Whether any gradient step was taken on recordings."""
        return self.gradient_steps > 0

    @property
    def training(self) -> str:
        """Say whether a network was trained."""
        if not self.is_trained:
            return "anchor only: no gradient step was taken, and no network was trained on a recording"
        return f"trained: {self.gradient_steps:,} private gradient steps"

    @property
    def setting(self) -> str:
        """Say whether this was a rehearsal or a deployment."""
        return f"{ENGINES[self.engine].words} (engine {self.engine})"

    @property
    def people(self) -> str:
        """Say whether anybody was recorded."""
        return COHORTS[self.cohort]

    @property
    def coordinator_may_misbehave(self) -> bool:
        """Whether the promise holds whatever the coordinator does: only where sites run code of their own."""
        return may_misbehave(self.engine)

    def as_json(self) -> dict[str, Any]:
        """Return the label as it stands in `privacy/statement.json`: facts, and what they mean in words."""
        return {
            "gradient_steps": self.gradient_steps,
            "training": self.training,
            "engine": self.engine,
            "setting": self.setting,
            "cohort": self.cohort,
            "people": self.people,
            "windows_sha256": self.windows,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Making":
        """Read what `as_json` wrote.

        Raises:
            ValueError: the words are not those of the facts, or a fact is of no known kind.
            KeyError: one is missing.
        """
        try:
            made = cls(raw["gradient_steps"], raw["engine"], raw["cohort"], raw["windows_sha256"])
        except PrivacyError as error:
            raise ValueError(str(error)) from error
        if made.as_json() != raw:
            raise ValueError("the words on how the windows were made are not those of its facts")
        return made


def may_misbehave(engine: str) -> bool:
    """Whether an engine lets a promise hold whatever the coordinator does; False for an engine nobody knows."""
    return engine in ENGINES and ENGINES[engine].own_code
