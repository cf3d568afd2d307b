"""A run's folder as the coordinator sees it: the plan going in, generator, scores and statement coming out."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fedsynth.coordinator.checkpoint import FOLDER, Checkpoint, keep_file, only_one, remove_checkpoint
from fedsynth.coordinator.rounds import Contributions, Result, run_plan
from fedsynth.coordinator.transport import Transport
from fedsynth.errors import FedsynthError, RunError, WireError
from fedsynth.evaluation.score import Score, load_scores, scores_text
from fedsynth.plan import Plan
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.progress import Progress
from fedsynth.study import Study, load_study
from fedsynth.synthesis.archive import archive_digest, read_npz
from fedsynth.synthesis.generator import Generator
from fedsynth.synthesis.windows import SyntheticStream
from fedsynth.wire.arrays import pack, unpack
from fedsynth.wire.last_word import SignedWord

CONTRIBUTIONS = "contributions.jsonl"
"""Where a run stands between its steps, one line each: which sites are asked, and what they have answered."""


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run before it starts: its name, engine, cohort ("toy" or "recordings") and sites.

    `roster` pins every site's public key, as 64 hexadecimal digits. `asked` holds keyed digests of the recordings
    and places that a rehearsal was begun with (`fedsynth.rehearsal.asked`).
    """

    run: str
    engine: str
    cohort: str
    sites: tuple[str, ...]
    composes: str
    roster: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunFolder:
    """Places inside a run's folder. `internal` and `sites` never enter a release."""

    path: Path

    @property
    def internal(self) -> Path:
        """Return where exact scores on real windows stay."""
        return self.path / "internal"

    def site(self, name: str) -> Path:
        """Return a rehearsed site's own folder."""
        return self.path / "sites" / name

    @property
    def archive(self) -> Path:
        """Return where the windows stand that were drawn, scored and will be released."""
        return self.path / "windows.npz"

    @property
    def begun(self) -> bool:
        """Whether sites were asked for anything."""
        return any((self.path / FOLDER).glob("*")) or self.finished

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "statement.json").exists() and (self.path / "scores.json").exists()

    def begin(self, *, facts: RunFacts, plan: Plan, study_text: str) -> None:
        """Write what goes in."""
        body = {
            "run": facts.run,
            "engine": facts.engine,
            "cohort": facts.cohort,
            "sites": list(facts.sites),
            "composes": facts.composes,
            "roster": dict(facts.roster),
            "asked": dict(facts.asked),
        }
        (self.path / "plan.json").write_text(plan.to_json(), encoding="utf-8")
        (self.path / "study.toml").write_text(study_text, encoding="utf-8")
        (self.path / "run.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")

    def facts(self) -> RunFacts:
        """Read what `begin` wrote.

        Raises:
            RunError: the folder is no run.
        """
        try:
            raw = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
            names = ("run", "engine", "cohort", "sites", "composes", "roster")
            run, engine, cohort, sites, composes, roster = (raw[name] for name in names)
            return RunFacts(run, engine, cohort, tuple(sites), composes, roster, raw.get("asked", {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"{self.path} is not a run's folder; name one that `fedsynth rehearse` or `fedsynth run` wrote"
            ) from error

    def plan(self) -> Plan:
        """Read the plan.

        Raises:
            RunError: missing or damaged.
        """
        try:
            return Plan.from_json((self.path / "plan.json").read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"{self.path} holds no plan") from error

    def study(self) -> Study:
        """Read the study."""
        return load_study(self.path / "study.toml")

    def generator(self) -> Generator:
        """Read the trained generator.

        Raises:
            RunError: the run did not finish.
        """
        try:
            return Generator.from_tensors(self.study(), unpack((self.path / "generator.safetensors").read_bytes()))
        except (OSError, KeyError) as error:
            raise RunError(f"{self.path} holds no generator; the run did not finish") from error

    def windows(self) -> SyntheticStream:
        """Read the windows that were drawn and scored when the run ended.

        Raises:
            RunError: they are missing, or are not those that the statement names.
        """
        try:
            found = archive_digest(self.archive)
        except OSError as error:
            raise RunError(
                f"{self.path} holds no windows; the run did not finish, or is of an earlier version"
            ) from error
        if found != self.statement().made.windows:
            raise RunError(
                f"the windows in {self.archive} are not those that were scored (their digest differs); "
                "nothing was released"
            )
        return read_npz(self.archive, windows=self.generator().released())

    def scores(self) -> tuple[Score, ...]:
        """Read the scores that may be published."""
        return tuple(load_scores(self.path / "scores.json"))

    def statement(self) -> PrivacyStatement:
        """Read the privacy statement.

        Raises:
            RunError: the folder is no run, or the run did not finish.
        """
        place = self.path / "statement.json"
        if not place.is_file():
            self.facts()
            raise RunError(
                f"{self.path} holds no privacy statement, so the run did not finish; give the command that began "
                "it again, and it goes on"
            )
        return PrivacyStatement.load(place)

    def words(self) -> dict[str, SignedWord]:
        """Read the last word of every site that was heard; whoever reads them looks at the signatures.

        Raises:
            RunError: the run did not finish, or is of an earlier version.
        """
        try:
            raw = json.loads((self.path / "words.json").read_text(encoding="ascii"))
            return {str(site): SignedWord.from_json(word) for site, word in raw.items()}
        except (OSError, ValueError, AttributeError, WireError) as error:
            raise RunError(f"{self.path} does not hold the sites' last words") from error

    def ledger_lengths(self) -> dict[str, int]:
        """Read how many lines each site's ledger had when the run ended.

        Raises:
            RunError: the run did not finish.
        """
        try:
            raw = json.loads((self.path / "ledgers.json").read_text(encoding="ascii"))
            return {str(site): int(length) for site, length in raw.items()}
        except (OSError, ValueError, AttributeError) as error:
            raise RunError(f"{self.path} does not say how long the ledgers were") from error


def coordinate(
    folder: Path, *, transport: Transport, progress: Progress | None = None, key: bytes | None = None
) -> None:
    """Carry out the plan in a run's folder, and write what comes out; every engine's coordinator is this.

    A run that was interrupted goes on from its checkpoint, and one that is finished is left as it is. A failure is
    also left in `failure.json`, for engines whose coordinator is another process.

    Args:
        folder: the run's.
        transport: reaches the sites.
        progress: called with (what, done, all).
        key: of the checkpoint, 32 bytes; without one the run makes its own, beside it.

    Raises:
        FedsynthError: as `run_plan`.
        RefusedError: another process carries out this run.
    """
    run = RunFolder(folder)
    facts, plan = run.facts(), run.plan()
    with failure_kept(folder), only_one(folder):
        if not run.finished:
            result = run_plan(
                plan,
                run=facts.run,
                transport=transport,
                composes=facts.composes,
                progress=progress,
                roster={site: bytes.fromhex(public) for site, public in facts.roster.items()},
                engine=facts.engine,
                cohort=facts.cohort,
                archive=run.archive,
                checkpoint=Checkpoint(folder, run=facts.run, plan=plan.digest, key=key),
                note=partial(_note, folder / CONTRIBUTIONS),
            )
            _write(run, result)
        remove_checkpoint(folder)


def _note(place: Path, given: Contributions) -> None:
    """Append where the run stands, for whoever asks; after a crash the same step may stand there twice."""
    answered = {site: list(steps) for site, steps in given.answered.items()}
    body = {"at": time.time(), "step": given.step, "alive": list(given.alive), "answered": answered}
    with place.open("a", encoding="utf-8") as file:
        file.write(json.dumps(body) + "\n")


@contextmanager
def failure_kept(folder: Path) -> Iterator[None]:
    """Leave a failure in `failure.json` of a run's folder too, for whoever started this process."""
    try:
        yield
    except FedsynthError as error:
        body = {"kind": type(error).__name__, "said": str(error)}
        with suppress(RunError):  # the disk may be full, and the failure just that
            keep_file(folder / "failure.json", json.dumps(body).encode())
        raise


def _write(run: RunFolder, result: Result) -> None:
    """Write what came out; the statement, which makes the run finished, comes last.

    Raises:
        RunError: the disk refused.
    """
    for name, data in (
        ("generator.safetensors", pack(result.generator.tensors())),
        ("ledgers.json", json.dumps(dict(result.ledger_lengths)).encode("ascii")),
        ("words.json", json.dumps({site: word.as_json() for site, word in result.words.items()}).encode("ascii")),
        ("scores.json", scores_text(result.scores).encode()),
        ("statement.json", result.statement.to_json().encode()),
    ):
        keep_file(run.path / name, data)
