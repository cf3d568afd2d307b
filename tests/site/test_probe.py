"""What fails for reasons that are not a person's stops before anybody is charged."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth.anchors.estimator import estimator_of
from fedsynth.errors import MachineError, PrivacyError
from fedsynth.evaluation import asked
from fedsynth.evaluation.classifier import Classifier
from fedsynth.families.adversarial.cwgan import Cwgan
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.privacy.allowance import Allowance
from fedsynth.recordings.recording import Recording, Windows
from fedsynth.site import plan_probe, steps
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.plan_probe import probe_plan
from fedsynth.site.probe import made_up_windows
from fedsynth.site.session import SiteSession
from fedsynth.site.steps import choose_device, prepare
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import at_prior
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

People = Callable[..., list[Recording]]
MakeSite = Callable[..., Holdings]
CPU = torch.device("cpu")
FIRST, TRAIN, SCORES = 0, 2, 3  # steps of the tiny plan


@pytest.fixture(scope="module")
def plan(tiny: Study) -> Plan:
    return plan_of(tiny)


@pytest.fixture(autouse=True)
def a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget what earlier tests have tried."""
    monkeypatch.setattr(steps, "_PROBED", set())
    monkeypatch.setattr(plan_probe, "_DONE", set())


@pytest.fixture
def folder(tmp_path: Path, make_site: MakeSite, make_people: People) -> Path:
    make_site(tmp_path / "east", make_people(12, seed=1))
    return tmp_path / "east"


def exhausted(*_: Any, **__: Any) -> Any:
    raise MemoryError


def tensors_for(plan: Plan, step: int) -> dict[str, torch.Tensor]:
    if step == FIRST:
        return plan.estimator.prior(plan.shape).tensors()
    if step == SCORES:
        return dict(Classifier(2, 2).state_dict())
    parts = {f"parts.{name}": value for name, value in at_prior(plan.study).state.items()}
    return {**parts, "label_shares": torch.full((2,), 0.5), "seen_units": torch.ones(1)}


def ask(folder: Path, plan: Plan, step: int) -> Update:
    order = Order("run", plan.digest, step, tensors_for(plan, step))
    return Update.from_bytes(SiteSession(folder).handle(order.to_bytes()))


def charged(folder: Path) -> int:
    with Ledger(folder / "ledger") as ledger:
        return len(ledger)


def break_down(plan: Plan, step: int, monkeypatch: pytest.MonkeyPatch, how: Callable[..., Any]) -> None:
    """Make what a step computes of windows fail, whoever they are from."""
    if step == FIRST:
        monkeypatch.setattr(type(estimator_of(plan.study)), "statistics", how)
    elif step == TRAIN:
        monkeypatch.setattr(Cwgan, "example_loss", how)
    else:
        monkeypatch.setattr(asked, "answer", how)


