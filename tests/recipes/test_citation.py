"""The citation says what the package says of itself."""

import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_citation_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))

    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    told = (cited["title"], cited["version"], cited["license"], cited["authors"], cited["keywords"])
    assert told == tuple(project[key] for key in ("name", "version", "license", "authors", "keywords"))
