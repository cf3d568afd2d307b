"""The disk is full or broken: at each write, sync, rename or removal, once or for good."""

import shutil
from pathlib import Path

import pytest
from ledger_judge import WRITES, calls_of, make_place, require_strace, run, told, traced, violations

pytestmark = pytest.mark.slow

ORDINARY = "--nonces a,b,c,d --reopen 3"
FAULTS = ("pread64", *WRITES)


def fail_at(place: Path, call: str, number: int, *, error: str, for_good: bool) -> list[str]:
    """Let a call fail, and all later ones too if it is `for_good`; return what is wrong then and afterwards."""
    make_place(place)
    when = f"{number}+" if for_good else str(number)
    code = traced(place, ORDINARY, strace=["-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"])
    assert code == 0
    heard = told(place)
    outcomes = [line.split()[0] for line in heard]
    found = violations(place, heard)
    # Every order had an end, and the world was told of it: nothing broke on the way.
    if sum(outcomes.count(one) for one in ("sent", "spent", "failed")) != 4 or outcomes[-1] != "done":
        found.append(f"an order was left without an answer: {outcomes}")
    if for_good and number == 1 and call in ("fsync", "pwrite64") and "sent" in outcomes:
        found.append("an answer was sent although nothing could be written")
    run(place, "--nonces", "a,b,c,d,e,f", "--who", "b")
    found += violations(place, told(place))
    shutil.rmtree(place)
    return found


def test_a_disk_that_refuses_once_costs_at_most_the_order(place: Path) -> None:
    require_strace()
    points = calls_of(make_place(place / "whole"), ORDINARY, calls=FAULTS)

    wrong = {
        (*point, error): fail_at(place / "faulty", *point, error=error, for_good=for_good)
        for n, point in enumerate(points[:: len(points) // 24 + 1])
        for error, for_good in [[("EIO", False), ("ENOSPC", True), ("EIO", True)][n % 3]]
    }

    assert {point: found for point, found in wrong.items() if found} == {}


@pytest.mark.long
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_no_refusal_of_the_disk_releases_what_was_not_charged(place: Path, error: str, for_good: bool) -> None:
    require_strace()
    points = calls_of(make_place(place / "whole"), ORDINARY, calls=FAULTS)

    wrong = {point: fail_at(place / "faulty", *point, error=error, for_good=for_good) for point in points}

    print(f"{len(points)} x {error}, {sum(map(len, wrong.values()))} violations")
    assert {point: found for point, found in wrong.items() if found} == {}
