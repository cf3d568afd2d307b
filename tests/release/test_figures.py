"""Two readings of one sum: the single file finds the figures of a statement contradicted where `verify` does."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsynth.errors import RunError, StatementError
from fedsynth.privacy.lower_bound import least_epsilon
from fedsynth.privacy.mechanism import Mechanism
from fedsynth.privacy.statement import PrivacyStatement

STATEMENT = json.loads(
    (Path(__file__).resolve().parent / "vectors/release/privacy/statement.json").read_text(encoding="utf-8")
)
EVENTS = st.fixed_dictionaries(
    {
        "purpose": st.just("sum"),
        "noise_multiplier": st.sampled_from([0.0, 0.2, 0.25, 0.5, 1.0, 2.0, 4.0, 100.0]),
        "sampling_probability": st.sampled_from([1.0, 0.5, 0.01, 1e-6, 0.0]),
        "steps": st.sampled_from([1, 1, 2, 40, 10**7, 0, 1.0, True]),
        "clipping_norm": st.sampled_from([1.0, 1.0, 0.5, "inf", 0.0]),
        "group": st.sampled_from(["train", "held-out"]),
        "unit": st.sampled_from(["subject", "subject", "subject", "window"]),
        "noise_shares": st.sampled_from([1, 1, 3, 0]),
    }
)
SITES = st.fixed_dictionaries(
    {
        "site": st.just("east"),
        "epsilon": st.floats(0, 25),
        "epsilon_second": st.floats(0, 25) | st.just("inf"),
        "delta": st.sampled_from([1e-5, 1e-5, 1e-5, 1e-3]),
        "ledger_head": st.just("a" * 64),
        "events": st.lists(EVENTS, max_size=2),
        "held_out_events": st.lists(EVENTS, max_size=1),
    }
)


@settings(max_examples=1000, deadline=None)
@given(sites=st.lists(SITES, max_size=2), largest=st.booleans())
def test_the_single_file_adds_figures_up_as_the_statement_does(
    sites: list[dict[str, Any]], largest: bool, single_file: ModuleType
) -> None:
    epsilon = max((site["epsilon"] for site in sites), default=1.0) if largest else 1.0
    body = {**STATEMENT, "epsilon": epsilon, "sites": sites}

    try:
        PrivacyStatement.from_json(json.dumps(body))
        said = ""
    except (StatementError, RunError) as error:
        said = type(error).__name__
    try:
        single_file.check_figures(body)
        also = ""
    except single_file.ReleaseError:
        also = "StatementError"
    except (KeyError, TypeError, ValueError, OverflowError):
        also = "RunError"

    # Of several faults either may be named first.
    assert bool(said) == bool(also), (said, also)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize(
    "events",
    [
        pytest.param([("whole", 2.0, 1.0, 3), ("also", 1.5, 1.0, 1)], id="sums over everybody"),
        pytest.param([("drawn", 0.7, 0.1, 5)], id="sums over some"),
        pytest.param([("whole", 4.0, 1.0, 1), ("drawn", 0.6, 0.3, 1)], id="both"),
    ],
)
def test_it_draws_the_line_where_the_lower_bound_stands(
    events: list[tuple[str, float, float, int]], delta: float, single_file: ModuleType
) -> None:
    mechanisms = [Mechanism(*event, 1.0) for event in events]
    least = least_epsilon(mechanisms, delta=delta)
    read = [mechanism.as_json() for mechanism in mechanisms]

    assert single_file.delta_needed(read, 1.0001 * least) < delta < single_file.delta_needed(read, 0.9999 * least)
