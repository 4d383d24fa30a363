from __future__ import annotations

from trsr.report.comparison.page import heat_map, weight_list
from trsr.report.comparison.results import Kind, Roster, System
from trsr.report.insights import Agreement, FusedWeight, Fusion

ROSTER = Roster((System("tfidf"), System("sasrec"), System("fused", kind=Kind.FUSED)))


def test_the_darkest_cell_is_the_largest_share() -> None:
    made = heat_map(Agreement("uniform", 3, 10, ("tfidf", "sasrec"), ((0.4, 0.1), (0.1, 0.8))), ROSTER)
    cells = [cell for row in made.rows for cell in row.cells]
    assert [cell.text for cell in cells] == ["40.0", "10.0", "10.0", "80.0"]
    assert [cell.heat for cell in cells] == [0.5, 0.125, 0.125, 1.0]
    assert [cell.is_own for cell in cells] == [True, False, False, True]


def test_a_fused_ranker_is_not_called_a_complement() -> None:
    shared = ((0.4, 0.1, 0.4), (0.1, 0.5, 0.5), (0.4, 0.5, 0.9))
    made = heat_map(Agreement("uniform", 3, 10, ("tfidf", "sasrec", "fused"), shared), ROSTER)
    assert "are TF-IDF similarity and SASRec" in made.sentence
    assert "for 80% of users, the better of them alone for 50%" in made.sentence


def test_no_hits_at_all_and_one_system_alone() -> None:
    assert heat_map(Agreement("uniform", 3, 10, ("a",), ((0.0,),)), ROSTER).rows[0].cells[0].heat == 0.0
    assert "nothing to share" in heat_map(Agreement("uniform", 3, 10, ("a",), ((0.0,),)), ROSTER).sentence


def test_weights_stand_by_size_with_their_shares() -> None:
    weights = (FusedWeight("tfidf", 0.5), FusedWeight("sasrec", -2.0), FusedWeight("tfidf, cold item", 1.0))
    made = weight_list(Fusion("fused", weights), ROSTER)
    assert [(bar.label, bar.share) for bar in made.weights] == [
        ("SASRec", 100.0),
        ("TF-IDF similarity, in addition for items that training never saw", 50.0),
        ("TF-IDF similarity", 25.0),
    ]
    assert "SASRec counts against a candidate." in made.sentence


def test_weights_of_zero_and_none_at_all_can_be_shown() -> None:
    assert weight_list(Fusion("fused", (FusedWeight("tfidf", 0.0),)), ROSTER).weights[0].share == 0.0
    assert weight_list(Fusion("fused", ()), ROSTER).sentence == ""
