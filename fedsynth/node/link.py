"""link: the only process of a site with a network. Orders go to the gate as bytes, updates come back as bytes.

It holds the node's key and nothing about people. It can read neither policy nor ledger nor windows, it runs nothing
that the coordinator sends, and what it passes on was answered by the gate.
"""

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fedsynth.errors import FederationError, FedsynthError, NodeError, RefusedError
from fedsynth.node.channel import connect
from fedsynth.node.fleet import (
    FORGET_SECONDS,
    HEARTBEAT_SECONDS,
    Fleet,
    NotGreetedError,
    Order,
    UnreachableError,
)
from fedsynth.node.kit import Kit, load_kit

log = logging.getLogger("fedsynth.link")
QUESTION, ORDER, REQUEST = "query.site", "train.order", "query.request"
_POLLS, _IDLE_POLL = ((20.0, 0.25), (900.0, 1.0)), 2.0
"""Seconds between two looks for a message, by the seconds since the last one came or was answered."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 4.0  # an outage costs a run no more than a few seconds beyond itself
_GATE_PATIENCE = 60.0  # a gate that restarts is waited for
_LOOK_SECONDS = 0.5
_AT_ONCE = 4


class Link:
    """Carries messages between one coordinator and the gate of one site."""

    def __init__(
        self, kit: Path, *, gate: Path, gate_uid: int, connect_to: Callable[[Kit], Fleet] | None = None
    ) -> None:
        """Read the kit; nothing is sent yet.

        Args:
            kit: folder of `fedsynth.node.kit`.
            gate: the gate's socket.
            gate_uid: the user who must be listening there.
            connect_to: makes a connection of a kit; tests only pass something else.

        Raises:
            FederationError: this site has expired or is revoked.
            NodeError: the kit is not whole.
        """
        self._folder = kit
        load_kit(kit)
        self._gate, self._gate_uid = gate, gate_uid
        self._connect_to = connect_to or (lambda kit: Fleet(kit.address, key=kit.key, context=kit.context))
        self._stopping = threading.Event()
        self._fleet: Fleet | None = None
        self._worked_at = -math.inf

    def stop(self) -> None:
        """Come to an end soon; may be called by a signal's handler."""
        self._stopping.set()

    def serve(self) -> None:
        """Serve until stopped; a SuperLink that is away is asked again, for as long as that takes.

        Raises:
            RefusedError: the coordinator does not accept this node; the sentence says what to do.
            FederationError: this site has expired or is revoked.
        """
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            self._serve(pool)
        finally:
            self._stopping.set()
            pool.shutdown(cancel_futures=True)
            if self._fleet is not None:
                self._fleet.leave()

    def _serve(self, pool: ThreadPoolExecutor) -> None:
        """Connect, pass on messages until the connection is lost, and connect again."""
        pause, node = _FIRST_PAUSE, 0
        refused_since = 0.0
        while not self._stopping.is_set():
            try:
                # Read anew: a kit that was renewed, or a site that was revoked, takes effect without a restart.
                fleet = self._connect_to(load_kit(self._folder))
                node = fleet.activate(node)
                refused_since = 0.0
                log.info("connected", extra={"facts": {"node": str(node)}})
                self._fleet, pause = fleet, _FIRST_PAUSE
                self._receive(fleet, pool)
            except UnreachableError as error:
                log.warning("%s; next try within %g s", error, 1.5 * pause)
            except NotGreetedError as error:
                # After a link was killed, its node is taken for connected until its heartbeats are missed.
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since >= FORGET_SECONDS:
                    raise
                log.warning("%s; next try within %g s", error, 1.5 * pause)
            # Spread, so that not all sites come back in one instant.
            self._stopping.wait(pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _receive(self, fleet: Fleet, pool: ThreadPoolExecutor) -> None:
        """Take messages until the connection is lost; those that were taken go on being answered."""
        lost = threading.Event()
        heart = threading.Thread(target=self._beat, args=(fleet, lost), daemon=True)
        heart.start()
        try:
            while not self._stopping.is_set() and not lost.is_set():
                try:
                    order = fleet.receive()
                except UnreachableError:
                    raise
                except RefusedError as error:
                    log.warning("%s; connecting again", error)  # the greeting decides whether that helps
                    return
                except NodeError as error:
                    log.warning("a message was dropped: %s", error)
                    self._stopping.wait(_IDLE_POLL)
                    continue
                if order is not None:
                    self._worked_at = time.monotonic()
                    pool.submit(self._handle, order)
                    continue
                idle = time.monotonic() - self._worked_at
                self._stopping.wait(next((poll for until, poll in _POLLS if idle < until), _IDLE_POLL))
        finally:
            lost.set()

    def _beat(self, fleet: Fleet, lost: threading.Event) -> None:
        """Say every now and then that this node is there; a SuperLink that forgot it is greeted anew."""
        while not lost.wait(HEARTBEAT_SECONDS / 2 * random.uniform(0.7, 1.0)):
            try:
                load_kit(self._folder)  # is this site still one of the federation's?
                if not fleet.beat():
                    log.warning("the SuperLink has forgotten this node; connecting again")
                    lost.set()
            except FederationError as error:
                log.warning("%s", error)
                lost.set()
            except FedsynthError as error:
                log.warning("%s", error)

    def _handle(self, order: Order) -> None:
        """Answer one message; what goes wrong is said in the log, and never to the coordinator."""
        began = time.monotonic()
        try:
            if order.kind == QUESTION:
                name = str(self._ask({"ask": "name"}).get("name", ""))
                self._send(order, lambda fleet: fleet.answer(order, "site", {"name": name}))
            elif order.kind == ORDER:
                update = self._update(order.data)
                self._send(order, lambda fleet: fleet.answer(order, "update", {"bytes": update}))
            elif order.kind == REQUEST:
                kept = self._exchange({"ask": "request"}, order.data)[0].get("kept") is True
                self._send(order, lambda fleet: fleet.answer(order, "request", {"kept": kept}))
            else:
                log.warning("a message of an unknown kind was refused")
                self._send(order, lambda fleet: fleet.refuse(order))
                return
            self._worked_at = time.monotonic()
            seconds = round(self._worked_at - began, 2)
            log.info(
                "answered", extra={"facts": {"kind": order.kind, "seconds": seconds, "bytes": len(order.data)}}
            )
        except FedsynthError as error:
            log.warning("a message was not answered: %s", error)
        except Exception:
            log.exception("a message was not answered")

    def _ask(self, header: dict[str, str]) -> dict[str, object]:
        return self._exchange(header, b"")[0]

    def _update(self, data: bytes) -> bytes:
        return self._exchange({"ask": "order"}, data)[1]

    def _exchange(self, header: dict[str, str], payload: bytes) -> tuple[dict[str, object], bytes]:
        """Ask the gate, which may be restarting; an order that it has answered before costs nothing."""
        ends = time.monotonic() + _GATE_PATIENCE
        while True:
            try:
                with connect(self._gate, uid=self._gate_uid) as channel:
                    channel.send(header, payload)
                    while not channel.is_ready(seconds=_LOOK_SECONDS):
                        if self._stopping.is_set():
                            raise NodeError("the link was stopped while the gate was at work")
                    frame = channel.receive()
                    return frame.header, frame.payload
            except NodeError:
                if time.monotonic() >= ends or self._stopping.is_set():
                    raise
            self._stopping.wait(1.0)

    def _send(self, order: Order, send: Callable[[Fleet], None]) -> None:
        """Send a reply over the connection that there is, again and again, until it would come too late."""
        pause = _FIRST_PAUSE
        while True:
            try:
                assert self._fleet is not None
                send(self._fleet)
                return
            except UnreachableError:
                if time.time() >= order.expires or self._stopping.wait(pause):
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE)
            except RefusedError as error:
                raise NodeError(f"a reply was not taken: {error}") from error
