"""The fleet door: a SuperLink's messages in, replies out; the only module of a site that knows Flower.

Stands on Flower's fleet client, its two interceptors and its message objects, none of which Flower promises to
keep: `flwr` is pinned, and `tests/node/test_fleet_contract.py` names what moved when a later version breaks this.
Of Flower's own SuperNode nothing is used. It would offer the bundle of a run; here nothing asks for one, and what
this module calls is listed in `CALLS`.
"""

import os
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import (
    inflate_object_from_contents,
    validate_object_content,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from fedsynth.errors import NodeError, RefusedError

CALLS = (
    "ActivateNode",
    "SendNodeHeartbeat",
    "PullMessages",
    "PullObject",
    "ConfirmMessageReceived",
    "PushMessages",
    "PushObject",
    "DeactivateNode",
)
"""Everything that a link asks of a SuperLink."""
HEARTBEAT_SECONDS = 15.0
FORGET_SECONDS = 2 * HEARTBEAT_SECONDS + 5
"""For so long a SuperLink takes a node that was killed for connected, and refuses to greet it (Flower 1.42)."""
_MOST_OBJECTS = 64
_LARGEST_MESSAGE = 600 * 2**20
_OBJECT_SECONDS = 120.0
_Answer = TypeVar("_Answer")


class UnreachableError(NodeError):
    """The SuperLink does not answer; it may later."""


class NotGreetedError(RefusedError):
    """The SuperLink does not know this node, or takes it for connected already."""


@dataclass(frozen=True)
class Order:
    """One message: what it asks, and the bytes in its record `order`, empty where it has none."""

    kind: str
    data: bytes
    expires: float
    message: Message


class Fleet:
    """One node's connection to a SuperLink."""

    def __init__(self, address: str, *, key: ec.EllipticCurvePrivateKey, context: ssl.SSLContext) -> None:
        """Prepare; nothing is sent yet.

        Args:
            address: host:port.
            key: the node's, on the curve P-384.
            context: with the only authority that is trusted, and the node's certificate if a proxy wants one.
        """
        self._client = FleetHttpClient(
            f"https://{address}",
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
            verify=context,
        )
        # Flower 1.42 follows redirects, with the node's signature in the headers.
        self._client._client.follow_redirects = False
        self._key = public_key_to_bytes(key.public_key())
        self._node = Node()

    def activate(self, before: int = 0) -> int:
        """Say that this node is there; return its id.

        Args:
            before: the id of an earlier connection; a SuperLink that still holds it open refuses another greeting,
                and takes a heartbeat.

        Raises:
            NotGreetedError: the SuperLink does not know this key, or takes the node for connected.
            RefusedError: the two clocks differ, or a proxy refuses the certificate.
            UnreachableError: nobody answers.
        """
        if before:
            self._node = Node(node_id=before)
            with suppress(RefusedError):  # the greeting says why
                if self.beat():
                    return before
        request = ActivateNodeRequest(public_key=self._key, heartbeat_interval=HEARTBEAT_SECONDS)
        self._node = Node(node_id=self._asked(self._client.ActivateNode, request).node_id)
        return int(self._node.node_id)

    def beat(self) -> bool:
        """Say that this node is still there; whether the SuperLink knows it."""
        request = SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_SECONDS)
        return bool(self._asked(self._client.SendNodeHeartbeat, request).success)

    def receive(self) -> Order | None:
        """Return the next message, or None.

        Raises:
            RefusedError: the key was revoked.
            UnreachableError: nobody answers.
            NodeError: a message that is too large or malformed; it is gone.
        """
        response = self._asked(self._client.PullMessages, PullMessagesRequest(node=self._node))
        if not response.messages_list:
            return None
        message, tree = message_from_proto(response.messages_list[0]), response.message_object_trees[0]
        identifiers = [one.object_id for one in iterate_object_tree(tree)]
        if len(identifiers) > _MOST_OBJECTS:
            raise NodeError(f"a message of {len(identifiers)} objects came; it was not fetched")
        run, contents = message.metadata.run_id, dict[str, bytes]()
        for identifier in dict.fromkeys(identifiers):
            contents[identifier] = self._object(run, identifier)
            if sum(map(len, contents.values())) > _LARGEST_MESSAGE:
                raise NodeError(f"a message of more than {_LARGEST_MESSAGE} bytes came; it was not read")
        try:
            full = inflate_object_from_contents(tree.object_id, contents)
            assert isinstance(full, Message)
            record = full.content.config_records.get("order", ConfigRecord()) if full.has_content() else {}
            data = record.get("bytes", b"")
        except Exception as error:  # whatever a stranger's objects can break
            raise NodeError(f"a message could not be read ({type(error).__name__})") from error
        confirmation = ConfirmMessageReceivedRequest(
            node=self._node, run_id=run, message_object_id=message.metadata.message_id
        )
        self._asked(self._client.ConfirmMessageReceived, confirmation)
        expires = message.metadata.created_at + message.metadata.ttl
        return Order(message.metadata.message_type, data if isinstance(data, bytes) else b"", expires, message)

    def answer(self, order: Order, record: str, values: dict[str, Any]) -> None:
        """Reply with one record.

        Raises:
            UnreachableError: nobody answers; the reply may be sent again.
            NodeError: the run has ended.
            RefusedError: the key was revoked.
        """
        self._push(Message(RecordDict({record: ConfigRecord(values)}), reply_to=order.message))

    def refuse(self, order: Order) -> None:
        """Reply that this message is for nobody here."""
        self._push(Message(Error(0, "refused"), reply_to=order.message))

    def leave(self) -> None:
        """Say that this node goes, and hang up."""
        with suppress(NodeError, RefusedError):
            self._asked(self._client.DeactivateNode, DeactivateNodeRequest(node_id=self._node.node_id))
        self._client._client.close()

    def _object(self, run: int, identifier: str) -> bytes:
        ends = time.monotonic() + _OBJECT_SECONDS
        request = PullObjectRequest(node=self._node, run_id=run, object_id=identifier)
        while True:
            response = self._asked(self._client.PullObject, request)
            if not response.object_found:
                raise NodeError("a part of a message is gone")
            if response.object_available:
                content = bytes(response.object_content)
                if get_object_id(content) != identifier:
                    raise NodeError("a part of a message is not what its name says")
                return content
            if time.monotonic() >= ends:
                raise NodeError(f"a part of a message did not come within {_OBJECT_SECONDS:g} s")
            time.sleep(0.2)

    def _push(self, reply: Message) -> None:
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
            bare = remove_content_from_message(reply) if reply.has_content() else reply
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(bare)],
                message_object_trees=[tree],
                clientapp_runtime_list=[0.0],
            )
            response = self._asked(self._client.PushMessages, request)
            for identifier in response.objects_to_push:
                content = objects[identifier].deflate()
                validate_object_content(content)
                part = PushObjectRequest(
                    node=self._node,
                    run_id=reply.metadata.run_id,
                    object_id=identifier,
                    object_content=content,
                    session_id=response.session_id,
                )
                if not self._asked(self._client.PushObject, part).stored:
                    raise UnreachableError("the SuperLink did not store a part of a reply")

    def _asked(self, call: Callable[[Any], _Answer], request: Any) -> _Answer:
        """Ask once, and say in our words what goes wrong."""
        try:
            return call(request)
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            if status >= 500:
                raise UnreachableError(f"the SuperLink, or the proxy before it, answers {status}") from None
            if status == 403:
                raise NodeError("the run has ended, or this node has no part in it") from None
            raise (NotGreetedError if status == 412 else RefusedError)(_why(status)) from None
        except httpx.TransportError as error:
            if (found := _certificate(error)) is not None:
                raise RefusedError(
                    f"the coordinator's certificate is not accepted ({found}); compare authority.pem with the "
                    "fingerprint that you were told, and the clocks"
                ) from None
            raise UnreachableError(f"the SuperLink does not answer ({type(error).__name__})") from None
        except (ValueError, SystemExit) as error:
            # Flower exits where the versions of both sides do not fit.
            raise RefusedError(
                f"what answers is no SuperLink of a version that fits ({type(error).__name__}); see federation.toml"
            ) from None


def _why(status: int) -> str:
    if status == 401:
        return (
            "the SuperLink does not accept this node's signature: the key is revoked or not registered, or the "
            "clocks differ by more than a few seconds; compare the clocks, then ask the coordinator"
        )
    if status == 412:
        return (
            "the SuperLink does not know this node's key; ask the coordinator to register it, or to renew it if it "
            "has expired"
        )
    if status == 400:
        return (
            "the proxy before the SuperLink does not accept this node's certificate: it is missing, expired or "
            "revoked; ask the coordinator for a new one"
        )
    if 300 <= status < 400:
        return f"the SuperLink's address redirects elsewhere ({status}), which is not followed; see federation.toml"
    return f"the SuperLink answers {status}; see its log"


def _certificate(error: BaseException | None) -> str | None:
    """Return what is wrong with a certificate, where that is why a connection failed."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return (
                str(error).partition("CERTIFICATE_VERIFY_FAILED] ")[2].partition(" (_ssl")[0] or "it is not trusted"
            )
        error = error.__cause__ or error.__context__
    return None
