"""Ids on the command line of `trsr rank`."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import trsr

import trsr as package
from trsr.records import RankedItem, Ranking


class Recorder:
    """Ranks what it is given, as it comes."""

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to close."""

    def rank(self, history: list[str], candidates: list[str] | None, k: int) -> Ranking:
        ranked = tuple(RankedItem(item, 0.5, 0.5) for item in candidates or [])
        return Ranking(ranked[:k], " then ".join(history))

    def rank_user(self, user: str, candidates: list[str] | None, k: int) -> Ranking:
        return self.rank([user], candidates, k)

    def describe(self, item_id: str) -> str:
        return f"<{item_id}>"


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("a,b, c ,", ["a", "b", "c"]),
        ('"Nut, 5 mm",0007', ["Nut, 5 mm", "0007"]),
        ('5" pipe, "a ""quoted"" id"', ['5" pipe', 'a "quoted" id']),
        ("a,b\nc", ["a", "b", "c"]),
    ],
)
def test_ids_are_read_as_csv(monkeypatch: pytest.MonkeyPatch, given: str, ids: list[str]) -> None:
    monkeypatch.setattr(package.Recommender, "load", lambda *_: Recorder())
    done = trsr("rank", "anywhere", "--history", given, "--candidates", given)
    assert done.stdout.splitlines()[0] == f"Summary: {' then '.join(ids)}"
    assert [line.split("<")[-1] for line in done.stdout.splitlines()[2:]] == [f"{item}>" for item in ids]
    assert "Summary: 0007\n" in trsr("rank", "anywhere", "--user", " 0007 ", "--candidates", given).stdout


def test_an_open_quote_is_told_before_anything_is_loaded(tmp_path: Path) -> None:
    done = trsr("rank", tmp_path, "--history", '"Nut, 5 mm')
    assert done.returncode == 2
    assert "double quotes closed" in done.stderr
