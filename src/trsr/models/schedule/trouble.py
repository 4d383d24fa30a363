"""Why a try had no answer, as the schedule needs to know it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Fault(Enum):
    """Whose fault it is, and so what helps."""

    SERVER = "server"
    """Away or busy, whatever it is asked: the call waits as long as patience lasts."""
    TRY = "try"
    """A broken or lost reply, which the prompt may have caused: another try, a limited number of times."""
    PROMPT = "prompt"
    """This prompt is refused: no other try, the other calls go on."""
    SETTINGS = "settings"
    """Every call would end the same way, such as with a wrong key: nothing more is sent."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One try that had no answer.

    Parameters
    ----------
    fault
        Whose fault it is.
    said
        What happened and the next step, without any secret.
    wait_s
        Seconds that the server asks to be left alone; None when it doesn't say.
    may_be_charged
        Whether the server may have done the work: it didn't refuse, but its answer is lost or unreadable.
    """

    fault: Fault
    said: str
    wait_s: float | None = None
    may_be_charged: bool = False
