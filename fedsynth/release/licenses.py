"""The licences a release can carry."""

LICENSES = {
    "CC0-1.0": (
        "CC0 1.0 Universal",
        "https://creativecommons.org/publicdomain/zero/1.0/",
        "The publisher waives all copyright and related rights in this data set worldwide, as far as the law "
        "allows. You may copy, change, distribute and use it, for any purpose, without asking.",
    ),
    "CC-BY-4.0": (
        "Creative Commons Attribution 4.0 International",
        "https://creativecommons.org/licenses/by/4.0/",
        "You may copy, change, distribute and use this data set, for any purpose, provided that you name the "
        "publisher, link to the licence and say what you changed.",
    ),
}
"""The licences a release can carry: name, address of the legal code, and what it means in two sentences."""
