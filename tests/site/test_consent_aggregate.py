"""The malicious coordinator again, under secure aggregation, with every other site on its side.

The rules and promises of `test_consent_machine.py` hold on; besides, a site signs one list of survivors for a step,
and gives one kind of share of every peer.
"""

import base64
import importlib.util
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from hypothesis.stateful import rule

from fedsynth.anchors.estimator import estimator_of
from fedsynth.evaluation.private_scores import tally_size
from fedsynth.modalities.shape import shape_of
from fedsynth.plan import Plan, context_of, secure_cohort_of
from fedsynth.privacy.private_sum import lattice_step
from fedsynth.secure_aggregation.messages import pack_message
from fedsynth.secure_aggregation.protocol import SecureSite
from fedsynth.secure_aggregation.roster import Session
from fedsynth.site.identity import make_identity
from fedsynth.wire.message import as_tensors, message_in
from fedsynth.wire.order import SETUP_STEP, STATEMENT_STEP, Order
from fedsynth.wire.update import Update

_spec = importlib.util.spec_from_file_location(
    "consent_machine", Path(__file__).with_name("test_consent_machine.py")
)
assert _spec is not None
assert _spec.loader is not None
consent = importlib.util.module_from_spec(_spec)
sys.modules["consent_machine"] = consent  # dataclasses look their module up
_spec.loader.exec_module(consent)

ME, OTHERS = "east", ("north", "south", "west")
SUBSETS = [(ME, *OTHERS), (ME, "north", "south"), (ME, "north"), OTHERS, (ME, "north", "stranger")]
KINDS = {"keys": "keys", "shares": "shares", "": "masked", "agree": "agreement", "unmask": "revealed"}
runs, which, numbers = consent.runs, consent.which, consent.numbers


def said(message: bytes) -> dict[str, Any]:
    """Return the fields of a message of secure aggregation, its byte fields as base64."""
    return dict(json.loads(message.split(b"\n", 2)[1]))


def blobs(coded: dict[str, str]) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in coded.items()}


class Ring:
    """The three other sites of one session: they do what the coordinator wants, and tell it what they know."""

    def __init__(self, world: Any, run: str, plan: Plan) -> None:
        cohort = secure_cohort_of(plan.study, world.roster)
        assert cohort is not None
        self.session = Session(cohort, context_of(run=run, plan=plan.digest), len(plan.steps))
        begun = (cohort, self.session.context, self.session.steps)
        self.sites = {n: SecureSite.begin(begun[0], n, world.identities[n], *begun[1:]) for n in OTHERS}
        keys = {name: said(site.keys())["keys"] for name, site in self.sites.items()}
        self.keys, self.sealed, self.ready, self.last = blobs(keys), dict[str, bytes](), False, -1


