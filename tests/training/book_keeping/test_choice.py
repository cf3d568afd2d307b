"""Which of two exact ways to a gradient sum is taken; the crossing is measured in benchmarks/README.md."""

import pytest
import torch

from fedsynth.training.book_keeping.gradients import choose


@pytest.mark.parametrize(
    ("n_windows", "n_units", "threads", "device", "method"),
    [
        pytest.param(256, 256, 1, "cpu", "factored", id="one window each"),
        pytest.param(256, 32, 1, "cpu", "factored", id="a few windows each"),
        pytest.param(256, 16, 1, "cpu", "loop", id="many windows each"),
        pytest.param(256, 16, 2, "cpu", "factored", id="not many for two threads"),
        pytest.param(256, 4, 2, "cpu", "loop", id="many for two threads"),
        pytest.param(256, 16, 1, "cuda", "factored", id="many windows each on a GPU"),
        pytest.param(256, 1, 1, "cuda", "loop", id="one unit is one backward"),
    ],
)
def test_the_faster_way_depends_on_windows_per_unit(
    n_windows: int, n_units: int, threads: int, device: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)

    assert choose(n_windows=n_windows, n_units=n_units, device=torch.device(device)) == method
