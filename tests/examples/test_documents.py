"""What the documents say of the demo is what its study leads to, and their prose can be read on paper."""

import pydoc
import re
from pathlib import Path

import pytest

from fedsynth.plan import plan_of
from fedsynth.study import parse_study

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md")]
    + [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    + [ROOT / folder / "README.md" for folder in ("deploy", "benchmarks")]
)
WIDTH = 100


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


HISTORY = ("docs/log.md", "docs/decisions/")
"""What was true on its day keeps the names of that day."""
NAMED = re.compile(r"`((?:benchmarks|client|deploy|docs|examples|fedsynth|server|tests)/[\w./*-]*)`")
DOTTED = re.compile(r"`(fedsynth(?:\.\w+)+)`")


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if not page.relative_to(ROOT).as_posix().startswith(HISTORY)],
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_what_a_document_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert [path for path in NAMED.findall(text) if not list(ROOT.glob(path))] == []
    assert [name for name in DOTTED.findall(text) if pydoc.locate(name) is None] == []


def test_every_room_has_a_line_in_the_picture() -> None:
    picture = (ROOT / "docs" / "picture.md").read_text(encoding="utf-8")

    told = re.findall(r"^\| `fedsynth/(\w+)/` \|", picture, flags=re.MULTILINE)

    assert sorted(told) == sorted(path.parent.name for path in (ROOT / "fedsynth").glob("*/__init__.py"))


def prose_too_wide(text: str) -> list[int]:
    """Return the numbers, from one, of lines of prose that are wider than `WIDTH` and have a place to break.

    Prose is what is no code, no table, no heading, no reference and no picture that stands alone.
    """
    wide = []
    is_fenced = is_nested = False  # nested: in a list or an admonition, where four blanks do not make code
    for number, line in enumerate(text.splitlines(), start=1):
        words = re.sub(r"^ *([-*+]|\d+\.) ", "", line).split()
        is_fence = line.startswith("```")
        is_code = is_fence or is_fenced or (line.startswith("    ") and not is_nested)
        is_whole = len(words) == 1 or re.match(r" *(\||#+ |!\[[^\]]*\]\(\S+\)$|\[[^\]]*\]: )", line)
        if len(line) > WIDTH and not is_code and not is_whole:
            wide.append(number)
        is_fenced ^= is_fence
        if line and not line.startswith(" "):
            is_nested = bool(re.match(r"[-*+] |\d+\. |!!! ", line))
    return wide


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_prose_is_wrapped_at_100_columns(page: Path) -> None:
    assert prose_too_wide(page.read_text(encoding="utf-8")) == []


LONG = "word " * 20 + "last"


@pytest.mark.parametrize(
    ("text", "wide"),
    [
        pytest.param(f"short\n{LONG}\n", [2], id="a paragraph"),
        pytest.param(f"- {LONG}\n  {LONG}\n", [1, 2], id="an item and how it goes on"),
        pytest.param(f"10. {LONG}\n    {LONG}\n", [1, 2], id="a numbered item indented by four"),
        pytest.param(f'!!! note "title"\n    {LONG}\n', [2], id="an admonition"),
        pytest.param(f"{LONG[:100]}\n", [], id="as wide as allowed"),
        pytest.param(f"text\n\n    {LONG}\n\n{LONG}\n", [5], id="indented code, and what follows it"),
        pytest.param(f"```\n{LONG}\n```\n{LONG}\n", [4], id="fenced code, and what follows it"),
        pytest.param(f"# {LONG}\n\n| {LONG} |\n", [], id="a heading and a table"),
        pytest.param(f"- https://example.org/{'x' * 100}\n", [], id="one word that cannot be broken"),
        pytest.param(f"![{LONG}](picture.svg)\n\n[a]: {LONG}\n", [], id="a picture and a reference"),
    ],
)
def test_only_prose_counts_as_too_wide(text: str, wide: list[int]) -> None:
    assert prose_too_wide(text) == wide