@pytest.mark.parametrize("step", [FIRST, TRAIN, SCORES], ids=["anchor", "train", "scores"])
@pytest.mark.parametrize("error", [MemoryError, OSError, RuntimeError], ids=lambda error: error.__name__)
def test_a_machine_that_fails_on_made_up_windows_is_charged_for_nobody(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, step: int, error: type[Exception]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error("CANARY")

    approve(folder, run="run", plan=plan)
    monkeypatch.setattr(steps, "_PROBED", set())  # as in the process that answers
    break_down(plan, step, monkeypatch, fail)

    update = ask(folder, plan, step)

    assert update.refused
    assert charged(folder) == 0


def test_no_plan_is_approved_half_of_which_this_machine_cannot_do(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "answer", exhausted)

    with pytest.raises(MachineError, match=r"^scores: .*ran out of memory.*Nothing was opened or charged"):
        approve(folder, run="run", plan=plan)

    assert not (folder / "approved").exists()


def test_a_step_that_secure_aggregation_adds_up_is_tried_too(
    tiny_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = 'sites = ["a", "b", "c"]\nleast_sites = 3'
    text = tiny_text.replace('unit = "subject"', 'unit = "subject"\ntrust = "aggregate"')
    plan = plan_of(parse_study(text.replace("least_sites = 2", sites)))
    monkeypatch.setattr(Cwgan, "example_loss", exhausted)

    with pytest.raises(MachineError, match="gradients"):
        probe_plan(plan, device=CPU)


def test_what_a_failing_critic_leaves_after_a_step_is_tried_before_it(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public half of a local step runs between two private sums: it too can fail."""
    monkeypatch.setattr(Cwgan, "public_loss", exhausted)

    with pytest.raises(MachineError, match="gradients"):
        probe_plan(plan, device=CPU)


def test_trying_leaves_parts_and_random_numbers_as_they_were(plan: Plan) -> None:
    order = Order("run", plan.digest, TRAIN, tensors_for(plan, TRAIN))
    before = {name: value.clone() for name, value in order.tensors.items()}
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)

    prepare(order, plan, plan.steps[TRAIN], device=CPU)

    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(value, before[name]) for name, value in order.tensors.items())


@pytest.mark.parametrize("step", [FIRST, SCORES], ids=["anchor", "scores"])
def test_where_everybody_fails_and_made_up_windows_do_not_the_answer_is_noise_and_the_site_is_told(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    probing = {"left": 1}
    name = "statistics" if step == FIRST else "answer"
    owner = type(estimator_of(plan.study)) if step == FIRST else asked
    real = getattr(owner, name)

    def fail_on_people(*args: Any, **others: Any) -> Any:
        probing["left"] -= 1
        if probing["left"] < 0:
            raise MemoryError
        return real(*args, **others)

    approve(folder, run="run", plan=plan)
    monkeypatch.setattr(owner, name, fail_on_people)

    with caplog.at_level(logging.CRITICAL):
        update = ask(folder, plan, step)

    assert update.refused == ""
    assert charged(folder) == 1
    assert "count as zero" in caplog.text
    assert "CANARY" not in caplog.text


def test_a_device_that_is_not_there_is_refused_when_the_plan_is_approved(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    policy = folder / "site.toml"
    policy.write_text(policy.read_text() + '\ndevice = "cuda"\n', encoding="utf-8")

    with pytest.raises(MachineError, match='device = "cuda"'):
        approve(folder, run="run", plan=plan)
    with pytest.raises(MachineError, match="Nothing was charged"):
        choose_device("cuda")


def test_more_windows_than_memory_holds_are_said_when_the_plan_is_approved(
    folder: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsynth.site.probe.memory_available", lambda: 1000)

    with pytest.raises(MachineError, match=r"free\. Nothing was approved"):
        approve(folder, run="run", plan=plan)


def test_made_up_windows_are_as_many_as_a_recording_gives_and_alike_everywhere(tiny: Study) -> None:
    one, other = (made_up_windows(tiny, device=CPU) for _ in range(2))
    by_window = made_up_windows(replace_unit(tiny), device=CPU)

    assert one.windows.shape == (3, 2, 128)
    assert torch.equal(one.windows, other.windows)
    assert len(by_window.windows) == 1
    assert made_up_windows(tiny, device=CPU, units=1000).n_units == 85


def replace_unit(study: Study) -> Study:
    return study.model_copy(update={"privacy": study.privacy.model_copy(update={"unit": "window"})})


def test_a_sum_that_rounding_would_fill_is_found_before_the_charge(plan: Plan) -> None:
    step = plan.steps[FIRST]
    bent = replace(step, mechanism=replace(step.mechanism, noise_multiplier=1e8))
    order = Order("run", plan.digest, FIRST, tensors_for(plan, FIRST))

    with pytest.raises(PrivacyError, match="leaves nothing"):
        prepare(order, plan, bent, device=CPU)


@pytest.mark.parametrize("step", [FIRST, SCORES], ids=["anchor", "scores"])
def test_a_unit_without_windows_adds_zero_and_is_no_failure(
    plan: Plan, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    """A person all of whose windows were left out for artefacts; MKL refuses a transform of none."""
    mechanism = replace(plan.steps[step].mechanism, noise_multiplier=0.0, sampling_probability=1.0)
    asked = replace(plan.steps[step], mechanism=mechanism)
    work = prepare(Order("run", plan.digest, step, tensors_for(plan, step)), plan, asked, device=CPU)
    made_up = made_up_windows(plan.study, device=CPU)
    count = len(made_up.labels)
    names = {"label_names": plan.study.labels.names, "channels": plan.study.signal.channels, "sfreq": 128.0}

    def total(number: int) -> torch.Tensor:
        one = np.full(count, number)
        windows = Windows(made_up.windows.numpy(), made_up.labels.numpy(), one, one, **names)  # type: ignore[arg-type]
        return work.run(windows, Allowance(mechanism)).read()

    torch.testing.assert_close(total(3), total(0))
    assert not caplog.records
