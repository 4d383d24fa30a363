from baselines_shop import learnt_from, row

from trsr.baselines.simple import Popularity


def test_counts_of_training_sequences_by_hand() -> None:
    popularity = Popularity()
    popularity.fit(learnt_from([[0, 1, 1], [0, 0]]))
    # What the users who are asked about took counts nothing.
    assert popularity.score(["u"], [row(2, 2)]).tolist() == [[3, 2, 0, 0]]
    assert popularity.score(["u"], [row()], row(2, 1)[None]).tolist() == [[0, 2]]
