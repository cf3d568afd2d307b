"""What the fleet door takes for granted of Flower: where this fails after an update, the failure names what moved.

The exchange with a real SuperLink is in `tests/engines/test_links.py`.
"""

import ast
import importlib
import inspect
import ssl
from pathlib import Path

import flwr
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedsynth.errors import NodeError, RefusedError
from fedsynth.node import fleet as fleet_module
from fedsynth.node.fleet import CALLS, Fleet, UnreachableError

SIGNATURES = {
    "flwr.app:Message": (
        "(*args, dst_node_id, message_type, content, error, ttl, group_id, dst_task_id, reply_to, metadata)"
    ),
    "flwr.app:RecordDict": "(records, parameters_records, metrics_records, configs_records)",
    "flwr.app:ConfigRecord": "(config_dict, keep_input)",
    "flwr.app:Error": "(code, reason)",
    "flwr.app.message:remove_content_from_message": "(message)",
    "flwr.common.serde:message_from_proto": "(message_proto)",
    "flwr.common.serde:message_to_proto": "(message)",
    "flwr.supercore.inflatable.inflatable_object:get_all_nested_objects": "(obj)",
    "flwr.supercore.inflatable.inflatable_object:get_object_id": "(object_content)",
    "flwr.supercore.inflatable.inflatable_object:get_object_tree": "(obj)",
    "flwr.supercore.inflatable.inflatable_object:iterate_object_tree": "(tree)",
    "flwr.supercore.inflatable.inflatable_object:no_object_id_recompute": "()",
    "flwr.supercore.inflatable.inflatable_utils:inflate_object_from_contents": (
        "(object_id, object_contents, keep_object_contents, objects)"
    ),
    "flwr.supercore.inflatable.inflatable_utils:validate_object_content": "(content)",
    "flwr.supercore.interceptors.http.runtime_version:RuntimeVersionHttpInterceptor": "(component_name)",
    "flwr.supercore.primitives.asymmetric:public_key_to_bytes": "(public_key)",
    "flwr.supernode.node_auth_http_interceptor:NodeAuthHttpInterceptor": "(private_key, public_key)",
    "flwr.supernode.fleet_http_client:FleetHttpClient": "(base_url, interceptors, verify, timeout, retry_invoker)",
}
FIELDS = {
    "flwr.proto.fleet_pb2:ActivateNodeRequest": {"public_key", "heartbeat_interval"},
    "flwr.proto.fleet_pb2:ActivateNodeResponse": {"node_id"},
    "flwr.proto.fleet_pb2:DeactivateNodeRequest": {"node_id"},
    "flwr.proto.fleet_pb2:PullMessagesRequest": {"node"},
    "flwr.proto.fleet_pb2:PullMessagesResponse": {"messages_list", "message_object_trees"},
    "flwr.proto.fleet_pb2:PushMessagesRequest": {
        "node",
        "messages_list",
        "message_object_trees",
        "clientapp_runtime_list",
    },
    "flwr.proto.fleet_pb2:PushMessagesResponse": {"objects_to_push", "session_id"},
    "flwr.proto.heartbeat_pb2:SendNodeHeartbeatRequest": {"node", "heartbeat_interval"},
    "flwr.proto.heartbeat_pb2:SendNodeHeartbeatResponse": {"success"},
    "flwr.proto.message_pb2:PullObjectRequest": {"node", "run_id", "object_id"},
    "flwr.proto.message_pb2:PullObjectResponse": {"object_found", "object_available", "object_content"},
    "flwr.proto.message_pb2:PushObjectRequest": {"node", "run_id", "object_id", "object_content", "session_id"},
    "flwr.proto.message_pb2:PushObjectResponse": {"stored"},
    "flwr.proto.message_pb2:ConfirmMessageReceivedRequest": {"node", "run_id", "message_object_id"},
    "flwr.proto.message_pb2:ObjectTree": {"object_id", "children"},
    "flwr.proto.node_pb2:Node": {"node_id"},
}


def found(place: str) -> object:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("place", SIGNATURES)
def test_flowers_functions_take_what_the_door_gives_them(place: str) -> None:
    names = [
        f"*{name}" if parameter.kind is parameter.VAR_POSITIONAL else name
        for name, parameter in inspect.signature(found(place)).parameters.items()  # type: ignore[arg-type]
    ]

    assert f"({', '.join(names)})" == SIGNATURES[place], f"Flower {flwr.__version__} changed {place}"


@pytest.mark.parametrize("place", FIELDS)
def test_flowers_messages_have_the_fields_that_the_door_reads(place: str) -> None:
    names = {field.name for field in found(place).DESCRIPTOR.fields}  # type: ignore[attr-defined]

    assert names >= FIELDS[place], f"Flower {flwr.__version__} took away {FIELDS[place] - names} of {place}"


@pytest.mark.parametrize("call", CALLS)
def test_flowers_client_has_the_calls_that_the_door_makes(call: str) -> None:
    client = found("flwr.supernode.fleet_http_client:FleetHttpClient")

    assert list(inspect.signature(getattr(client, call)).parameters) == ["self", "request"]


def test_everything_that_the_door_imports_of_flower_is_in_this_contract() -> None:
    tree = ast.parse(Path(fleet_module.__file__).read_text(encoding="utf-8"))
    taken = {
        f"{node.module}:{one.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("flwr")
        for one in node.names
    }

    assert taken <= set(SIGNATURES) | set(FIELDS)


def test_the_door_asks_for_nothing_that_is_not_listed() -> None:
    tree = ast.parse(Path(fleet_module.__file__).read_text(encoding="utf-8"))
    asked = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == "_client"
        and node.attr[0].isupper()
    }

    assert asked == set(CALLS)
    assert not any("Fab" in call for call in CALLS)


def test_redirects_are_not_followed_and_nobody_there_is_said_as_such() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    fleet = Fleet("127.0.0.1:9", key=key, context=ssl.create_default_context())

    assert fleet._client._client.follow_redirects is False
    with pytest.raises(UnreachableError, match="does not answer"):
        fleet.activate()


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (302, RefusedError, "redirects elsewhere"),
        (400, RefusedError, "certificate"),
        (401, RefusedError, "clocks"),
        (403, NodeError, "run has ended"),
        (412, RefusedError, "does not know this node's key"),
        (503, UnreachableError, "503"),
    ],
)
def test_what_a_superlink_answers_is_said_in_words(status: int, kind: type[Exception], said: str) -> None:
    import httpx

    fleet = Fleet("127.0.0.1:9", key=ec.generate_private_key(ec.SECP384R1()), context=ssl.create_default_context())
    transport = httpx.MockTransport(lambda _: httpx.Response(status, headers={"location": "https://elsewhere/"}))
    fleet._client._client = httpx.Client(transport=transport, follow_redirects=False)

    with pytest.raises(kind, match=said):
        fleet.activate()
