"""What stands beside the language model: systems it is fused with, compared with, and changed into."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trsr.config.section import Section, require_each_once

BaselineName = Literal[
    "random",
    "popularity",
    "itemknn",
    "tfidf",
    "bm25",
    "embeddings",
    "ncf",
    "din",
    "caser",
    "gru4rec",
    "sasrec",
    "bert4rec",
    "sasrec_text",
]
"""Systems without a language model, by their names in tables and settings."""

Sampler = Literal["uniform", "popularity"]
"""How negatives are drawn."""

LanguageModelName = Literal["tallrec", "hierarchical", "recurrent"]
"""Forms of the language model: the whole history in the prompt, or a summary by either paradigm."""


class Fusion(Section):
    """The fused ranker: the language model's p(yes) and the scores of other systems, joined."""

    companions: tuple[BaselineName, ...] = ("sasrec_text", "itemknn", "tfidf", "popularity")
    """Systems whose scores are joined with p(yes); empty: no fused ranker."""


class Comparison(Section):
    """What `trsr compare` puts into one table."""

    baselines: tuple[BaselineName, ...] = (
        "random", "popularity", "itemknn", "tfidf", "bm25", "ncf", "din", "caser", "gru4rec", "sasrec",
        "bert4rec", "sasrec_text",
    )  # fmt: skip
    """Systems without a language model."""
    embedding_model: str | None = None
    """Folder or hub id of the sentence-transformers model of the baseline `embeddings`."""
    language_models: tuple[LanguageModelName, ...] = ("tallrec", "hierarchical", "recurrent")
    """Forms of the language model; each is fine-tuned once a seed."""
    fused: bool = True
    """Join `fusion.companions` with the form that does best on validation."""
    samplers: tuple[Sampler, ...] = Field(("uniform", "popularity"), min_length=1)
    """Ways of drawing negatives; each has its own columns."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed."""
    retrieve: int = Field(100, ge=2)
    """Items that the best retriever hands to the language model in the two-stage ranking of the catalogue."""

    @model_validator(mode="after")
    def _each_once(self) -> Comparison:
        require_each_once(self, "baselines", "language_models", "samplers", "seeds")
        return self
