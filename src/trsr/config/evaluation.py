"""What stands beside the language model: systems it is fused with, compared with, and changed into."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from trsr.config.ranking import EndpointModel, HuggingFaceModel
from trsr.config.section import BaselineName as BaselineName
from trsr.config.section import Section, require_each_once
from trsr.config.summary import KeyphraseWriter, Writer

Drawn = Literal["uniform", "popularity"]
"""How negatives are drawn."""

Sampler = Literal[Drawn, "file", "impressions"]
"""Where candidates come from: drawn, or given."""

LanguageModelName = Literal[
    "tallrec", "hierarchical", "recurrent", "sections", "profiles", "llmseqprompt", "mllm_msr"
]
"""Forms of the language model: the whole history in the prompt, a summary by one of the paradigms, the text
that the writer `table` has, the whole history by one that learnt to order what `training.retriever`
retrieves, or a summary by blocks of three items with the captions of their images, and no recent items."""


class Fusion(Section):
    """The fused ranker: the language model's p(yes) and the scores of other systems, joined."""

    companions: tuple[BaselineName, ...] = ("sasrec_text", "itemknn", "tfidf", "popularity")
    """Systems whose scores are joined with p(yes), by what 13 validation users at least say; empty: no
    fused ranker."""
    items: int = Field(100, ge=0)
    """Items of the whole catalogue that the language model reads of a user, to learn the fused ranker of the
    catalogue and, by default, in `recommend`. Every validation and test user is asked about so many, which is
    most of what scoring costs; 0: no such ranker."""
    retrievers: tuple[BaselineName, ...] | None = None
    """Companions that propose items of the catalogue; null: all."""
    index: Literal["exact", "usearch"] = "exact"
    """How companions with vectors look through the catalogue: `exact`ly, or by an index of usearch (needs
    `trsr[index]`), which is faster among hundreds of thousands of items and misses some."""

    @model_validator(mode="after")
    def _retrieve(self) -> Fusion:
        others = [name for name in self.retrievers or () if name not in self.companions]
        if others:
            message = f"retrievers must be among companions, who are heard in the fusion, got {others[0]!r}"
            raise ValueError(message)
        if self.retrievers == ():
            message = (
                "retrievers must hold one companion at least; null: all, items: 0: no ranker of the catalogue"
            )
            raise ValueError(message)
        return self


class Untrained(Section):
    """A model that ranks as it stands: nothing is trained, and it is told what the run's model is told."""

    name: str = Field("", pattern=r"^[\w .()/:@+-]*$")
    """What tables call it; empty: the model's own name and what ranks."""
    model: Annotated[HuggingFaceModel | EndpointModel, Field(discriminator="kind")]
    """A model on this machine, or one behind a server."""
    by: Literal["p_yes", "likelihood", "order"] = "p_yes"
    """What ranks. `p_yes`: the probability of the answer yes against no. `likelihood`: how much likelier the
    candidate's text is after the user's part of the prompt than alone; of a model on this machine. `order`:
    the order that a chat model writes of all candidates at once (`protocol: chat`)."""
    length: Literal["sum", "mean"] = "sum"
    """Of the likelihood: the logarithm over the whole text, whose order is that of how likely the text makes
    the user's history; or its mean over the text's tokens."""

    @property
    def label(self) -> str:
        """What tables and files call it."""
        own = self.model.path if isinstance(self.model, HuggingFaceModel) else self.model.model
        told = {"p_yes": "p(yes)", "likelihood": "likelihood", "order": "order"}[self.by]
        mean = " mean" if self.by == "likelihood" and self.length == "mean" else ""
        return self.name or f"{own.rstrip('/').rpartition('/')[2]} {told}{mean}"

    @property
    def description(self) -> str:
        """What it is, in one sentence for the page."""
        if self.by == "p_yes":
            return "A language model as it stands, without training: the probability of yes against no."
        if self.by == "order":
            return "A chat model, not trained here, is shown all candidates at once and writes their order."
        mean = ", on the average of its tokens" if self.length == "mean" else ""
        return (
            "A language model as it stands, without training: how much likelier the candidate's text is "
            f"after the user's part of the prompt than alone{mean}."
        )

    @model_validator(mode="after")
    def _can_be_had(self) -> Untrained:
        if self.by == "likelihood" and isinstance(self.model, EndpointModel):
            message = "by: likelihood is of a model on this machine (kind: huggingface); servers give p_yes"
            raise ValueError(message)
        chats = isinstance(self.model, EndpointModel) and self.model.protocol == "chat"
        if chats != (self.by == "order"):
            message = (
                "by: order is what a chat model behind a server writes, and all that it gives: set by: order "
                "and model.protocol: chat together, or neither"
            )
            raise ValueError(message)
        return self


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
    untrained: tuple[Untrained, ...] = ()
    """Models that rank as they stand, without training, on the frozen candidates."""
    fused: bool = True
    """Join `fusion.companions` with the form that does best on validation."""
    samplers: tuple[Drawn, ...] = Field(("uniform", "popularity"), min_length=1)
    """Ways of drawing negatives; each has its own columns. Where candidates are given, these alone are
    asked."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 1, 2), min_length=1)
    """Training seeds; split and candidates stay those of the run's seed."""
    retrieve: int = Field(100, ge=2)
    """Items that the best retriever hands to the language model in the two-stage ranking of the catalogue."""
    retriever: BaselineName | None = None
    """Who retrieves them, a system that then takes part; null: the one that does best on validation."""
    pairs: tuple[tuple[str, str], ...] = ()
    """Pairs of systems whose difference is tested, beside every system's from the best: [[sasrec, tfidf]].
    Whatever takes part, by the name in the table, or by its kind where one system is of it."""

    @model_validator(mode="after")
    def _each_once(self) -> Comparison:
        require_each_once(self, "baselines", "language_models", "samplers", "seeds")
        labels = [each.label for each in self.untrained]
        if twice := [label for label in labels if labels.count(label) > 1]:
            message = f"untrained must have names of their own, but two are {twice[0]!r}; give a `name`"
            raise ValueError(message)
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
