from pathlib import Path

import numpy as np
import pytest
from small_catalogue import ITEMS, TOPICS, Topics, people

from trsr.errors import ArtifactError
from trsr.fusion.retrieval import CatalogueFusion, Retriever, fit_catalogue
from trsr.fusion.vector_index import VectorIndex


def test_an_index_is_kept_with_what_it_was_built_of(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    system, crowd = Topics(), people(60, 0.3)
    indexed = Retriever.indexed({"tfidf": system}, np.arange(ITEMS), ["tfidf"])
    fusion, *_ = fit_catalogue(
        indexed, crowd.users, crowd.histories, crowd.targets, 20, lambda places: np.full(places.shape, 0.5)
    )
    fusion.save(tmp_path)
    again = CatalogueFusion.load(tmp_path, {"tfidf": system}, np.arange(ITEMS))
    assert again is not None
    wanted, got = (
        each.propose(crowd.users, crowd.histories, 8).places for each in (indexed, again.retriever)
    )
    assert got.tolist() == wanted.tolist()
    [path] = tmp_path.glob("**/*.usearch")
    vectors = system.item_vectors()
    assert vectors is not None
    stale = vectors.copy()
    stale[-1, 0] += 1
    for other, told in (
        (np.concatenate([vectors, vectors[:1]]), f"has 60 items of {TOPICS} numbers, the system 61"),
        (vectors[:, :-1], f"60 of {TOPICS - 1}"),
        (None, "the system none"),
        (stale, "built from other vectors"),
    ):
        with pytest.raises(ArtifactError, match=f"{told}.*trsr evaluate"):
            VectorIndex.load(path, other)
    VectorIndex.build(vectors[::-1]).save(path)  # a foreign one of the same size
    with pytest.raises(ArtifactError, match=r"built from other vectors.*trsr evaluate"):
        CatalogueFusion.load(tmp_path, {"tfidf": system}, np.arange(ITEMS))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ArtifactError, match="not an index of this catalogue"):
        CatalogueFusion.load(tmp_path, {"tfidf": system}, np.arange(ITEMS))
    path.unlink()
    with pytest.raises(ArtifactError, match="not an index of this catalogue"):
        CatalogueFusion.load(tmp_path, {"tfidf": system}, np.arange(ITEMS))
