"""Extras: which part of an installation a missing package belongs to, said so that a reader can act on it.

The base installation verifies and loads a release. The rest is chosen: `pip install 'fedsynth[train]'`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fedsynth.errors import MissingPackageError

EXTRA_OF = {
    "dp_accounting": "train",
    "edfio": "train",
    "flwr": "flower",
    "imblearn": "smote",
    "jinja2": "train",
    "markupsafe": "train",
    "matplotlib": "train",
    "mne": "recordings",
    "opacus": "train",
    "pooch": "recordings",
    "pyarrow": "train",
    "pydantic": "train",
    "ray": "flower",
    "safetensors": "train",
    "scipy": "train",
    "sklearn": "train",
    "torch": "train",
    "wfdb": "recordings",
}
"""Top-level modules and the extra that brings each."""


@contextmanager
def explained() -> Iterator[None]:
    """Turn an import that fails for a package of an extra into a sentence.

    Raises:
        MissingPackageError: naming the package and what to install.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRA_OF:
            raise
        raise MissingPackageError(
            f"this needs {module}, which is not installed; nothing was done. "
            f"Run: pip install 'fedsynth[{EXTRA_OF[module]}]'"
        ) from error
