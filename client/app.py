"""Flower's ClientApp: order bytes in, the site's session asked, update bytes out.

The site's folder is `site-folder` of the node's own config. A simulated node has none: it takes the site of its
partition from the run folder. An exception would travel to the server with its text, so none leaves.

Every message starts a process of its own, so each handler imports what it runs and nothing else.
"""

import json
import logging
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

log = logging.getLogger("fedsynth.site")
_INTERNAL = "InternalError"  # as the session says it, which may be what could not be imported
app = ClientApp()


@app.query("site")
def site(message: Message, context: Context) -> Message:
    """Answer the name of the site this node speaks for, or an empty one."""
    name = ""
    try:
        from fedsynth.site.policy import load_policy

        name = load_policy(_site_folder(context)).name
    except Exception:  # whatever broke may name a file: it stays here
        log.exception("the site's name cannot be told")
    return Message(RecordDict({"site": ConfigRecord({"name": name})}), reply_to=message)


@app.train("order")
def order(message: Message, context: Context) -> Message:
    """Answer one order with the site's update; a failure is the one word for every refusal."""
    from fedsynth.wire.update import REFUSED, Update

    try:
        from fedsynth.site.session import SiteSession

        _share_cores(context)
        update = SiteSession(_site_folder(context)).handle(_order_bytes(message))
    except Exception:  # whatever broke may name a file or a value: it stays here
        log.exception("%s: an order failed", _INTERNAL, extra={"kind": _INTERNAL})
        update = Update(refused=REFUSED).to_bytes()
    return Message(RecordDict({"update": ConfigRecord({"bytes": update})}), reply_to=message)


def _site_folder(context: Context) -> Path:
    own = context.node_config.get("site-folder")
    if own is not None:
        return Path(str(own))
    run = Path(str(context.run_config["run"]))
    sites = json.loads((run / "run.json").read_text(encoding="utf-8"))["sites"]
    return run / "sites" / str(sites[int(context.node_config["partition-id"])])


def _share_cores(context: Context) -> None:
    """Give a simulated site one thread: simulated sites share the cores, and PyTorch would take all for each."""
    if "site-folder" not in context.node_config:
        import torch

        torch.set_num_threads(1)


def _order_bytes(message: Message) -> bytes:
    data = message.content.config_records["order"]["bytes"]
    return data if isinstance(data, bytes) else b""
