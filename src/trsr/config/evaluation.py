"""What stands beside the language model: systems it is fused with, compared with, and changed into."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from trsr.config.section import Section, named_by, require_each_once
from trsr.config.summary import KeyphraseWriter, Writer
from trsr.registry import BASELINES

BaselineName = Annotated[
    str,
    BeforeValidator(named_by("baseline", BASELINES), json_schema_input_type=str | dict[str, Any]),
]
"""A system without a language model, by its name: a built-in one, or `package.module:Class`. With settings,
`{kind: package.module:Class, l2: 100}` and `package.module:Class(l2=100)` are the same."""

Sampler = Literal["uniform", "popularity"]
"""How negatives are drawn."""

LanguageModelName = Literal["tallrec", "hierarchical", "recurrent", "profiles", "llmseqprompt"]
"""Forms of the language model: the whole history in the prompt, a summary by either paradigm, the text
that the writer `table` has, or the whole history by one that learnt to order what `training.retriever`
retrieves."""


class Fusion(Section):
    """The fused ranker: the language model's p(yes) and the scores of other systems, joined."""

    companions: tuple[BaselineName, ...] = ("sasrec_text", "itemknn", "tfidf", "popularity")
    """Systems whose scores are joined with p(yes), by what 13 validation users at least say; empty: no
    fused ranker."""


class Comparison(Section):
    """What `trsr compare` puts into one table."""

    baselines: tuple[BaselineName, ...] = (
        "random", "popularity", "itemknn", "tfidf", "bm25", "ncf", "din", "caser", "gru4rec", "sasrec",
        "bert4rec", "sasrec_text",
    )  # fmt: skip
    """Systems without a language model."""
    language_models: tuple[LanguageModelName, ...] = ("tallrec", "hierarchical", "recurrent")
    """Forms of the language model; each is fine-tuned once a seed. With the writer `table`, those with a
    summary are one form, `profiles`."""
    fused: bool = True
    """Join `fusion.companions` with the form that does best on validation."""
    samplers: tuple[Sampler, ...] = Field(("uniform", "popularity"), min_length=1)
    """Ways of drawing negatives; each has its own columns."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed."""
    retrieve: int = Field(100, ge=2)
    """Items that the best retriever hands to the language model in the two-stage ranking of the catalogue."""
    retriever: BaselineName | None = None
    """Who retrieves them, a system that then takes part; null: the one that does best on validation."""

    @model_validator(mode="after")
    def _each_once(self) -> Comparison:
        require_each_once(self, "baselines", "language_models", "samplers", "seeds")
        return self


DimensionName = Literal[
    "summary", "recent_items", "block_size", "writer", "tokens", "negatives", "loss", "method"
]
"""Dimensions of an ablation, by their names in settings and in `--only`."""


class Ablation(Section):
    """What `trsr ablate` varies; everything else stays as the file says."""

    dimensions: tuple[DimensionName, ...] = (
        "summary", "recent_items", "block_size", "writer", "tokens", "negatives", "loss", "method",
    )  # fmt: skip
    """Which settings are varied."""
    recent_items: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 3, 5, 7, 10)
    """Values of `prompt.recent_items`."""
    block_size: tuple[Annotated[int, Field(ge=1)], ...] = (3, 5, 10)
    """Values of `summary.block_size`."""
    writers: tuple[Writer, ...] = (
        KeyphraseWriter(),
        KeyphraseWriter(phrases=2),
        KeyphraseWriter(phrases=12),
        KeyphraseWriter(decay=1.0),
    )
    """Values of `summary.writer`: by default the built-in one with fewer and more phrases, and one that
    never forgets."""
    negatives: tuple[Annotated[int, Field(ge=1)], ...] = (1, 4, 20)
    """Values of `training.negatives`; more than there are candidates are left out."""
    ranks: tuple[Annotated[int, Field(ge=1)], ...] = (2, 8, 32)
    """Ranks of LoRA that stand beside full training."""
    grid: bool = True
    """Cross summary with recent items: both, each alone, none. On the generated shop the expected order is
    checked, and the grid is measured once more with nothing planted."""
    split: Literal["valid", "test"] = "test"
    """Whose figures are shown. To choose a setting by an ablation, take `valid`."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed."""

    @model_validator(mode="after")
    def _each_once(self) -> Ablation:
        require_each_once(self, "dimensions", "recent_items", "block_size", "negatives", "ranks", "seeds")
        return self


ArmName = Literal["a", "b", "c", "d", "e", "f", "g"]
"""What the language model is told in an arm of the study of summaries; see `trsr.experiments.arms`."""


class Study(Section):
    """What `trsr study summaries` measures.

    Its claim is about `summary.writer` and the first of `recent_items`: a summary with so many recent items
    is above recent items until the budget is full, and above another user's summary, the first the more so
    the longer the history.
    """

    arms: tuple[ArmName, ...] = ("a", "b", "c", "d", "e", "f", "g")
    """`a` recent items, `b` recent items until the budget is full, `c` the whole history, `d` summary and
    recent items, `e` summary alone, `f` another user's summary and recent items, `g` a summary of the recent
    items alone, and these. The claim needs `b`, `d` and `f`."""
    recent_items: tuple[Annotated[int, Field(ge=1)], ...] = Field((5,), min_length=1)
    """Recent items in `a`, `d`, `f` and `g`; with several numbers there are as many arms of each."""
    budget: int = Field(256, ge=64)
    """Longest prompt of every arm but `c`, in the model's tokens, the candidate included. What `d` takes is
    a fair one: more gives `b` what no summary can use."""
    whole: int = Field(8192, ge=64)
    """Longest prompt of `c`."""
    writers: tuple[Writer, ...] = ()
    """Writers beside `summary.writer`; each makes arms `d` to `g` of its own."""
    lengths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Longest histories of all groups by length but the last, rising. Empty: thirds of the test users."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed. `--seeds` takes some of them."""

    @model_validator(mode="after")
    def _tells_something(self) -> Study:
        require_each_once(self, "arms", "recent_items", "seeds")
        if missing := [arm for arm in ("b", "d", "f") if arm not in self.arms]:
            message = f"arms must hold b, d and f, which the claim compares; {', '.join(missing)} is missing"
            raise ValueError(message)
        if sorted(set(self.lengths)) != list(self.lengths):
            message = f"lengths must rise, got {', '.join(map(str, self.lengths))}"
            raise ValueError(message)
        return self


class Cluster(Section):
    """Where summaries are written and candidates scored."""

    kind: Literal["none", "ray"] = "none"
    """`none`: in this process. `ray`: on a Ray cluster that runs already (needs `trsr[ray]`)."""
    address: str = "auto"
    """Address of the cluster's head, such as `10.0.0.1:6379`; `auto`: the cluster this machine is part of."""
    workers: int = Field(2, ge=1)
    """Actors, each of which keeps its model loaded."""
    cpus: float = Field(1.0, ge=0)
    """Processor cores that an actor takes."""
    gpus: float = Field(0.0, ge=0)
    """GPUs that an actor takes; parts are allowed."""
    users: int = Field(64, ge=1)
    """Users a task; what a lost machine had under way is at most this many users an actor."""
