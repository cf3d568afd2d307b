"""The public report: from a study, its promise, its scores and synthetic windows to one page and its numbers.

Every number on the page is written through `Numbers`, which also writes `metrics.json`; so none can be shown
without a source. The page makes no request, runs no script, and depends on nothing but its input.
"""

import json
import math
import re
from dataclasses import asdict, dataclass
from html import unescape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedsynth.errors import PrivacyError
from fedsynth.evaluation.compared_scores import about_raw_windows
from fedsynth.evaluation.evidence import expected_interval, says_nothing
from fedsynth.evaluation.score import Score
from fedsynth.evaluation.tally_plan import SUPPOSED
from fedsynth.evaluation.templates import WAVES
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.report import figures, traces
from fedsynth.report.numbers import Numbers
from fedsynth.report.promise import promise_of
from fedsynth.report.sample import coherence
from fedsynth.report.spending import budget_groups, histories_of, site_row
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticWindows

_PUBLIC = ("private sum", "private count", "synthetic", "public simulation")
_UNITS = ("subject", "recording", "window")
_AGREEMENT = 0.01
_A_PERSON = re.compile(
    r"\b(?:per|each)[\s-]+(?:subject|person|patient)\b|\b(?:subject|person|patient)[\s-]+level\b"
)


COPIES = "copies of recordings"
"""The fact that says that somebody with the recordings at hand looked for copies of them, and found none."""


@dataclass(frozen=True)
class ReportPage:
    """What a reader is shown.

    `windows` is a sample of what is released (`public_sample`); `counts` are the windows of each label and
    `subjects` the made-up subjects of the whole release. `facts` are labelled lines of provenance.
    """

    study: Study
    statement: PrivacyStatement
    scores: tuple[Score, ...]
    windows: SyntheticWindows
    counts: tuple[int, ...]
    subjects: int
    facts: dict[str, str]


def write_report(folder: Path, page: ReportPage) -> None:
    """Write `index.html`, one file that needs no other, and `metrics.json` with every number on it.

    The same page gives the same bytes. A run without privacy is shown as one: its page says so first.

    Args:
        folder: made if it is missing; the two files are replaced.
        page: what to show.

    Raises:
        PrivacyError: a score comes from real recordings; the statement contradicts the study or its sites; or
            a text on the page speaks of people where the unit is a recording or a window.
    """
    _refuse(page)
    numbers = Numbers(windows=page.statement.made.windows, labels=len(page.study.labels.names))
    text = _render(page, numbers)
    metrics = json.dumps([asdict(metric) for metric in numbers.metrics], indent=2, allow_nan=False) + "\n"
    _refuse_wrong_unit(text + metrics, page.statement.unit)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(text, encoding="utf-8", newline="\n")
    (folder / "metrics.json").write_text(metrics, encoding="utf-8", newline="\n")


def _refuse(page: ReportPage) -> None:
    real = [score.name for score in page.scores if score.source not in _PUBLIC]
    if real:
        raise PrivacyError(
            f"{len(real)} of {len(page.scores)} scores would tell of real recordings ({real[0]!r} first); a public "
            "report takes charged private sums, synthetic windows and public simulations. Nothing was written"
        )
    statement = page.statement
    if statement.unit not in _UNITS or statement.unit != page.study.privacy.unit:
        raise PrivacyError(
            f"the statement promises something to each {statement.unit!r}, the study asked for "
            f"{page.study.privacy.unit!r}. Nothing was written; use the statement of this very run"
        )
    for site in statement.sites:
        if site.epsilon > statement.epsilon or site.delta > statement.delta:
            raise PrivacyError(
                f"{site.site} spent epsilon = {site.epsilon:.3f} at delta = {site.delta:g}, more than the "
                f"statement's {statement.epsilon:.3f} at {statement.delta:g}. Nothing was written"
            )


def _refuse_wrong_unit(text: str, unit: str) -> None:
    """A recording's or a window's promise must not read like a person's."""
    if unit == "subject":
        return
    visible = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", text))).lower()
    found = _A_PERSON.search(visible)
    if found:
        raise PrivacyError(
            f"the unit of this study is the {unit}, but a text of the report says {found[0]!r}; reword the "
            "title, score or fact it stands in. Nothing was written"
        )


