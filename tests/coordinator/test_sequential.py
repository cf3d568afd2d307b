"""Hospitals that train one after the other: what they are asked, what it costs, and what is not forgotten."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from fedsynth.coordinator.rounds import run_plan
from fedsynth.coordinator.transport import InProcess
from fedsynth.errors import StudyError
from fedsynth.plan import plan_of
from fedsynth.privacy.accountant import epsilon_pld
from fedsynth.privacy.allowance import Allowance
from fedsynth.privacy.private_sum import PrivateSum
from fedsynth.recordings.recording import Recording, Windows
from fedsynth.rehearsal.in_memory import train_in_memory
from fedsynth.site.approval import approve
from fedsynth.site.holdings import Holdings
from fedsynth.site.session import SiteSession
from fedsynth.site.steps import prepare
from fedsynth.study import Study, parse_study
from fedsynth.synthesis.generator import Generator, at_prior, untrained
from fedsynth.wire.order import Order
from fedsynth.wire.update import Update

SITES = ("north", "east", "west")
FISHER = "Fisher information: "


@pytest.fixture(scope="module")
def study(tiny_text: str) -> Study:
    """Return a study whose three sites train adapters one after the other, with a promise."""
    text = tiny_text.replace('name = "cwgan"', 'name = "time-diffusion"')
    text = text.replace("rounds = 1", 'rounds = 1\norder = "sequential"\nconsolidation = 1e3\ngradient_clip = 0.5')
    return parse_study(text.replace("[cohort]", f"[cohort]\nsites = {list(SITES)}"))


class Watched(InProcess):
    """Sites in this process, and every order and answer that passed, by site."""

    def __init__(self, handlers: dict[str, Callable[[bytes], bytes]]) -> None:
        super().__init__(handlers)
        self.passed: list[tuple[str, Order, Update]] = []

    def exchange(self, orders):  # type: ignore[no-untyped-def]
        for site, answer in super().exchange(orders):
            self.passed.append((site, Order.from_bytes(orders[site]), Update.from_bytes(answer)))
            yield site, answer


@pytest.mark.slow
def test_each_site_starts_from_what_the_last_one_left_and_pays_for_its_fisher_information(
    tmp_path: Path,
    study: Study,
    make_site: Callable[..., Holdings],
    make_people: Callable[..., list[Recording]],
    pinned: Callable[..., dict[str, bytes]],
) -> None:
    plan = plan_of(study)
    handlers = {}
    for seed, name in enumerate(SITES):
        make_site(tmp_path / name, make_people(6, seed=seed), study=study, policy='families = ["time-diffusion"]')
        approve(tmp_path / name, run="run", plan=plan)
        handlers[name] = SiteSession(tmp_path / name).handle
    transport = Watched(handlers)

    result = run_plan(plan, run="run", transport=transport, composes="this run only", roster=pinned(tmp_path))

    kinds = [(site, plan.steps[order.step].kind) for site, order, _ in transport.passed if order.step >= 0]
    taught = [(site, kind) for site, kind in kinds if kind in ("train", "fisher")]
    assert taught == [
        ("north", "train"), ("north", "fisher"), ("east", "train"), ("east", "fisher"), ("west", "train"),
    ]  # fmt: skip
    trained = [(order, update) for _, order, update in transport.passed if _is(plan, order, "train")]
    for (_, left), (following, _) in pairwise(trained):
        for name, value in left.tensors.items():
            assert torch.equal(following.tensors[f"parts.{name}"], value)
    for name, value in trained[-1][1].tensors.items():
        assert torch.equal(result.generator.state[name], value)

    events = {site.site: site.events for site in result.statement.sites}
    told = {site: [one for one in some if one.purpose.startswith(FISHER)] for site, some in events.items()}
    assert {site: len(some) for site, some in told.items()} == {"north": 1, "east": 1, "west": 0}
    [asked] = [step.mechanism for step in plan.steps if step.kind == "fisher"]
    assert told["north"] == [asked]
    assert asked.noise_multiplier > 0
    for site in result.statement.sites:
        groups = (events[site.site], site.held_out)
        assert site.epsilon == pytest.approx(max(epsilon_pld(group, delta=1e-5) for group in groups), rel=1e-6)
    train = {site: epsilon_pld(some, delta=1e-5) for site, some in events.items()}
    assert train["west"] < train["north"] == train["east"] <= study.privacy.epsilon


def test_a_sites_fisher_information_has_the_bound_and_the_noise_of_the_plan(study: Study) -> None:
    """Asked of nobody, a site answers with noise alone; its bound is the square of the gradients' bound."""
    plan = plan_of(study)
    [(number, step)] = [(number, step) for number, step in enumerate(plan.steps) if step.kind == "fisher"]
    tensors = {f"parts.{name}": value for name, value in at_prior(study).state.items()}
    work = prepare(Order("run", plan.digest, number, tensors), plan, step, device=torch.device("cpu"))
    nobody = Windows(
        np.zeros((0, 2, 128), np.float32), *(np.zeros(0, np.int64),) * 3, study.labels.names, ("C3", "C4"), 100.0
    )

    answer = work.run(nobody, Allowance(step.mechanism))
    assert isinstance(answer, PrivateSum)
    noise = answer.read()

    assert step.mechanism.clipping_norm == study.training.gradient_clip**2
    assert len(noise) == work.size > 100
    promised = step.mechanism.noise_multiplier * step.mechanism.clipping_norm
    assert float(noise.std()) == pytest.approx(promised, rel=5 / math.sqrt(len(noise)))


