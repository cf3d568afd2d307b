"""What is refused never opens a window: the operating system's own word, from a site's process under strace."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedsynth.evaluation.classifier import Classifier
from fedsynth.ledger.ledger import Ledger
from fedsynth.plan import Plan, plan_of
from fedsynth.recordings.recording import Recording
from fedsynth.recordings.windows import windows_of
from fedsynth.site.approval import approve
from fedsynth.site.holdings import keep
from fedsynth.site.identity import make_identity
from fedsynth.study import Study, parse_study
from fedsynth.wire.arrays import pack
from fedsynth.wire.order import SETUP_STEP, STAGES, STATEMENT_STEP, Order
from fedsynth.wire.update import REFUSED

SITES = ("east", "north", "south", "west")
GOOD = ("statement", "keys", "anchor", "scores", "retry")
SITE = """
import json, logging, sys
from pathlib import Path
from fedsynth.errors import FedsynthError
from fedsynth.site.approval import approve
from fedsynth.site.session import SiteSession
from fedsynth.plan import Plan
from fedsynth.wire.update import Update

said, kinds = [], []
note = logging.Handler()
note.emit = lambda record: (said.append(record.getMessage()), kinds.append(getattr(record, "kind", "")))
logging.getLogger("fedsynth.site").addHandler(note)
root, answers = Path(sys.argv[1]), []
for number, case in enumerate(json.loads((root / "cases.json").read_text())):
    said.clear()
    kinds.clear()
    data, word, names = (root / case["data"]).read_bytes(), "", []
    try:
        (root / f"begin-{number}").open()  # there is no such file: the name stands in the trace
    except FileNotFoundError:
        pass
    if case["what"] == "order":
        update = Update.from_bytes(SiteSession(root / case["site"]).handle(data))
        word, names = update.refused, sorted(update.tensors)
    else:
        try:
            approve(root / case["site"], run="crafted", plan=Plan.from_json(data.decode()))
        except FedsynthError as error:
            word = "refused"
            kinds.append(type(error).__name__)
            said.append(str(error))
    answers.append({"word": word, "kinds": kinds[:], "names": names, "said": " ".join(said)})
