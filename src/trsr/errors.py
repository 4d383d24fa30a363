"""Every error that TRSR raises on purpose, in one tree.

::

    TrsrError
    ├── UsageError          the caller's input must change          exit code 2
    │   ├── ConfigError     a setting is unknown, missing or out of its rule
    │   ├── DataError       a file or a row can't be read or repaired
    │   │   └── UnknownUser     nobody of this id is known
    │   └── TemplateError   a prompt template is missing or uses an unknown variable
    └── RunError            the input was fine, the work failed     exit code 1
        ├── BudgetError     the cap on calls or money is reached    exit code 3
        ├── ArtifactError   a run folder's artifact is missing or damaged
        ├── ModelError      a model can't be loaded, or does not fit the task
        ├── WriterError     a summary could not be written (server or model fault)
        └── StoreError      the store of model answers can't be read or written

A message names the file, row, column or field, the rule, the value got, and the
next step. The command line prints it without a traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from trsr.records import Finding


USERS_FAILED: Final = 4
"""Exit code of a run that is whole but for users whose summary could not be written."""


class TrsrError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(TrsrError):
    """The caller's input must change before the same call can work."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting is unknown, missing or breaks its rule."""


class DataError(UsageError):
    """A data file or a row can't be read and can't be repaired.

    Parameters
    ----------
    message
        What is wrong and what to do next.

    Attributes
    ----------
    findings : tuple of Finding
        What was noticed in the data up to here: the cause often stands among it. The command line
        shows it under the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.findings: tuple[Finding, ...] = ()


class UnknownUser(DataError):
    """Nobody of this id is known."""


class TemplateError(UsageError):
    """A prompt template is missing, malformed, or uses an unknown variable."""


class RunError(TrsrError):
    """The input was fine; the work failed."""


class BudgetError(RunError):
    """The cap on calls or money is reached; what was answered is stored, and the same command goes on."""

    exit_code = 3


class ArtifactError(RunError):
    """An artifact of a run folder is missing, damaged or of another run."""


class ModelError(RunError):
    """A language model can't be loaded, or its tokenizer doesn't fit the task."""


class WriterError(RunError):
    """A summary could not be written.

    Parameters
    ----------
    message
        What failed and what to do next.
    retryable
        True when the same call may succeed later (a busy or unreachable server).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StoreError(RunError):
    """The store of model answers can't be opened, read or written."""
