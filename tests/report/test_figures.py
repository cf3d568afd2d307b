import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from fedsynth.evaluation.evidence import chance_level
from fedsynth.evaluation.score import Score
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.report import figures, traces
from fedsynth.report import svg as svg_module
from fedsynth.report.page import ReportPage
from fedsynth.synthesis.windows import SyntheticWindows

SMALL = 100_000


@pytest.mark.parametrize(
    ("epsilon", "percent"),
    [
        pytest.param(1.0, 2.7, id="epsilon 1"),
        pytest.param(2.0, 7.4, id="epsilon 2"),
        pytest.param(4.0, 54.6, id="epsilon 4"),
        pytest.param(8.0, 99.97, id="epsilon 8"),
    ],
)
def test_the_bound_at_one_percent_false_positives_is_the_published_one(epsilon: float, percent: float) -> None:
    bound = figures.largest_tpr(0.01, epsilon=epsilon, delta=0.0)

    assert round(100 * bound, 2 if percent > 99 else 1) == percent


def test_the_bound_adds_delta_and_never_passes_one() -> None:
    assert figures.largest_tpr(0.0, epsilon=1.0, delta=1e-5) == pytest.approx(1e-5)
    assert figures.largest_tpr(1.0, epsilon=1.0, delta=1e-5) == 1.0
    assert figures.largest_tpr(0.01, epsilon=math.inf, delta=1e-5) == 1.0
    assert figures.largest_tpr(0.01, epsilon=1000.0, delta=1e-5) == 1.0


def test_the_bound_holds_for_the_best_test_against_randomised_response() -> None:
    """Randomised response is tight: the test that believes the answer sits on the corner of the region."""
    epsilon = 1.5
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))

    assert figures.largest_tpr(1 - truth, epsilon=epsilon, delta=0.0) == pytest.approx(truth)


def test_shares_of_whole_sums_follow_one_over_sigma_squared() -> None:
    one, two = Mechanism("a", 1.0, 1.0, 1, 1.0), Mechanism("b", 2.0, 1.0, 4, 1.0)

    assert figures.budget_shares([one, two]) == pytest.approx((0.5, 0.5))
    assert figures.budget_shares([]) == ()


def test_shares_without_noise_do_not_divide_by_zero() -> None:
    loud, silent = Mechanism("a", 0.0, 1.0, 1, math.inf), Mechanism("b", 1.0, 1.0, 1, 1.0)

    assert figures.budget_shares([loud, silent]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "chance"),
    [
        pytest.param("AUROC, train on synthetic, test on real (S)", 0.5, id="auroc"),
        pytest.param("macro-F1 over labels", 0.2, id="macro F1 of five labels"),
        pytest.param("log-spectral distance, dB", None, id="no chance level"),
    ],
)
def test_chance_is_known_by_the_name_of_a_score(name: str, chance: float | None) -> None:
    assert chance_level(_score(name), labels=5) == chance


def test_every_figure_is_small_closed_and_says_what_it_shows(
    toy_page: ReportPage, bonn_page: ReportPage, ecg_page: ReportPage
) -> None:
    for page in (toy_page, bonn_page, ecg_page):
        for svg in _figures(page):
            root = ElementTree.fromstring(svg)
            names = [element.tag for element in root.iter()]
            targets = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)

            assert len(svg.encode()) < SMALL
            assert {"script", "style", "image", "metadata"}.isdisjoint(names)
            assert all(f'id="{target}"' in svg for target in targets)
            assert "http" not in svg
            assert root.findtext("title")
            assert root.findtext("desc")


def test_ids_of_two_figures_on_one_page_differ(toy_page: ReportPage) -> None:
    ids = [name for svg in _figures(toy_page) for name in re.findall(r' id="([^"]+)"', svg)]

    assert len(ids) == len(set(ids))


def test_a_long_window_of_many_channels_stays_small() -> None:
    rng = np.random.default_rng(1)
    windows = SyntheticWindows(
        signal=rng.normal(0, 50, (3, 64, 8192)).astype(np.float32),
        labels=np.zeros(3, np.int64),
        subjects=np.arange(3),
        label_names=("rest", "never drawn"),
        channels=tuple(f"E{k}" for k in range(64)),
        sfreq=512.0,
    )

    examples = traces.example_svgs(windows, 0, name="a", color="#0072b2", paper=traces.paper_of("eeg"))

    assert max(len(svg.encode()) for svg in examples) < SMALL
    assert traces.example_svgs(windows, 1, name="b", color="#0072b2", paper=traces.paper_of("eeg")) == ()
    assert figures.spectrum_svgs(windows, lowest=1.0, highest=40.0, name="c")[1] == ""


