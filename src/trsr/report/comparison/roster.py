"""The systems of a comparison by name: how each is called and what it is made of."""

from __future__ import annotations

from collections.abc import Iterable

from trsr.report import wording
from trsr.report.comparison.standings import Contrast, Kind, Standing, System, Table


class Roster:
    """Look up systems by name; a name that no `System` explains is shown as it is, as a baseline.

    Parameters
    ----------
    systems
        All systems of the comparison.

    Examples
    --------
    >>> roster = Roster([System("tfidf"), System("lm", "Our model", Kind.LANGUAGE_MODEL)])
    >>> roster.label("tfidf"), roster.label("lm"), roster.system("lm").kind.value
    ('TF-IDF similarity', 'Our model', 'language model')
    """

    def __init__(self, systems: Iterable[System]) -> None:
        self._systems = {system.name: system for system in systems}

    def system(self, name: str) -> System:
        """Give the record of a system."""
        return self._systems.get(name, System(name))

    def label(self, name: str) -> str:
        """Name of a system in tables and figures."""
        return self.system(name).label or wording.system_name(name)

    def inside(self, name: str) -> str:
        """Name of a system inside a sentence."""
        return self.system(name).label or wording.inside(name)

    def kind(self, name: str) -> Kind:
        """Say what a system is made of."""
        return self.system(name).kind

    def place(self, name: str) -> int:
        """Place in the order of the comparison; unknown systems come last."""
        names = list(self._systems)
        return names.index(name) if name in names else len(names)


def standing(table: Table, name: str) -> Standing | None:
    """Row of a system in a table; None when it isn't there."""
    return next((row for row in table.standings if row.system == name), None)


def contrast(table: Table, first: str, second: str, measure: str) -> Contrast | None:
    """Paired difference `first` minus `second`, also when the table holds it the other way round."""
    for found in table.contrasts:
        if found.measure != measure:
            continue
        if (found.first, found.second) == (first, second):
            return found
        if (found.first, found.second) == (second, first):
            ends = found.difference
            turned = type(ends)(-ends.mean, -ends.high, -ends.low)
            return Contrast(first, second, measure, turned, found.p)
    return None
