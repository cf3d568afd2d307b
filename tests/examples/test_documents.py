"""What the documents say of the demo is what its study leads to."""

import re
from pathlib import Path

from fedsynth.plan import plan_of
from fedsynth.study import parse_study

ROOT = Path(__file__).parents[2]


def test_the_privacy_page_tells_the_noise_of_the_demo() -> None:
    plan = plan_of(parse_study((ROOT / "examples" / "toy" / "study.toml").read_text(encoding="utf-8")))
    page = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8")

    told = re.findall(
        r"^\| (anchor: [^|]+|gradients: [^|]+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \|$", page, flags=re.MULTILINE
    )

    train = plan.mechanisms("train")
    gradients = [item for item in train if item.purpose.startswith("gradients")]
    once = [item for item in train if item not in gradients]
    rows = [(item.purpose, item) for item in once]
    rows.append((f"gradients: critic, each of {len(gradients)} rounds", gradients[0]))
    assert told == [
        (name, f"{item.noise_multiplier:.3f}", f"{item.sampling_probability:g}", str(item.steps))
        for name, item in rows
    ]
