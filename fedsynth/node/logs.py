"""Logs of a site's processes: one JSON object a line, rotated by size, without anybody's name.

A failure that we did not foresee is told by its kind and place in the code: its text may hold a value or a path.
"""

import json
import logging
import logging.handlers
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path, PurePath

_BYTES, _FILES = 2_000_000, 5


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("fedsynth."),
            "said": record.getMessage(),
        }
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= {"facts": facts}
        if record.exc_info and record.exc_info[0] is not None:
            places = traceback.extract_tb(record.exc_info[2])
            line["failure"] = record.exc_info[0].__name__
            line["at"] = [f"{PurePath(place.filename).name}:{place.lineno}" for place in places[-6:]]
        return json.dumps(line)


def write_to(path: Path | None) -> None:
    """Send what fedsynth's modules log to a file, or to standard error where there is none; others stay silent."""
    handler: logging.Handler
    if path is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_FILES, encoding="utf-8")
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.CRITICAL)
    ours = logging.getLogger("fedsynth")
    ours.setLevel(logging.INFO)
