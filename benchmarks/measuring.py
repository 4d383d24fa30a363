"""Wall time, CPU time and peak memory of one call, in this process."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a piece of work took: medians over its runs, and the largest peak.

    Parameters
    ----------
    wall_s, cpu_s
        Seconds on the clock and of all threads.
    memory_mb
        Peak of the resident memory above what was resident before, in MB.
    runs
        How often it ran.
    """

    wall_s: float
    cpu_s: float
    memory_mb: float
    runs: int

    def times(self, factor: float) -> Cost:
        """Return the cost of `factor` such pieces, one after the other."""
        return Cost(self.wall_s * factor, self.cpu_s * factor, self.memory_mb, self.runs)


def measure(work: Callable[[], object], *, runs: int, enough_s: float) -> Cost:
    """Run `work` up to `runs` times, but not again once `enough_s` seconds were spent."""
    walls: list[float] = []
    cpus: list[float] = []
    peaks: list[float] = []
    while len(walls) < runs and sum(walls) < enough_s:
        before = _rest()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
        peaks.append(_status_mb("VmHWM") - before)
    return Cost(statistics.median(walls), statistics.median(cpus), max(peaks), len(walls))


def _rest() -> float:
    """Give freed memory back, forget the old peak, and say what is resident."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    return _status_mb("VmRSS")


def _status_mb(name: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
