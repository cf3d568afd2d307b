"""A transport: how orders reach sites and updates come back. Each engine brings its own."""

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol


class Transport(Protocol):
    """Carries bytes between the coordinator and the sites it can reach."""

    def sites(self) -> tuple[str, ...]:
        """Return the names of the sites, in order."""
        ...

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Send each site its order and yield answers as they arrive; a site that does not answer is absent."""
        ...


class InProcess:
    """Sites in this process: the same bytes, no network."""

    def __init__(self, handlers: Mapping[str, Callable[[bytes], bytes]]) -> None:
        """Take one handler of order bytes for each site."""
        self._handlers = dict(handlers)

    def sites(self) -> tuple[str, ...]:
        """Return the names given."""
        return tuple(self._handlers)

    def exchange(self, orders: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
        """Ask one site after the other."""
        for site, order in orders.items():
            yield site, self._handlers[site](order)