def _is(plan, order: Order, kind: str) -> bool:  # type: ignore[no-untyped-def]
    return order.step >= 0 and plan.steps[order.step].kind == kind


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        pytest.param(('order = "sequential"', 'order = "averaged"'), "none is earlier", id="averaged"),
        pytest.param(("rounds = 1", "rounds = 2"), "every site trains once", id="two rounds"),
        pytest.param(('trust = "site"', 'trust = "aggregate"'), "which trust", id="secret sums"),
        pytest.param(('= "mean"', '= "median"'), "nothing is joined", id="median"),
    ],
)
def test_what_does_not_go_together_is_refused(study: Study, edit: tuple[str, str], said: str) -> None:
    text = study.to_toml()
    assert edit[0] in text

    with pytest.raises(StudyError, match=said):
        parse_study(text.replace(*edit))


def test_a_game_has_no_fisher_information(study: Study) -> None:
    gan = study.model_copy(update={"family": study.family.model_copy(update={"name": "cwgan"})})

    with pytest.raises(StudyError, match="a game between two networks"):
        plan_of(gan)


def hospital(hertz: float, *, seed: int) -> Windows:
    """Return two dozen people whose windows are noisy waves of one frequency."""
    rng, seconds = np.random.default_rng(seed), np.arange(64) / 64
    waves = [20 * np.sin(2 * np.pi * hertz * seconds + rng.uniform(0, 6.28)) for _ in range(24)]
    signal = (np.stack(waves) + 4 * rng.normal(size=(24, 64)))[:, None].astype(np.float32)
    numbers = np.arange(24)
    return Windows(signal, numbers % 2, numbers, numbers, ("a", "b"), ("Cz",), 64.0)


def loss_of(generator: Generator, windows: Windows) -> float:
    """Return the loss of the first phase, with the same noise for everybody who asks."""
    family, shape = generator.family, generator.shape
    parts = family.build(shape, generator.anchor)
    parts.load_state_dict(dict(generator.state))
    signal, labels = torch.from_numpy(windows.signal).repeat(8, 1, 1), torch.from_numpy(windows.labels).repeat(8)
    width = family.example_noise_width(shape, family.phases[0])
    noise = torch.randn(len(signal), width, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return float(family.example_loss(parts, family.phases[0], signal, labels, noise).mean())


@pytest.mark.slow
def test_consolidation_forgets_less_of_the_first_hospital_and_still_learns_from_the_second(
    plain: Callable[..., Study],
) -> None:
    """Slow waves, then fast ones: without consolidation a VAE that has seen the fast ones forgets the slow ones."""
    both = {"east": hospital(4, seed=1), "west": hospital(14, seed=2)}
    forgetful, holding = (
        train_in_memory(plan_of(plain(consolidation=strength)), both) for strength in (0.0, 5000.0)
    )
    unseen = untrained(holding.study, holding.anchor)

    assert loss_of(holding, both["east"]) < 0.9 * loss_of(forgetful, both["east"])
    assert loss_of(holding, both["west"]) < 0.8 * loss_of(unseen, both["west"])


@pytest.fixture
def plain() -> Callable[..., Study]:
    """Return a maker of studies without a promise, in which every layer of a VAE learns."""

    def make(*, consolidation: float) -> Study:
        return Study.model_validate(
            {
                "name": "forgetting",
                "signal": {
                    "modality": "eeg", "format": "edf", "channels": ("Cz",), "sfreq": 64.0, "bandpass": (1.0, 28.0),
                },
                "windows": {"n_times": 64, "per_recording": 1},
                "labels": {"names": ("a", "b"), "source": "participants.tsv", "positive": "b"},
                "privacy": {"unit": "subject", "epsilon": math.inf, "delta": 1e-5},
                "cohort": {
                    "sites": ("east", "west"), "least_sites": 2, "least_subjects": 1, "expected_units": 24,
                },
                "family": {"name": "vae-ldm", "train": "all"},
                "plan": {
                    "order": "sequential",
                    "consolidation": consolidation,
                    "minibatch_steps": 100,
                    "minibatch_windows": 16,
                },
            }
        )  # fmt: skip

    return make
