"""fedsynth: federated, differentially private synthesis of EEG and ECG.

    release = fedsynth.load_release("RELEASE")
    release.verify("publisher.pub")
    release.X, release.y, release.subject

Everything below is imported when it is first asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedsynth.api import evaluate, load_release, load_study, plan_of, publish, rehearse, verify
    from fedsynth.errors import FedsynthError
    from fedsynth.study import Study

    __version__: str

__all__ = [
    "FedsynthError",
    "Study",
    "__version__",
    "evaluate",
    "load_release",
    "load_study",
    "plan_of",
    "publish",
    "rehearse",
    "verify",
]

_PLACES = {"FedsynthError": "fedsynth.errors", "Study": "fedsynth.study"}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fedsynth")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    from fedsynth.extras import explained

    with explained():
        return getattr(importlib.import_module(_PLACES.get(name, "fedsynth.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
