"""Who takes part in a comparison, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from trsr.config import Config
from trsr.config.experiments import BaselineName, LanguageModelName
from trsr.errors import ConfigError

FUSED: Final = "fused"
"""Name of the fused ranker."""


@dataclass(frozen=True, slots=True)
class Lineup:
    """The systems of a comparison.

    Parameters
    ----------
    baselines
        Systems without a language model.
    language_models
        Forms of the language model.
    fused
        Whether the fused ranker takes part.
    imported
        Names of the outside systems that take part; None for all that were imported.
    """

    baselines: tuple[BaselineName, ...]
    language_models: tuple[LanguageModelName, ...]
    fused: bool
    imported: tuple[str, ...] | None = None


def line_up(config: Config, only: Sequence[str] | None = None, imported: Sequence[str] = ()) -> Lineup:
    """Say who takes part.

    Companions of the fused ranker take part with it, also where `comparison.baselines` leaves them out.

    Parameters
    ----------
    config
        The run's settings.
    only
        Names of the systems wanted; None for all of the settings. Every known system can be named, also
        one that the settings leave out.
    imported
        Names of the outside systems at hand.

    Raises
    ------
    ConfigError
        When a name is unknown, or the fused ranker has no language model to join.

    Examples
    --------
    >>> line_up(Config(), ["tfidf", "sasrec"])
    Lineup(baselines=('tfidf', 'sasrec'), language_models=(), fused=False, imported=())
    """
    comparison = config.comparison
    if only is None:
        baselines, forms, taken = comparison.baselines, comparison.language_models, None
        fused = comparison.fused and bool(forms) and bool(config.fusion.companions)
    else:
        known = (*get_args(BaselineName), *get_args(LanguageModelName), FUSED, *imported)
        unknown = [name for name in only if name not in known]
        if unknown or not only:
            asked = ", ".join(map(repr, unknown)) or "nothing"
            message = f"--only must name systems among {', '.join(known)}, got {asked}"
            raise ConfigError(message)
        baselines = tuple(name for name in get_args(BaselineName) if name in only)
        forms = tuple(name for name in get_args(LanguageModelName) if name in only)
        fused = FUSED in only
        taken = tuple(name for name in imported if name in only)
    if fused and not (forms and config.fusion.companions):
        message = (
            "the fused ranker joins a language model with fusion.companions: name one of "
            f"{', '.join(get_args(LanguageModelName))} beside it, and leave fusion.companions filled"
        )
        raise ConfigError(message)
    companions = config.fusion.companions if fused else ()
    return Lineup(tuple(dict.fromkeys((*baselines, *companions))), forms, fused, taken)