(root / "answers.json").write_text(json.dumps(answers))
"""
CALLS = "open,openat,openat2,creat,fsync,fdatasync,rename,renameat,renameat2"
CALL = re.compile(r"^\d+ +(\w+)\((.*)")


@dataclass(frozen=True)
class Case:
    """One message to a site: `kind` is that of the refusal, and `said` the reason, which its own log must hold."""

    name: str
    site: str
    data: bytes
    kind: str
    said: str
    what: str = "order"


@dataclass(frozen=True)
class Seen:
    """What a site answered, and the system calls it made, as (call, its arguments), in order."""

    word: str
    kinds: list[str]
    names: list[str]
    said: str
    calls: list[tuple[str, str]]

    @property
    def windows_opened(self) -> list[str]:
        return [text for call, text in self.calls if call.startswith(("open", "creat")) and ".windows" in text]


def study_of(text: str, *, together: bool) -> Study:
    """Return the tiny study with a round that draws everybody, which is priced in no time."""
    text = text.replace("rounds = 1", "rounds = 1\nsampling_probability = 1.0")
    if together:
        text = text.replace("delta = 1e-5", 'delta = 1e-5\ntrust = "aggregate"')
        text = text.replace("[cohort]", f"[cohort]\nsites = {json.dumps(SITES)}")
    return parse_study(text)


def first(approved: Plan, **changes: Any) -> Order:
    return replace(Order("run", approved.digest, 0, approved.estimator.prior(approved.shape).tensors()), **changes)


def changed(plan: Plan, **changes: Any) -> Plan:
    step = plan.steps[0]
    return replace(plan, steps=(replace(step, mechanism=replace(step.mechanism, **changes)), *plan.steps[1:]))


def headed(order: Order, **changes: Any) -> bytes:
    """Write an order with other header fields; None leaves one out."""
    header = {"run": order.run, "plan": order.plan, "step": order.step, "stage": order.stage} | changes
    text = json.dumps({name: value for name, value in header.items() if value is not None}).encode()
    return b"fedsynth1" + struct.pack(">I", len(text)) + text + pack(order.tensors)


CRAFTED: dict[str, dict[str, Any]] = {
    "noise_multiplier": {"noise_multiplier": 0.01},
    "clipping_norm": {"clipping_norm": 1e6},
    "sampling_probability": {"sampling_probability": 0.01},
    "steps": {"steps": 2},
    "unit": {"unit": "window"},
    "group": {"group": "held-out"},
    "noise_shares": {"noise_shares": 2},
    "purpose": {"purpose": "anchor: nothing to see"},
}


def cases(plan: Plan, together: Plan) -> list[Case]:
    """Return every message that must be refused, with the kind and the reason that stay."""
    order, anchor = first(plan), dict(first(plan).tensors)
    more = replace(plan, steps=(*plan.steps, replace(plan.steps[2], index=1)))
    out = []
    for field, how in CRAFTED.items():
        crafted = changed(plan, **how)
        reason = f"step 0: {field} is {next(iter(how.values()))!r}, this site computes"
        out.append(Case(f"approve: {field}", "east", crafted.to_json().encode(), "ConsentError", reason, "approve"))
        asked = first(plan, plan=crafted.digest).to_bytes()
        out.append(Case(f"order: {field}", "east", asked, "ConsentError", f"is for plan {crafted.digest[:12]}"))
        named = headed(order, **{field: next(iter(how.values()))})
        out.append(Case(f"header: {field}", "east", named, "WireError", "and nothing else"))
    said = f"the plan has {len(more.steps)} steps, this site computes {len(plan.steps)}"
    out.append(Case("approve: rounds", "east", more.to_json().encode(), "ConsentError", said, "approve"))
    said = f"is for plan {more.digest[:12]}"
    out.append(Case("order: rounds", "east", first(plan, plan=more.digest).to_bytes(), "ConsentError", said))
    other = replace(plan, code="0.0.0+000000000000").to_json().encode()
    out.append(Case("approve: code", "east", other, "ConsentError", "is for code 0.0.0+000000000000", "approve"))

    def ask(name: str, asked: Order | bytes, kind: str, said: str, site: str = "east") -> None:
        out.append(Case(name, site, asked if isinstance(asked, bytes) else asked.to_bytes(), kind, said))

    ask("another run", first(plan, run="another"), "ConsentError", "no plan was approved here for this run")
    for step in (len(plan.steps), -3, SETUP_STEP):
        reason = "opens a run" if step == SETUP_STEP else f"step {step} is none of them"
        ask(f"step {step}", first(plan, step=step), "ConsentError", reason)
    ask("step as a word", headed(order, step="0"), "WireError", "run, plan, step, stage")
    ask("step as a truth value", headed(order, step=True), "WireError", "run, plan, step, stage")
    ask("no stage", headed(order, stage=None), "WireError", "run, plan, step, stage")
    ask("an unknown stage", headed(order, stage="windows"), "WireError", "a stage that is none of the 5 known")
    for stage in STAGES[1:]:
        for step in (0, SETUP_STEP, STATEMENT_STEP):
            ask(f"{stage} at {step}", first(plan, stage=stage, step=step), "ConsentError", "")
    for stage, step in (("shares", SETUP_STEP), ("agree", 0), ("unmask", 0)):
        asked = first(together, stage=stage, step=step)
        ask(f"{stage} before keys", asked, "ConsentError", "were never exchanged", "north")
    masked = {**anchor, "message": torch.zeros(3, dtype=torch.uint8)}
    ask("a sum before keys", first(together, tensors=masked), "ConsentError", "were never exchanged", "north")
    ask("a sum without a message", first(together), "WireError", "without a message", "north")
    ask("garbage", b"garbage", "WireError", "is not from fedsynth 1")
    ask("nothing", b"", "WireError", "is not from fedsynth 1")
    ask("cut in the header", order.to_bytes()[:40], "WireError", "too long")
    ask("cut in the arrays", order.to_bytes()[:-100], "WireError", "is not safetensors")
    means, asked_for = anchor["anchor.means"], len(anchor)
    more = {**anchor, "message": means.clone()}
    for name, tensors, reason in (
        ("no arrays", {}, f"sent 0 arrays, not the {asked_for}"),
        ("an array more", more, f"sent {asked_for + 1} arrays, not the {asked_for}"),
        ("another name", {n.replace("means", "median"): v for n, v in anchor.items()}, f"sent {asked_for} arrays"),
        ("another shape", anchor | {"anchor.means": means[:, :-1].clone()}, "sent anchor.means as"),
        ("another type", anchor | {"anchor.means": means.float()}, "sent anchor.means as"),
        (
            "not a number",
            anchor | {"anchor.means": means * torch.nan},
            "anchor.means with values that are not finite",
        ),
        (
            "another step's anchor",
            anchor | {"anchor.done": torch.tensor([1])},
            "is at step 1, the order is for step 0",
        ),
    ):
        ask(name, first(plan, tensors=tensors), "WireError", reason)
    ask("the kill switch", order, "RefusedError", "kill switch", "stopped")
    ask("a stricter policy", order, "ConsentError", "epsilon 8 exceeds this site's 1 (largest_epsilon)", "strict")
    return out


def make_site(folder: Path, study: Study) -> None:
    """Make a site of twelve people whose recordings are noise."""
    rng = np.random.default_rng(1)
    people = [
        Recording(rng.normal(size=(2, 420)).astype(np.float32), 100.0, ("C3", "C4"), f"s{n}", label, f"digest {n}")
        for n, label in enumerate(["rest", "task"] * 6)
    ]
    folder.mkdir()
    make_identity(folder)
    (folder / "site.toml").write_text(f'name = "{folder.name}"\nlargest_epsilon = 8.0\n', encoding="utf-8")
    windows = windows_of(people, study=study)
    with Ledger(folder / "ledger") as ledger:
        keep(folder / "holdings", recordings=people, windows=windows, study=study, key=ledger.key)


def make_sites(root: Path, plan: Plan, together: Plan) -> None:
    """Make one site per situation; all of them approved their plan while nothing stood in the way."""
    for name in ("east", "stopped", "strict", "good"):
        make_site(root / name, plan.study)
        approve(root / name, run="run", plan=plan)
    make_site(root / "north", together.study)
    roster = {name: make_identity(root / "north") if name == "north" else name.encode() * 8 for name in SITES}
    approve(root / "north", run="run", plan=together, roster={name: key[:32] for name, key in roster.items()})
    (root / "stopped" / "STOP").touch()
    (root / "strict" / "site.toml").write_text('name = "strict"\nlargest_epsilon = 1.0\n', encoding="utf-8")


def allowed(plan: Plan, together: Plan) -> list[Case]:
    """Return good orders: two that need no data, then two that do, then a retry."""
    assess = Order("run", plan.digest, len(plan.steps) - 1, Classifier(2, 2).state_dict()).to_bytes()
    return [
        Case("statement", "good", first(plan, step=STATEMENT_STEP, tensors={}).to_bytes(), "", ""),
        Case("keys", "north", first(together, step=SETUP_STEP, stage="keys", tensors={}).to_bytes(), "", ""),
        Case("anchor", "good", first(plan).to_bytes(), "", ""),
        Case("scores", "good", assess, "", ""),
        Case("retry", "good", first(plan).to_bytes(), "", ""),
    ]


def traced(root: Path, asked: list[Case]) -> dict[str, Seen]:
    """Have one process answer everything under strace."""
    listed = []
    for number, case in enumerate(asked):
        (root / f"case-{number}").write_bytes(case.data)
        listed.append({"site": case.site, "what": case.what, "data": f"case-{number}"})
    (root / "cases.json").write_text(json.dumps(listed), encoding="utf-8")
    tool = ["strace", "-f", "-qq", "-y", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(root / "trace")]
    subprocess.run(
        [*tool, sys.executable, "-c", SITE, str(root)],
        check=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    answers = json.loads((root / "answers.json").read_text(encoding="utf-8"))
    calls: list[list[tuple[str, str]]] = [[]]
    for line in (root / "trace").read_text(encoding="utf-8", errors="replace").splitlines():
        if f'{root}/begin-{len(calls) - 1}"' in line:
            calls.append([])
        elif match := CALL.match(line):
            calls[-1].append((match[1], match[2]))
    assert len(calls) == len(asked) + 1
    return {
        case.name: Seen(calls=made, **answer) for case, answer, made in zip(asked, answers, calls[1:], strict=True)
    }


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False).returncode == 0
    )


pytestmark = pytest.mark.skipif(not can_trace(), reason="strace is missing, or this system forbids to trace")


@pytest.fixture(scope="module")
def refusals(tiny_text: str) -> list[Case]:
    return cases(*(plan_of(study_of(tiny_text, together=together)) for together in (False, True)))


@pytest.fixture(scope="module")
def seen(tiny_text: str, refusals: list[Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    root = tmp_path_factory.mktemp("untouched")
    plans = [plan_of(study_of(tiny_text, together=together)) for together in (False, True)]
    make_sites(root, *plans)
    return traced(root, [*refusals, *allowed(*plans)])


def test_no_refused_message_opens_a_window(refusals: list[Case], seen: dict[str, Seen]) -> None:
    assert {case.name: seen[case.name].windows_opened for case in refusals} == {case.name: [] for case in refusals}


def test_every_refusal_is_the_same_word_and_kind_and_reason_stay_in_the_sites_own_log(
    refusals: list[Case], seen: dict[str, Seen]
) -> None:
    found = {case.name: (seen[case.name].word, seen[case.name].names) for case in refusals}
    kinds = {case.name: seen[case.name].kinds for case in refusals}
    unsaid = {case.name: seen[case.name].said for case in refusals if case.said not in seen[case.name].said}

    assert found == {case.name: (REFUSED, []) for case in refusals}
    assert kinds == {case.name: [case.kind] for case in refusals}
    assert unsaid == {}
    assert all(seen[case.name].said for case in refusals)


def test_a_good_order_opens_its_group_and_no_other(seen: dict[str, Seen]) -> None:
    """The control: the same eyes do see a window being opened."""
    opened = {name: [Path(text.split('"')[1]).name for text in seen[name].windows_opened] for name in GOOD}

    assert [seen[name].word for name in GOOD] == [""] * len(GOOD)
    train, held_out = ["train.windows"], ["held-out.windows"]
    assert opened == {"statement": [], "keys": [], "anchor": train, "scores": held_out, "retry": []}


@pytest.mark.parametrize("name", ["anchor", "scores"])
def test_the_charge_and_its_head_are_on_the_disk_before_the_windows_open(seen: dict[str, Seen], name: str) -> None:
    story = [what for call, text in seen[name].calls if (what := chapter(call, text))]

    before = story[: story.index("windows")]
    assert subsequence(["charge or use", "head written", "head in place"], before), story
    assert story.count("windows") == 1
    assert "charge or use" in story[story.index("windows") :]  # the answer, before it leaves


def chapter(call: str, text: str) -> str:
    """Return what a system call means for a ledger, or nothing."""
    synced = call in ("fsync", "fdatasync")
    if synced and "ledger.sqlite-wal>" in text:
        return "charge or use"
    if synced and "ledger.head.partial>" in text:
        return "head written"
    if call.startswith("rename") and "ledger.head.partial" in text:
        return "head in place"
    return "windows" if call.startswith("open") and ".windows" in text else ""


def subsequence(wanted: list[str], found: list[str]) -> bool:
    rest = iter(found)
    return all(what in rest for what in wanted)
