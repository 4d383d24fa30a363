"""Where the numbers of an experiment come from."""

from __future__ import annotations

from collections.abc import Sequence

from trsr.config import Config, dump
from trsr.evaluation.significance import FLIPS
from trsr.experiments.contest import Contest
from trsr.pipeline import describe_environment
from trsr.report.comparison.provenance import Choice, Provenance


def provenance(
    config: Config,
    contest: Contest,
    seeds: Sequence[int],
    command: str,
    seconds: float | None,
    family: str = "",
    choices: Sequence[Choice] = (),
) -> Provenance:
    """Gather what somebody else needs to repeat an experiment.

    Parameters
    ----------
    config
        The run's settings.
    contest
        What was asked.
    seeds
        Training seeds.
    command
        The command line.
    seconds
        Wall time of this command.
    family
        Which tests Holm's method takes together, and what else is to be said of them.
    choices
        What was decided on validation.
    """
    return Provenance(
        command=command,
        config=dump(config),
        seeds=tuple(seeds),
        split_seed=config.seed,
        versions=versions(),
        hashes=dict(contest.hashes),
        users={split.value: len(panel.users) for split, panel in contest.panels.items()},
        choices=tuple(choices),
        seconds=seconds,
        test=(
            f"paired sign-flip permutation test over users, each averaged over seeds first, {FLIPS:,} "
            f"random patterns, p by Holm's method; 95% intervals from {config.evaluation.bootstrap:,} "
            f"resamples of users; {family}"
        ),
    )


def versions() -> dict[str, str]:
    """Give the versions that every run's configuration starts with, by name.

    Examples
    --------
    >>> sorted(versions())[:3]
    ['numpy', 'peft', 'polars']
    """
    line = describe_environment().splitlines()[1].removeprefix("# ")
    named = (part.rpartition(" ") for part in line.split(", "))
    return {name.lower(): version for name, _, version in named}
