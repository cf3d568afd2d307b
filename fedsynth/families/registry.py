"""Families by name: from a study's `[family]` table to a checked family."""

import dataclasses
import importlib
import typing
from collections.abc import Callable
from typing import Any

from fedsynth.errors import StudyError
from fedsynth.families.protocol import Family
from fedsynth.study import FamilyPlan, Start, Train

FAMILIES = {
    "dense-gan": "adversarial.dense_gan:DenseGan",
    "wavegan": "adversarial.wavegan:WaveGan",
    "cwgan": "adversarial.cwgan:Cwgan",
    "vae-ldm": "pretrained.vae_ldm:VaeLdm",
    "diffwave": "pretrained.diffwave:DiffWave",
    "time-diffusion": "pretrained.time_diffusion:TimeDiffusion",
    "time-vqvae": "pretrained.time_vqvae:TimeVqvae",
}
"""Module under `fedsynth.families` and class of each family; a module is imported when its family is asked for."""


def family_of(plan: FamilyPlan) -> Family:
    """Return the family that a study names, with its hyperparameters.

    Raises:
        StudyError: an unknown family or option, or an option of the wrong type.
    """
    make = class_of(plan.name)
    options = dict(plan.options)
    hints = typing.get_type_hints(make)
    known = {field.name for field in dataclasses.fields(make)} - {"name"}  # type: ignore[arg-type]
    for key, value in plan.options.items():
        if key not in known:
            raise StudyError(f"{plan.name} has no option {key!r}; it has: {', '.join(sorted(known))}")
        _check(plan.name, key, value, hints[key])
    return trained_layers(make(**options), train=plan.train, start=plan.start)


def trained_layers(family: Family, *, train: Train, start: Start) -> Family:
    """Return the family with what is to learn in rounds; as it is where that is adapters."""
    if train == "adapters":
        return family
    from fedsynth.families.adversarial.base import AdversarialFamily
    from fedsynth.families.joint.adversarial import FreedGan
    from fedsynth.families.joint.family import JointFamily
    from fedsynth.families.pretrained.base import SourceFamily

    if isinstance(family, SourceFamily):
        return JointFamily(base=family, train=train, start=start)
    if isinstance(family, AdversarialFamily) and train == "all":
        return FreedGan(base=family, start=start)
    raise StudyError(
        f'train = "{train}" adds to the weights of a public prior, and {family.name} has none; use train = "all"'
    )


def class_of(name: str) -> Callable[..., Family]:
    """Return the dataclass of a family.

    Raises:
        StudyError: there is no such family.
    """
    if name not in FAMILIES:
        raise StudyError(f"there is no family {name!r}; there are: {', '.join(sorted(FAMILIES))}")
    module, attribute = FAMILIES[name].split(":")
    make: Callable[..., Family] = getattr(importlib.import_module(f"fedsynth.families.{module}"), attribute)
    return make


def _check(family: str, key: str, value: Any, hint: Any) -> None:
    if typing.get_origin(hint) is typing.Literal:
        fits = value in typing.get_args(hint)
        wanted = " or ".join(repr(choice) for choice in typing.get_args(hint))
    else:
        fits = type(value) is hint or (hint is float and type(value) is int)
        wanted = hint.__name__
        if fits and not isinstance(value, str | bool) and value <= 0:
            fits, wanted = False, f"positive {wanted}"
    if not fits:
        raise StudyError(f"option {key!r} of {family} must be {wanted}; found {value!r}")