def test_thinning_keeps_the_spike() -> None:
    trace = np.zeros(8192)
    trace[4001] = 900.0

    times, values = traces.thin(trace, 512.0)

    assert len(values) <= traces.MOST_POINTS
    assert values.max() == 900.0
    assert times[values.argmax()] == 4001 / 512


def test_an_ecg_is_drawn_as_strips_of_three_leads_on_paper(ecg_page: ReportPage) -> None:
    strips = traces.example_svgs(ecg_page.windows, 0, name="a", color="#0072b2", paper=traces.paper_of("ecg"))

    for strip in strips:
        said = "".join(ElementTree.fromstring(strip).itertext())
        assert all(lead in said for lead in ("II", "V1", "V5", "mV"))
        assert "aVR" not in said


def test_the_grid_of_ecg_paper_has_a_line_every_half_millivolt_and_fifth_of_a_second() -> None:
    figure = Figure()
    axes = figure.add_axes((0, 0, 1, 1))

    traces._draw_grid(axes, seconds=2.0, low=-1200.0, high=900.0)

    across, along = axes.collections
    heights = [float(segment[0][1]) for segment in across.get_segments()]
    times = [float(segment[0][0]) for segment in along.get_segments()]
    assert heights == [-1000.0, -500.0, 0.0, 500.0]
    assert times == pytest.approx([0.2 * k for k in range(11)])


def test_short_paths_return_to_the_points_they_came_from() -> None:
    assert svg_module._short_path("M 1.04 2 \nL 3.5 1.75 \nL 3.5 1.75 \nL 0 0 \nz") == "M1 2l2.5-.2l-3.5-1.8z"


def test_a_window_of_silence_can_be_drawn() -> None:
    windows = SyntheticWindows(
        signal=np.zeros((1, 1, 128), np.float32),
        labels=np.zeros(1, np.int64),
        subjects=np.zeros(1, np.int64),
        label_names=("flat",),
        channels=("Cz",),
        sfreq=128.0,
    )

    assert len(traces.example_svgs(windows, 0, name="a", color="#0072b2", paper=traces.paper_of("eeg"))) == 1
    assert figures.spectrum_svgs(windows, lowest=1.0, highest=40.0, name="b")[0]


def test_a_name_that_looks_like_markup_is_text() -> None:
    hostile = '</text><script>alert(1)</script> d="M . ." id="x" $\\frac{1}$'

    svg = figures.forest_svg([_score(f"AUROC {hostile}")], labels=2)

    said = "".join(ElementTree.fromstring(svg).itertext())
    assert "<script" not in svg
    assert 'd="M . ." id="x"' in said


def test_a_forest_without_comparable_scores_is_empty() -> None:
    assert figures.forest_svg([_score("distance, dB")], labels=2) == ""


def test_a_readers_matplotlib_settings_do_not_change_a_figure() -> None:
    before = promise(epsilon=8.0)
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):
        after = promise(epsilon=8.0)

    assert after == before


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0, 20.0, math.inf])
def test_any_epsilon_can_be_drawn(epsilon: float) -> None:
    assert promise(epsilon=epsilon, unit="window").startswith("<svg")


def promise(*, epsilon: float, unit: str = "subject") -> str:
    """Draw a promise that its mechanisms come up to."""
    recognised = [figures.largest_tpr(rate, epsilon=epsilon, delta=1e-5) for rate in figures.FALSE_POSITIVE_RATES]
    return figures.promise_svg(epsilon=epsilon, delta=1e-5, unit=unit, recognised=recognised)


def _score(name: str) -> Score:
    return Score(name, 0.7, 0.6, 0.8, 1, "private sum", "")


def _figures(page: ReportPage) -> list[str]:
    statement = page.statement
    return [
        promise(epsilon=statement.epsilon, unit=statement.unit),
        figures.forest_svg(page.scores, labels=len(page.study.labels.names)),
        figures.budget_svg([("north", statement.sites[0].events), ("held out", statement.sites[0].held_out)]),
        *figures.spectrum_svgs(page.windows, lowest=1.0, highest=44.0, name="spectrum"),
        *(
            svg
            for label in range(len(page.windows.label_names))
            for svg in traces.example_svgs(
                page.windows,
                label,
                name=f"example-{label}",
                color="#0072b2",
                paper=traces.paper_of(page.study.signal.modality),
            )
        ),
    ]
