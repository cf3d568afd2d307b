"""Every failure a user can meet, as one tree; the exit code belongs to the class.

Messages say what was asked, what was found, what was left untouched and what to do next. They carry counts,
shapes and digests, never a value, name or path that came from a subject. Only the command line catches
`FedsynthError`.
"""

from typing import ClassVar


class FedsynthError(Exception):
    """Base of every error that is meant for a user. Exit code 1: refused."""

    exit_code: ClassVar[int] = 1


class RefusedError(FedsynthError):
    """Somebody who may say no said no: a site's policy, a quorum, an existing folder."""


class FederationError(RefusedError):
    """A party, a key or a signed file is not what a federation's authority vouches for, or not any more."""


class FederationFileError(FedsynthError):
    """A file of a federation is missing or cannot be read. Exit code 2."""

    exit_code: ClassVar[int] = 2


class StudyError(FedsynthError):
    """The study file cannot be read as a study. Exit code 2."""

    exit_code: ClassVar[int] = 2


class RecordingError(FedsynthError):
    """A recording, or a folder of recordings, is not what the study describes. Exit code 2."""

    exit_code: ClassVar[int] = 2


class FetchError(FedsynthError):
    """A public set of recordings cannot be fetched, or is not what was published. Exit code 2."""

    exit_code: ClassVar[int] = 2


class RunError(FedsynthError):
    """A run folder is missing, incomplete or not the one asked for. Exit code 2."""

    exit_code: ClassVar[int] = 2


class ReleaseError(FedsynthError):
    """A folder is not a release, or a part of one cannot be read. Exit code 2."""

    exit_code: ClassVar[int] = 2


class MissingPackageError(FedsynthError):
    """What was asked for needs a package that this installation left out. Exit code 2."""

    exit_code: ClassVar[int] = 2


class MachineError(FedsynthError):
    """This machine cannot do what was approved: memory, a device, an installation. Exit code 2."""

    exit_code: ClassVar[int] = 2


class NodeError(FedsynthError):
    """A process of a site is missing, is not the one expected, or was ended. Exit code 2."""

    exit_code: ClassVar[int] = 2


class ChannelClosedError(NodeError):
    """The other end of a channel between two processes of a site is gone."""


class WireError(FedsynthError):
    """A message between coordinator and site is malformed or too large. Exit code 2."""

    exit_code: ClassVar[int] = 2


class PrivacyError(FedsynthError):
    """A promise would be broken. Exit code 3."""

    exit_code: ClassVar[int] = 3


class StatementError(PrivacyError):
    """A privacy statement whose figures contradict one another."""


class BudgetError(PrivacyError):
    """A charge would bring a person's epsilon above what was allowed."""


class LedgerError(PrivacyError):
    """A ledger is damaged, rolled back, or disagrees with what is claimed."""


class ConsentError(PrivacyError):
    """An order differs from what the site approved."""


class VerificationError(FedsynthError):
    """A release is not what its publisher signed. Exit code 4."""

    exit_code: ClassVar[int] = 4


class ReaderFileError(VerificationError):
    """A file that a reader brings, of a key or of seen ledgers, cannot be used. Exit code 2."""

    exit_code: ClassVar[int] = 2
