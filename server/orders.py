"""Orders of one exchange on their way: what is sent, who has not answered yet, and who has to be asked again.

A message can be lost after a node took it: its link is killed, or killed halfway through its reply. The SuperLink
tells when a node was greeted last, so a node that was greeted since it was asked is asked again at once. A site
answers the same order with the same bytes and charges once, whichever of its answers comes first.
"""

import logging
import time
from collections.abc import Iterator, Mapping

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import pull_objects

log = logging.getLogger("fedsynth.coordinator")
# A part of a reply that is still on its way is waited for, one site after the other; Flower 1.42 begins with 1 s.
FIRST_WAIT_SECONDS = 0.05
pull_objects.__kwdefaults__ = {
    **(pull_objects.__kwdefaults__ or {}),
    "initial_backoff": FIRST_WAIT_SECONDS,
    "backoff_cap": 1.0,
}
_LOST = (3, 4)  # Flower's MESSAGE_UNAVAILABLE and REPLY_MESSAGE_UNAVAILABLE: parts of a message never came
_UNAVAILABLE = 5  # Flower's NODE_UNAVAILABLE: the node has not been heard for half a minute
_AWAY_SECONDS = 300.0
_LOOK_SECONDS = 2.0
_MOST_TIMES_ASKED = 10
_PARCEL_BYTES = 64 * 2**20


class Orders:
    """The orders of one exchange, each to one node."""

    def __init__(
        self, grid: Grid, orders: Mapping[int, bytes], *, names: Mapping[int, str], seconds: float
    ) -> None:
        """Send them.

        Args:
            grid: of a run that has begun.
            orders: to each node its own.
            names: of the sites, by node; for the log.
            seconds: how long to wait for answers.
        """
        self._grid, self._orders, self._names = grid, dict(orders), names
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._times = dict.fromkeys(orders, 0)
        self._greeted, self._looked = greetings(grid), self._began
        self._pending: dict[str, int] = {}
        self._away: dict[int, float] = {}  # until when a node that is away is waited for
        self._unheard = set(orders)
        self._send(list(orders))

    @property
    def open(self) -> bool:
        """Whether an answer is waited for."""
        return bool(self._unheard) and time.monotonic() < self._ends

    @property
    def unheard(self) -> set[int]:
        """The nodes that have not answered."""
        return self._unheard

    @property
    def pause(self) -> float:
        """Seconds until it is worth to look again: the longer it took, the less they matter."""
        return min(1.0, max(0.2, (time.monotonic() - self._began) / 20))

    def answers(self) -> Iterator[tuple[int, Message]]:
        """Take the answers that are there; ask those again whose order was lost, or who are back."""
        again = list[int]()
        for node, message in pull(self._grid, self._pending):
            if node not in self._unheard:
                continue  # asked twice, it answered twice
            if not message.has_error():
                self._heard(node)
                yield node, message
            elif node in self._pending.values():
                continue  # the same was asked again, and may still be answered
            elif message.error.code == _UNAVAILABLE:
                log.warning("site %s has lost its connection", self._names[node])
                self._away.setdefault(node, time.monotonic() + _AWAY_SECONDS)
            elif message.error.code in _LOST:
                again.append(node)
            else:
                log.warning("site %s reported error %d", self._names[node], message.error.code)
                self._heard(node)
        self._send([*again, *self._come_back()])
        for node in [node for node, until in self._away.items() if time.monotonic() >= until]:
            self._give_up(node)

    def _come_back(self) -> list[int]:
        """Return the nodes that were greeted since they were asked."""
        if not self._away and time.monotonic() - self._looked < _LOOK_SECONDS:
            return []
        now, self._looked = greetings(self._grid), time.monotonic()
        back = [
            node
            for node in self._unheard & now.keys()
            if node in self._away or now[node] != self._greeted.get(node, now[node])
        ]
        self._greeted |= now
        return back

    def _send(self, nodes: list[int]) -> None:
        for node in nodes:
            self._away.pop(node, None)
            self._times[node] += 1
            if self._times[node] > 1:
                log.warning("site %s is asked again: its order, or the answer, was lost", self._names[node])
        asked = {node: self._orders[node] for node in nodes if self._times[node] <= _MOST_TIMES_ASKED}
        sent = push(self._grid, asked, seconds=max(1.0, self._ends - time.monotonic()))
        self._pending |= sent
        for node in set(nodes) - set(sent.values()):
            self._give_up(node)

    def _heard(self, node: int) -> None:
        self._unheard.discard(node)
        self._away.pop(node, None)
        for message in [message for message, to in self._pending.items() if to == node]:
            del self._pending[message]  # in its place: replies may be taken off it right now

    def _give_up(self, node: int) -> None:
        self._heard(node)
        log.warning("site %s is not waited for any longer", self._names[node])


def push(grid: Grid, orders: Mapping[int, bytes], *, seconds: float) -> dict[str, int]:
    """Send every node its order, equal ones once for all; return the node of each message that could go.

    Args:
        grid: of a run that has begun.
        orders: by node.
        seconds: after which a message expires.
    """
    sent: dict[str, int] = {}
    for nodes in _parcels(orders):
        contents = {orders[node]: RecordDict({"order": ConfigRecord({"bytes": orders[node]})}) for node in nodes}
        messages = [
            Message(contents[orders[node]], dst_node_id=node, message_type="train.order", ttl=seconds)
            for node in nodes
        ]
        # Those that cannot go are None, or missing.
        taken = set(grid.push_messages(messages))
        named = {message.metadata.message_id: node for message, node in zip(messages, nodes, strict=True)}
        sent |= {message: node for message, node in named.items() if message in taken}
    return sent


def pull(grid: Grid, pending: dict[str, int]) -> Iterator[tuple[int, Message]]:
    """Take the replies that are there off `pending`."""
    if pending:
        for message in grid.pull_messages(list(pending)):
            node = pending.pop(message.metadata.reply_to_message_id, None)
            if node is not None:
                yield node, message


def greetings(grid: Grid) -> dict[int, str]:
    """Return for each node that is connected when it was greeted last."""
    return {node.node_id: node.last_activated_at for node in grid.get_nodes()}


def _parcels(orders: Mapping[int, bytes]) -> Iterator[list[int]]:
    """Yield nodes whose orders go together: Flower copies what is sent in one call."""
    nodes, different = list[int](), set[bytes]()
    for node, order in orders.items():
        if nodes and sum(map(len, different | {order})) > _PARCEL_BYTES:
            yield nodes
            nodes, different = [], set()
        nodes.append(node)
        different.add(order)
    if nodes:
        yield nodes
