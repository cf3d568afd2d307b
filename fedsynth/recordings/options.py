"""What a site's own people say about its folder, beside the study; none of it leaves the site."""

from dataclasses import dataclass

from fedsynth.recordings.units import Unit


@dataclass(frozen=True)
class SiteOptions:
    """`unit` is the unit of every recording, whatever files say.

    `follow_links` lets links lead out of the folder.
    """

    unit: Unit | None = None
    follow_links: bool = False