def _render(page: ReportPage, numbers: Numbers) -> str:
    environment = Environment(
        loader=PackageLoader("fedsynth.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    paper = traces.paper_of(page.study.signal.modality)
    context: dict[str, Any] = {
        "study": page.study,
        "statement": page.statement,
        "title": page.study.title or page.study.name,
        "toy": page.statement.made.cohort == "toy",
        "made": page.statement.made,
        "promise": promise_of(page.statement, numbers),
        "release": _release(page, numbers),
        "sites": [site_row(site, page.statement, numbers) for site in page.statement.sites],
        "histories": histories_of(page.statement.sites, numbers),
        "budget": Markup(figures.budget_svg(budget_groups(page.statement.sites))),
        "scores": [numbers.score(score) for score in page.scores],
        "expected": _expected(page, numbers),
        "raw_windows": about_raw_windows(page.scores),
        "sources": sorted({score.source for score in page.scores}),
        "forest": Markup(figures.forest_svg(page.scores, labels=len(page.study.labels.names))),
        "labels": _labels(page, numbers),
        "paper": paper,
        "strips": paper.has_strips(page.windows),
        "coherence": _coherence(page, numbers),
        "checks": _checks(page, numbers),
        "composes": page.statement.composes.rstrip(". "),
        "overlap": page.statement.overlap.rstrip(". "),
        "facts": page.facts | {"study": page.study.name, "study digest": page.study.digest},
    }
    return environment.get_template("report.html").render(context).rstrip() + "\n"


def _expected(page: ReportPage, numbers: Numbers) -> dict[str, Any] | None:
    """Return how well the plan could have measured good windows, where a private score says nothing."""
    labels = len(page.study.labels.names)
    silent = any(score.source == "private sum" and says_nothing(score, labels=labels) for score in page.scores)
    asked = [
        event
        for site in page.statement.sites
        for event in site.held_out
        if event.is_private and event.group == "held-out"
    ]
    if not silent or not asked:
        return None
    event = asked[-1]
    found = expected_interval(
        page.study,
        noise_multiplier=event.noise_multiplier,
        sites=len(page.statement.sites),
        noise_shares=event.noise_shares,
    )

    def told(shown: str, name: str, value: float) -> Markup:
        return numbers.promise(shown, name=name, value=value, about="from public facts")

    return {
        "empty": found.says_nothing,
        "units": told(f"{found.units}", "held-out units declared", found.units),
        "noise": told(f"{found.noise_std:.2f}", "noise on every count of a score", found.noise_std),
        "auroc": told(f"{SUPPOSED:.2f}", "AUROC supposed", SUPPOSED),
        "low": told(f"{found.low:.2f}", "interval to be expected, low", found.low),
        "high": told(f"{found.high:.2f}", "interval to be expected, high", found.high),
    }


def _release(page: ReportPage, numbers: Numbers) -> dict[str, Any]:
    count, (_, n_channels, n_times) = sum(page.counts), page.windows.signal.shape
    seconds = n_times / page.windows.sfreq

    def drawn(shown: str, name: str, value: float) -> Markup:
        return numbers.say(shown, name=name, value=value, source="synthetic", about="shape of the release")

    return {
        "sites": numbers.promise(
            str(len(page.statement.sites)),
            name="sites",
            value=len(page.statement.sites),
            about="that spent budget on this release",
        ),
        "windows": drawn(f"{count:,}", "synthetic windows", count),
        "subjects": drawn(f"{page.subjects:,}", "synthetic subjects", page.subjects),
        "channels": drawn(str(n_channels), "channels", n_channels),
        "seconds": drawn(f"{seconds:.3g}", "seconds in a window", seconds),
        "sfreq": drawn(f"{page.windows.sfreq:g}", "sampling frequency in Hz", page.windows.sfreq),
    }


def _labels(page: ReportPage, numbers: Numbers) -> list[dict[str, Any]]:
    windows, paper = page.windows, traces.paper_of(page.study.signal.modality)
    low, high = page.study.signal.bandpass
    spectra = figures.spectrum_svgs(
        windows, lowest=min(low, 1.0), highest=min(high * 1.1, windows.sfreq / 2), name="spectrum"
    )
    rows = []
    for label, (name, count) in enumerate(zip(windows.label_names, page.counts, strict=True)):
        color = figures.PALETTE[label % len(figures.PALETTE)]
        examples = traces.example_svgs(windows, label, name=f"example-{label}", color=color, paper=paper)
        rows.append(
            {
                "name": name,
                "count": numbers.say(
                    f"{count:,}",
                    name=f"synthetic windows, label {name}",
                    value=count,
                    source="synthetic",
                    about="shape of the release",
                ),
                "examples": [Markup(svg) for svg in examples],
                "spectrum": Markup(spectra[label]),
            }
        )
    return rows


def _coherence(page: ReportPage, numbers: Numbers) -> Markup | None:
    share = coherence(page.windows)
    if share is None:
        return None
    return numbers.say(
        figures.percent(max(share, 0.0)),
        name="share of variance between synthetic subjects",
        value=share,
        source="synthetic",
        about="intraclass correlation of log power, of the signal and of its slope, within labels",
    )


def _checks(page: ReportPage, numbers: Numbers) -> list[dict[str, Any]]:
    """Return what was looked at, what was taken on trust and what nobody looked at, in that order."""
    statement, looked = page.statement, COPIES in page.facts
    sites = [site for site in statement.sites if math.isfinite(site.epsilon) and site.epsilon > 0]
    apart = max((abs(site.epsilon_second / site.epsilon - 1) for site in sites), default=math.inf)
    agreement = numbers.promise(
        figures.percent(apart) if math.isfinite(apart) else "∞",
        name="largest difference between the two accountants, relative",
        value=apart,
        about=f"{statement.accountant} and {statement.second_accountant}, over all sites",
        direction=-1,
    )
    waves = any(score.name == WAVES for score in page.scores)
    heads = all(re.fullmatch("[0-9a-f]{64}", site.ledger_head) for site in statement.sites)
    return [
        {"key": "headline", "status": "checked"},
        {"key": "sources", "status": "checked"},
        {"key": "accountants", "status": "checked" if apart <= _AGREEMENT else "failed", "value": agreement},
        {"key": "ledgers", "status": "checked" if heads and statement.sites else "failed"},
        {"key": "templates", "status": "checked" if waves else "not checked"},
        *([{"key": "copies", "status": "checked"}] if looked else []),
        {"key": "signature", "status": "yours"},
        {"key": "tuning", "status": "assumed"},
        {"key": "overlap", "status": "assumed"},
        *([] if looked else [{"key": "copies", "status": "not checked"}]),
        {"key": "attacks", "status": "not checked"},
        {"key": "audit", "status": "not checked"},
        {"key": "subgroups", "status": "not checked"},
        {"key": "clinicians", "status": "not checked"},
    ]
