"""The gate's answers, with the training in another process, are those of one process, byte for byte."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fedsynth.privacy.allowance as allowance_module
from fedsynth.coordinator.run_folder import RunFolder, coordinate
from fedsynth.coordinator.transport import InProcess
from fedsynth.node.channel import connect
from fedsynth.node.supervise import Places, command_of
from fedsynth.site.session import SiteSession
from fedsynth.wire.order import SETUP_STEP, PackedOrder
from fedsynth.wire.update import Update

MakeRun = Callable[..., RunFolder]
SILENT_TRAIN = Path(__file__).parents[1] / "node" / "silent_train.py"
pytestmark = pytest.mark.slow


def silent(count: int) -> np.ndarray:
    return np.zeros(count, dtype=np.int64)


@pytest.mark.parametrize("trust", ["site", "aggregate"])
def test_every_answer_of_a_run_is_the_same_through_the_gate(
    trust: str,
    make_run: MakeRun,
    study_of_secure_sums: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = make_run("in-process", study_of_secure_sums) if trust == "aggregate" else make_run("in-process")
    monkeypatch.setattr(allowance_module, "poisson_draw", lambda count, **_: np.arange(count))
    sessions = {site: SiteSession(run.site(site), noise=silent) for site in run.facts().sites}
    mine, other = run.site("east"), tmp_path / "other"
    shutil.copytree(mine, other)
    places = Places(run=tmp_path, logs=tmp_path, gate=tmp_path / "gate.sock", train=tmp_path / "train.sock")
    gate = command_of("gate", site=other, kit=tmp_path, places=places, users=[os.geteuid()] * 3)
    compared: list[str] = []

    def asked(data: bytes) -> bytes:
        order = PackedOrder.from_bytes(data)
        torch.manual_seed(0)
        answer = sessions["east"].handle(data)
        if order.step == SETUP_STEP:
            # The keys of a run are random: both sites go on from one site's.
            shutil.copytree(mine / "secure", other / "secure", dirs_exist_ok=True)
            return answer
        with connect(places.gate, uid=os.geteuid()) as channel:
            channel.send({"ask": "order"}, data)
            assert channel.receive(seconds=120).payload == answer
        assert Update.from_bytes(answer).refused == ""
        compared.append(f"{order.step} {order.stage}".strip())
        return answer

    processes = [subprocess.Popen([sys.executable, str(SILENT_TRAIN), str(places.train)]), subprocess.Popen(gate)]
    try:
        ends = time.monotonic() + 60
        while not (places.gate.exists() and places.train.exists()):
            assert time.monotonic() < ends
            time.sleep(0.1)
        handlers = {site: session.handle for site, session in sessions.items()}
        coordinate(run.path, transport=InProcess({**handlers, "east": asked}))
    finally:
        for process in processes:
            process.terminate()
            process.wait()

    kinds = {step.kind for step in run.plan().steps}
    assert kinds == {"anchor", "assess", "gradient" if trust == "aggregate" else "train"}
    assert set(compared) >= {str(number) for number in range(len(run.plan().steps))} | {"-1"}
