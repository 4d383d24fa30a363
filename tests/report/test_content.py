from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from trsr.records import CANDIDATES, HISTORY, ITEM, P_YES, SPLIT, TARGET, USER
from trsr.report.content import ReportContent


def test_absent_frames_are_empty_but_have_their_columns(bare: ReportContent) -> None:
    assert bare.scores.columns == [USER, SPLIT, ITEM, P_YES]
    assert bare.candidates.columns == [USER, SPLIT, TARGET, CANDIDATES]
    assert bare.histories.columns == [USER, SPLIT, HISTORY, TARGET]
    assert bare.scores.height == bare.candidates.height == bare.histories.height == 0


def test_the_records_are_frozen(bare: ReportContent) -> None:
    with pytest.raises(FrozenInstanceError):
        bare.name = "other"  # type: ignore[misc]
