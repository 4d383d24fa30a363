"""Where the numbers of a comparison come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trsr.report.wording import count, split_name


@dataclass(frozen=True, slots=True)
class Option:
    """One setting that was tried, and what validation said of it.

    Parameters
    ----------
    name
        The setting in words, such as ``hidden 64, layers 2``.
    value
        The measure on the validation users; None when it could not be computed.
    """

    name: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Choice:
    """A decision that was taken on the validation users.

    Parameters
    ----------
    what
        What was decided, such as ``settings of SASRec`` or ``form of the language model``.
    measure
        By which measure, such as ``NDCG@10, uniform``.
    options
        All that was tried.
    chosen
        Name of the option taken.
    """

    what: str
    measure: str
    options: tuple[Option, ...]
    chosen: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the numbers come from, so that somebody else can repeat them.

    Parameters
    ----------
    command
        The exact command line.
    config
        The resolved configuration as YAML.
    seeds
        Training seeds, in the order of `Standing.by_seed`.
    split_seed
        Seed of split and candidates.
    versions
        Package (or ``python``, ``platform``, ``trsr``) to version.
    hashes
        Candidates and other inputs to their SHA-256.
    users
        Split to its number of users.
    choices
        What was decided on validation.
    seconds
        Wall time of the whole comparison; None when unknown.
    test
        The paired test and its resamples, in words; may be empty.
    """

    command: str
    config: str
    seeds: tuple[int, ...] = ()
    split_seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, int] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    seconds: float | None = None
    test: str = ""

    @property
    def named_users(self) -> dict[str, str]:
        """Split, as the page calls it, to its number of users."""
        return {split_name(split): count(users) for split, users in self.users.items()}

    @property
    def named_seeds(self) -> dict[str, str]:
        """What is seeded to its seeds."""
        split = {} if self.split_seed is None else {"split and candidates": str(self.split_seed)}
        return split | ({"training": ", ".join(map(str, self.seeds))} if self.seeds else {})
