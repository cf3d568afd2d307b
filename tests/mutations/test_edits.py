"""Planted faults edit what is there: every text that one replaces stands in its file exactly once."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_edit_finds_its_text_once() -> None:
    faults = tomllib.loads(Path(__file__).with_name("faults.toml").read_text(encoding="utf-8"))["fault"]
    edits = [(fault["name"], *edit) for fault in faults for edit in fault["edits"]]
    found = {
        (name, old): (ROOT / "fedsynth" / file).read_text(encoding="utf-8").count(old)
        for name, file, old, _ in edits
    }

    assert {where: count for where, count in found.items() if count != 1} == {}
