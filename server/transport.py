"""Flower's Grid as a transport: order bytes to the node that speaks for a site, update bytes back."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from server.orders import Orders, pull

log = logging.getLogger("fedsynth.coordinator")
_POLL_SECONDS = 0.5
_OFFER_SECONDS = 30.0
_GATHERING = "sites connected"


class GridTransport:
    """Carries orders to the nodes of a Flower run.

    A node that reports an error, stays away or is late is absent from the answers; what an error says is not read.
    One that loses its connection is asked again when it is back: a site answers the same order with the same bytes,
    and charges once. A name that two nodes claim belongs to neither.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        wanted: Sequence[str],
        gather_seconds: float,
        round_seconds: float,
        progress: Callable[[str, int, int], None],
        nodes: Mapping[str, int] | None = None,
    ) -> None:
        """Wait until the nodes of all sites wanted are connected, or the time is over.

        Args:
            grid: of a run that has begun.
            wanted: the names of the sites.
            nodes: the node that speaks for each site, as it was registered with the site's key; without it every
                node is asked which site it speaks for.
            gather_seconds: how long to wait for the nodes to connect and to say their names.
            round_seconds: how long to wait for the answers to one round of orders.
            progress: called with (what, done, all) while nodes connect and take a request.
        """
        self._grid = grid
        self._round_seconds = round_seconds
        self._progress = progress
        self._nodes = (
            self._gather(wanted, gather_seconds, progress)
            if nodes is None
            else self._await({site: nodes[site] for site in wanted if site in nodes}, gather_seconds, progress)
        )

    def sites(self) -> tuple[str, ...]:
        """Return the names of the sites that were found, in the order wanted."""
        return tuple(self._nodes)

    def offer(self, request: bytes) -> None:
        """Lay a study request before the people of every site, who approve it or not; nobody is waited for long.

        A site that does not take it, or cannot yet, gets it as a file.
        """
        pending: dict[str, int] = {}
        for node in self._nodes.values():
            content = RecordDict({"order": ConfigRecord({"bytes": request})})
            pending |= self._push(node, "query.request", content, _OFFER_SECONDS)
        taken, ends = 0, time.monotonic() + _OFFER_SECONDS
        while True:
            for _, message in pull(self._grid, pending):
                taken += not message.has_error() and _read(message, "request", "kept") is True
            self._progress("requests taken", taken, len(self._nodes))
            if not pending or time.monotonic() >= ends:
                return
            time.sleep(_POLL_SECONDS)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Send each site its order and yield answers as they arrive; a malformed one is empty."""
        site_of = {self._nodes[site]: site for site in orders}
        on_their_way = Orders(
            self._grid,
            {self._nodes[site]: order for site, order in orders.items()},
            names=site_of,
            seconds=self._round_seconds,
        )
        while on_their_way.open:
            for node, message in on_their_way.answers():
                update = _read(message, "update", "bytes")
                yield site_of[node], update if isinstance(update, bytes) else b""
            if on_their_way.open:
                time.sleep(on_their_way.pause)
        for node in on_their_way.unheard:
            log.warning("site %s did not answer within %g s", site_of[node], self._round_seconds)

    def _await(
        self, nodes: Mapping[str, int], seconds: float, progress: Callable[[str, int, int], None]
    ) -> dict[str, int]:
        ends = time.monotonic() + seconds
        while True:
            online = set(self._grid.get_node_ids())
            found = {site: node for site, node in nodes.items() if node in online}
            progress(_GATHERING, len(found), len(nodes))
            if len(found) == len(nodes) or time.monotonic() >= ends:
                break
            time.sleep(_POLL_SECONDS)
        for site in nodes.keys() - found.keys():
            log.warning("site %s is absent: its node is not connected", site)
        return found

    def _gather(
        self, wanted: Sequence[str], seconds: float, progress: Callable[[str, int, int], None]
    ) -> dict[str, int]:
        ends = time.monotonic() + seconds
        asked: set[int] = set()
        pending: dict[str, int] = {}
        said: dict[int, str] = {}
        progress(_GATHERING, 0, len(wanted))
        while True:
            for node in set(self._grid.get_node_ids()) - asked:
                question = self._push(node, "query.site", RecordDict(), seconds)
                asked |= set(question.values())
                pending |= question
            for node, message in pull(self._grid, pending):
                said[node] = "" if message.has_error() else str(_read(message, "site", "name") or "")
                progress(_GATHERING, len(set(said.values()) & set(wanted)), len(wanted))
            # A node that could not say its name is waited for no longer; a stranger's name does not count.
            heard = [name for name in said.values() if not name or name in wanted]
            if len(heard) >= len(wanted) or time.monotonic() >= ends:
                break
            time.sleep(_POLL_SECONDS)
        claims = {site: [node for node, name in said.items() if name == site] for site in wanted}
        for site, nodes in claims.items():
            if len(nodes) != 1:
                log.warning("site %s is absent: %d nodes speak for it", site, len(nodes))
        return {site: nodes[0] for site, nodes in claims.items() if len(nodes) == 1}

    def _push(self, node: int, message_type: str, content: RecordDict, seconds: float) -> dict[str, int]:
        """Send one message that expires with our patience; return its id and node, or nothing if it cannot go."""
        message = Message(content, dst_node_id=node, message_type=message_type, ttl=seconds)
        return {identifier: node for identifier in self._grid.push_messages([message]) if identifier}


def _read(message: Message, record: str, key: str) -> object:
    found = message.content.config_records.get(record)
    return None if found is None else found.get(key)
