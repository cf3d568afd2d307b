"""Where the ledgers of a rehearsal's sites are: of real people outside of every run, of made-up ones inside."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fedsynth.ledger.register import Register, refuse_shared, register_of_user
from fedsynth.rehearsal.sites import Held


def places_of_ledgers(
    held: Mapping[str, Held], *, sites: Path | None, ledgers: Path | None, register: Register | None = None
) -> dict[str, Path]:
    """Return the folder of each site's ledger; writes nothing.

    Args:
        held: what each site holds.
        sites: the folder of recordings, or None for made-up people.
        ledgers: where a person says that ledgers are, one folder a site.
        register: of the ledgers that are known; by default the user's.

    Returns:
        Nothing for a site whose ledger lies in the run: its people are made up.

    Raises:
        LedgerError: other ledgers know these recordings, one of them is gone, or two sites would share one.
    """
    if sites is None:
        return {name: ledgers / name for name in held} if ledgers else {}
    register = register or register_of_user()
    places = {
        name: register.place_for(name, root=sites, digests=_digests(one), given=ledgers / name if ledgers else None)
        for name, one in held.items()
    }
    refuse_shared(places)
    return places


@contextmanager
def registered(held: Mapping[str, Held], *, sites: Path | None, ledgers: Path | None) -> Iterator[dict[str, Path]]:
    """Yield where the ledgers are, and register them when all sites have approved, before anybody is charged.

    Raises:
        LedgerError: as `places_of_ledgers`.
        RunError: the register cannot be written to.
    """
    if sites is None:
        yield places_of_ledgers(held, sites=None, ledgers=ledgers)
        return
    register = register_of_user()
    with register.held():
        places = places_of_ledgers(held, sites=sites, ledgers=ledgers, register=register)
        yield places
        for name, one in held.items():
            register.add(places[name], site=name, root=sites, digests=_digests(one))


def _digests(held: Held) -> list[str]:
    return [digest for recording in held.recordings for digest in recording.known_by]
