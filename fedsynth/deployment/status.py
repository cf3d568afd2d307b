"""Status: where a run stands, from what its folder holds; nothing here reaches a site."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedsynth.coordinator.control import COORDINATOR, DRIVER, is_held, wish
from fedsynth.coordinator.run_folder import CONTRIBUTIONS, RunFolder
from fedsynth.engines.flower import follow
from fedsynth.plan import Plan
from fedsynth.privacy.accountant import epsilon_pld

_RECENT_STEPS = 5


@dataclass(frozen=True)
class SiteStatus:
    """One site: how many steps of the plan it has answered, what they cost, and whether it is still asked."""

    answered: int
    epsilon: float
    asked: bool


@dataclass(frozen=True)
class RunStatus:
    """Where a run stands.

    `state` is one of "waiting for approvals", "running", "paused", "interrupted", "failed" and "finished"; `said`
    is what a run that failed said. `step` of `steps` are done, and `rounds` holds, for each step that is done, its
    purpose and the largest epsilon of a site by then, at `delta`. `seconds_left` is None where nothing is known.
    """

    run: str
    state: str
    said: str
    now: str
    step: int
    steps: int
    delta: float
    epsilon_of_plan: float
    sites: Mapping[str, SiteStatus]
    rounds: Sequence[tuple[str, float]]
    seconds_left: float | None

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON has it."""
        return asdict(self)


def status_of(run: RunFolder) -> RunStatus:
    """Return where a run stands.

    Raises:
        RunError: the folder is no run.
    """
    facts, plan = run.facts(), run.plan()
    kept = _contributions(run.path)
    last: Mapping[str, Any] = kept[-1] if kept else {"step": 0, "answered": {}, "alive": list(facts.sites)}
    step = len(plan.steps) if run.finished else int(last["step"])
    said = _failure(run.path)
    answered = {site: [int(number) for number in last["answered"].get(site, [])] for site in facts.sites}
    return RunStatus(
        run=facts.run,
        state=_state(run, said=bool(said)),
        said=said,
        now=_now(run.path),
        step=step,
        steps=len(plan.steps),
        delta=plan.study.privacy.delta,
        epsilon_of_plan=plan.epsilon(),
        sites={
            site: SiteStatus(len(steps), _epsilon(plan, steps), site in last["alive"])
            for site, steps in answered.items()
        },
        rounds=[
            (
                plan.steps[number].mechanism.purpose,
                max(_epsilon(plan, [one for one in steps if one <= number]) for steps in answered.values()),
            )
            for number in range(step)
        ],
        seconds_left=_seconds_left(kept, n_steps=len(plan.steps), finished=run.finished),
    )


def _state(run: RunFolder, *, said: bool) -> str:
    if run.finished:
        return "finished"
    if is_held(run.path, DRIVER):
        if wish(run.path) == "pause":
            return "paused"
        return "running" if run.begun and is_held(run.path, COORDINATOR) else "waiting for approvals"
    return "failed" if said else "interrupted"


def _epsilon(plan: Plan, steps: Sequence[int]) -> float:
    delta = plan.study.privacy.delta
    mechanisms = [plan.steps[number].mechanism for number in steps]
    groups = ([one for one in mechanisms if one.group == group] for group in ("train", "held-out"))
    return max(epsilon_pld(mine, delta=delta) for mine in groups)


def _seconds_left(kept: Sequence[Mapping[str, Any]], *, n_steps: int, finished: bool) -> float | None:
    if finished:
        return 0.0
    recent = kept[-1 - _RECENT_STEPS :]
    taken = int(recent[-1]["step"]) - int(recent[0]["step"]) if recent else 0
    if taken <= 0:
        return None
    each = (float(recent[-1]["at"]) - float(recent[0]["at"])) / taken
    return max(0.0, each * (n_steps - int(recent[-1]["step"])) - (time.time() - float(recent[-1]["at"])))


def _contributions(folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / CONTRIBUTIONS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the last one, cut by a crash
    return found


def _failure(folder: Path) -> str:
    try:
        return str(json.loads((folder / "failure.json").read_text(encoding="utf-8"))["said"])
    except (OSError, ValueError, KeyError):
        return ""


def _now(folder: Path) -> str:
    told = next(follow(folder / "progress.jsonl"))
    return f"{told[-1][0]}: {told[-1][1]} of {told[-1][2]}" if told else ""