class TogetherMachine(consent.SiteMachine):
    """The same site under secure aggregation: besides, one list and one kind of share for every step."""

    def __init__(self) -> None:
        super().__init__()
        self.rings: dict[tuple[str, str], Ring] = {}
        self.signed: dict[tuple[str, str, int], tuple[str, ...]] = {}
        self.revealed: dict[tuple[str, str, int], bytes] = {}

    @rule(run=runs, times=st.integers(1, 12))
    def go_on_as_agreed(self, run: str, times: int) -> None:
        """Say what an honest coordinator would say next, message by message."""
        for _ in range(times):
            self.say_what_comes_next(run, self.approved.get(run, "A"))

    @rule(run=runs, names=st.sampled_from(SUBSETS), signers=st.sets(st.sampled_from(OTHERS), min_size=1))
    def lie_once_a_vector_was_sent(self, run: str, names: tuple[str, ...], signers: set[str]) -> None:
        """Go on until a vector is out and not opened; then name three lists in turn, and bring few signatures."""
        name = self.approved.get(run, "A")
        for _ in range(8):
            place = (run, name, self.ring(run, name).last)
            if place[2] >= 0 and place not in self.revealed:
                for survivors in (names, SUBSETS[0], SUBSETS[1]):
                    self.ask_to_agree(run, name, place[2], survivors, 1)
                self.ask_to_unmask(run, name, None, signers)
                self.ask_to_unmask(run, name, names, set())
                return
            self.say_what_comes_next(run, name)

    def say_what_comes_next(self, run: str, name: str) -> None:
        ring = self.ring(run, name)
        place = (run, name, ring.last)
        if ME not in ring.keys:
            self.ask_for_keys(run, name)
        elif not ring.ready:
            self.ask_for_shares(run, name, SUBSETS[0], False)
        elif ring.last < 0 or place in self.revealed:
            self.order_a_step(run, name, ring.last + 1, -1)
        elif place not in self.signed:
            self.ask_to_agree(run, name, ring.last, SUBSETS[0], 1)
        else:
            self.ask_to_unmask(run, name, None, set())

    @rule(run=runs, name=which)
    def ask_for_keys(self, run: str, name: str) -> None:
        update = self.send(Order(run, self.world.plans[name].digest, SETUP_STEP, {}, "keys").to_bytes())
        if not update.refused:
            self.ring(run, name).keys |= blobs({ME: said(message_in(update.tensors))["keys"]})

    @rule(run=runs, name=which, asked=st.sampled_from(SUBSETS[:4]), forged=st.sampled_from([False] * 3 + [True]))
    def ask_for_shares(self, run: str, name: str, asked: tuple[str, ...], forged: bool) -> None:
        ring = self.ring(run, name)
        keys = {site: ring.keys[site] for site in asked if site in ring.keys}
        if forged:
            keys["north"] = Ring(self.world, "elsewhere", self.world.plans[name]).keys["north"]
        request = pack_message("cohort", ring.session, keys=keys)
        update = self.say(run, name, SETUP_STEP, "shares", request)
        if not update.refused:
            assert not forged
            assert len(keys) >= 3
            dealt = {site: said(ring.sites[site].shares(request))["sealed"] for site in keys if site != ME}
            ring.sealed, ring.ready = blobs({site: sealed[ME] for site, sealed in dealt.items()}), True

    @rule(run=runs, name=which, step=numbers, names=st.sampled_from(SUBSETS), about=st.integers(0, 4))
    def ask_to_agree(self, run: str, name: str, step: int, names: tuple[str, ...], about: int) -> None:
        step = self.ring(run, name).last if about else step
        request = pack_message("agree", self.ring(run, name).session, step=step, survivors=sorted(names))
        self.say(run, name, step, "agree", request)

    @rule(
        run=runs, name=which, names=st.none() | st.sampled_from(SUBSETS), signers=st.sets(st.sampled_from(OTHERS))
    )
    def ask_to_unmask(self, run: str, name: str, names: tuple[str, ...] | None, signers: set[str]) -> None:
        """The others sign whatever is put before them; the site's own signature is used where it gave one."""
        ring = self.ring(run, name)
        list_signed = self.signed.get((run, name, ring.last), ())
        names = names or list_signed or SUBSETS[0]
        statement = ring.session.agreement(ring.last, sorted(names))
        signatures = {site: self.world.identities[site].sign(statement) for site in signers or set(OTHERS)}
        request = pack_message(
            "unmask", ring.session, step=ring.last, survivors=sorted(names), signatures=signatures
        )
        update = self.say(run, name, ring.last, "unmask", request)
        assert update.refused or len(signatures) >= ring.session.cohort.threshold

    def say(self, run: str, name: str, step: int, stage: str, request: bytes) -> Update:
        order = Order(run, self.world.plans[name].digest, step, as_tensors(request), stage)
        return self.send(order.to_bytes())

    def watch(self, order: Order, update: Update) -> None:
        if order.step == STATEMENT_STEP:
            return
        found, name = said(message_in(update.tensors)), self.approved[order.run]
        place = (order.run, name, order.step)
        assert found["kind"] == KINDS[order.stage]
        self.world.seen[found["kind"]] += 1
        if order.stage == "":
            mechanism = self.world.plans[name].steps[order.step].mechanism
            one = lattice_step(
                mechanism.clipping_norm, mechanism.noise_multiplier, noise_shares=mechanism.noise_shares
            )
            plain = torch.round(self.reads[-1] / one).to(torch.int64)
            masked = torch.frombuffer(bytearray(message_in(update.tensors).split(b"\n", 2)[2]), dtype=torch.int64)
            assert masked.shape == plain.shape
            assert not bool((masked == plain).any())
            self.ring(order.run, name).last = order.step
        elif order.stage in ("agree", "unmask"):
            assert self.nonce(*place) in self.answers
            survivors = tuple(said(message_in(order.tensors))["survivors"])
            assert self.signed.setdefault(place, survivors) == survivors
            assert len(survivors) >= 3
            assert ME in survivors
        if order.stage == "unmask":
            assert self.revealed.setdefault(place, message_in(update.tensors)) == message_in(update.tensors)
            assert set(found["seeds"]) == set(self.signed[place])
            assert not set(found["seeds"]) & set(found["keys"])

    def ring(self, run: str, name: str) -> Ring:
        if (run, name) not in self.rings:
            self.rings[run, name] = Ring(self.world, run, self.world.plans[name])
        return self.rings[run, name]

    def order(self, run: str, plan: Plan, step: int, *, like: int | None = None, digest: str = "") -> bytes:
        right = Order.from_bytes(super().order(run, plan, step, like=like, digest=digest))
        ring = self.ring(run, next(name for name, one in self.world.plans.items() if one is plan))
        number = min(step, len(plan.steps) - 1)
        size = sum_size(plan, number)
        message = pack_message("sum", ring.session, step=number, size=size, sealed=ring.sealed)
        return replace(right, tensors={**right.tensors, **as_tensors(message)}).to_bytes()

    def may(self, run: str, name: str, step: int) -> bool:
        ring = self.ring(run, name)
        answered = self.nonce(run, name, step) in self.answers
        return super().may(run, name, step) and (answered or (ring.ready and step > ring.last))


def sum_size(plan: Plan, step: int) -> int:
    kind, shape = plan.steps[step].kind, shape_of(plan.study)
    if kind == "anchor":
        return estimator_of(plan.study).statistic_size(shape, step=step)
    return tally_size(shape.n_labels)


@pytest.mark.parametrize("examples", consent.FEW_OR_MANY)
def test_whatever_a_coordinator_and_three_other_sites_say_one_list_is_signed_and_one_sum_charged(
    examples: int, tmp_path: Path, tiny_text: str, make_site: Callable[..., Any], make_people: Callable[..., Any]
) -> None:
    text = tiny_text.replace("rounds = 1", "rounds = 0")
    text = text.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"')
    text = text.replace("[cohort]", f"[cohort]\nsites = {json.dumps((ME, *OTHERS))}\ndropouts = 1")
    world = consent.world_of(text, tmp_path)
    make_site(world.template, make_people(6, seed=1))
    world.identities = {name: Ed25519PrivateKey.generate() for name in OTHERS}
    world.roster = {name: key.public_key().public_bytes_raw() for name, key in world.identities.items()}
    world.roster[ME] = make_identity(world.template)

    consent.play(TogetherMachine, world, examples=examples)

    # It went deep enough to mean something.
    assert {"answered", *KINDS.values(), "ConsentError", "PrivacyError", "WireError"} <= set(world.seen)
    assert world.seen["revealed"] > examples / 4
