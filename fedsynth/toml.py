"""TOML: plain data to text that `tomllib` reads back as the same data."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedsynth.errors import StudyError


def dumps(data: Mapping[str, Any]) -> str:
    """Write tables of texts, numbers, lists of them and further tables; `None` is left out.

    Raises:
        StudyError: a text has no form in UTF-8.

    >>> print(dumps({"name": "a", "family": {"options": {"latent": 8}}}), end="")
    name = "a"
    [family.options]
    latent = 8
    """
    return "".join(f"{line}\n" for line in _lines(data, ()))


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping) and value is not None}
    lines = [f"[{'.'.join(map(_key, path))}]"] if path and values else []
    lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "a").replace("-", "a").isalnum() else _value(key)


def _value(value: str | float | Sequence[Any]) -> str:
    # Of texts, whole numbers and booleans JSON is a part of TOML; other numbers may be infinite.
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, float):
        return str(value)
    text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise StudyError(f"{value!a} has no form in UTF-8, in which TOML is written; name it otherwise") from error
    return text
