"""Approvals: wait until sites have approved a run's plan, before the first of them is charged.

A site that approved answers the order for its statement, which opens no data; any other says no. So the coordinator
learns that a site has approved, and not why another has not.
"""

import time
from collections.abc import Callable

from fedsynth.coordinator.transport import Transport
from fedsynth.errors import FedsynthError, RefusedError
from fedsynth.wire.order import STATEMENT_STEP, Order
from fedsynth.wire.update import Update

_POLL_SECONDS = 10.0


def await_approvals(
    transport: Transport,
    *,
    run: str,
    plan: str,
    least: int,
    seconds: float,
    progress: Callable[[str, int, int], None],
) -> None:
    """Ask every site until all have approved, or the time is over.

    Args:
        transport: reaches the sites.
        run: the name of the run.
        plan: the digest of its plan.
        least: how many sites have to approve.
        seconds: to wait for all of them.
        progress: called with (what, done, all).

    Raises:
        RefusedError: fewer than `least` have approved when the time is over. Nobody was charged.
    """
    ends = time.monotonic() + seconds
    order = Order(run, plan, STATEMENT_STEP, {}).to_bytes()
    missing = set(transport.sites())
    wanted = len(missing)
    while True:
        missing -= {site for site, data in transport.exchange(dict.fromkeys(sorted(missing), order)) if _yes(data)}
        progress("approvals", wanted - len(missing), wanted)
        if not missing or time.monotonic() >= ends:
            break
        time.sleep(min(_POLL_SECONDS, max(0.0, ends - time.monotonic())))
    if wanted - len(missing) < least:
        raise RefusedError(
            f"{wanted - len(missing)} of {wanted} sites have approved the plan, the study needs {least}; missing: "
            f"{', '.join(sorted(missing)) or 'sites that are not connected'}. Nobody was charged. Send them the "
            "request, and give the same command again"
        )


def _yes(data: bytes) -> bool:
    try:
        return not Update.from_bytes(data).refused
    except (FedsynthError, ValueError, OverflowError, RecursionError):
        return False
