"""A run waits for its sites' approvals before anybody is charged."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from fedsynth.coordinator import approvals
from fedsynth.coordinator.approvals import await_approvals
from fedsynth.errors import RefusedError
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import Update

YES, NO = Update().to_bytes(), Update(refused="refused").to_bytes()


class Sites:
    """Sites that approve after some time, in exchanges; None never does, and "garbage" cannot be read."""

    def __init__(self, after: Mapping[str, int | str | None]) -> None:
        self.after, self.asked = dict(after), list[Order]()
        self.exchanges = 0

    def sites(self) -> tuple[str, ...]:
        return tuple(self.after)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        self.exchanges += 1
        for site, data in orders.items():
            self.asked.append(Order.from_bytes(data))
            when = self.after[site]
            if when == "away":
                continue
            yield (
                site,
                b"?" if when == "garbage" else YES if when is not None and self.exchanges > int(when) else NO,
            )


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int, int]]]:
    """Wait with a clock on which only sleeping takes time."""
    now = [0.0]
    monkeypatch.setattr(approvals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(approvals.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def waited(sites: Sites, *, least: int = 2, seconds: float = 60.0) -> list[tuple[str, int, int]]:
        told: list[tuple[str, int, int]] = []
        await_approvals(
            sites,
            run="r",
            plan="0" * 64,
            least=least,
            seconds=seconds,
            progress=lambda what, done, total: told.append((what, done, total)),
        )
        return told

    return waited


def test_whoever_approved_is_not_asked_again(wait: Callable[..., list[tuple[str, int, int]]]) -> None:
    sites = Sites({"east": 0, "north": 2, "west": 0})

    told = wait(sites)

    assert told == [("approvals", 2, 3), ("approvals", 2, 3), ("approvals", 3, 3)]
    assert len(sites.asked) == 3 + 1 + 1
    assert {(order.step, order.stage) for order in sites.asked} == {(STATEMENT_STEP, "")}


def test_a_run_goes_on_without_a_site_when_the_time_is_over(
    wait: Callable[..., list[tuple[str, int, int]]],
) -> None:
    assert wait(Sites({"east": 0, "north": "away", "west": 1}))[-1] == ("approvals", 2, 3)


@pytest.mark.parametrize("other", [None, "away", "garbage"])
def test_too_few_approvals_end_the_run_before_anybody_is_charged(
    wait: Callable[..., list[tuple[str, int, int]]], other: int | str | None
) -> None:
    with pytest.raises(RefusedError, match=r"1 of 2 sites have approved.* missing: north\. Nobody was charged"):
        wait(Sites({"east": 0, "north": other}))
