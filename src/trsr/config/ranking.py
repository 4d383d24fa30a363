"""The ranking model, its training and its evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from trsr.config.section import BaselineName, Section, checking
from trsr.config.summary import ChatEndpoint, Limits, Price, Quantization, Sampling
from trsr.registry import METRICS, make_part, spell


class _Questioned(Section):
    """A model that is asked about places in histories before it is fine-tuned on users' own candidates."""

    pretrain_questions: int = Field(0, ge=0)
    """Places in histories at which it learns to say yes to the next item and no to others, before
    fine-tuning. Of training users and those with too short a history, each place once before any again."""
    pretrain_negatives: int = Field(20, ge=1)
    """Others in each of these questions; fewer cost less, where a large model has little time."""
    pretrain_popular: float = Field(0.25, ge=0, le=1)
    """Share of these others that are drawn by popularity; the rest is uniform."""
    pretrain_word_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an item's words left out in these questions; worth something where histories are few."""


class CompactModel(_Questioned):
    """The built-in language model: a small Qwen-architecture model, trained from scratch on the catalogue."""

    kind: Literal["compact"] = "compact"
    """The model's name."""
    vocabulary: int = Field(8192, ge=300)
    """Tokens of the byte-level BPE that is trained on the catalogue and the prompts' words."""
    hidden: int = Field(128, ge=16)
    """Width of the model; a multiple of twice `heads`."""
    layers: int = Field(3, ge=1)
    """Transformer layers. All but the last learn from histories first, the last from questions."""
    heads: int = Field(4, ge=1)
    """Attention heads; half as many key-value heads when even."""
    pretrain_epochs: float = Field(3.0, ge=0)
    """Passes over the histories in which the model learns which item comes next; 0 for none."""
    pretrain_learning_rate: float = Field(2e-3, gt=0)
    """Peak learning rate of these passes."""
    pretrain_questions: int = Field(15_000, ge=0)
    start: Path | None = None
    """Folder of a compact model that another run pre-trained (its `pretrained`); null: pre-trains here."""


class HuggingFaceModel(_Questioned):
    """Any causal language model that transformers reads: a folder, a GGUF file, a hub id."""

    kind: Literal["huggingface"]
    """The model's name."""
    path: str
    """Folder, `.gguf` file, a name of `trsr models list`, or hub id. Of a LoRA adapter: it is merged into the
    base that it names."""
    revision: str | None = None
    """Hub revision."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""
    quantization: Quantization = "none"
    """Weights of 8 bits (LLM.int8) or 4 bits (NF4) on a GPU, by `trsr[quantized]`; adapters are trained on
    them as QLoRA does."""
    trust_remote_code: bool = False
    """Run code that comes with the model. Leave off unless you have read that code."""


class EndpointModel(ChatEndpoint):
    """A language model behind a server that tells probabilities, or writes an order; it ranks as it stands.

    Every answer goes to the store of `summary.store`, and is paid for once.
    """

    kind: Literal["endpoint"]
    """The model's name."""
    protocol: Literal["vllm", "sglang", "completions", "transformers", "chat"]
    """How it is asked. `vllm`: `/generative_scoring`. `sglang`: `/v1/score`. `completions`: `/v1/completions`
    with `echo` and `logprobs`. `transformers`: `/v1/systemone` of `transformers serve`, in whose words the
    question ends. `chat`: `/v1/chat/completions` of any, which writes the order of all candidates; for
    `comparison.untrained` with `by: order` alone."""
    tokenizer: str = ""
    """Folder, `.gguf` file, known name or hub id of the model's own tokenizer: prompts are sent as its token
    ids, and the answers must be single tokens of it. `chat` needs none."""
    check_tokens: bool = True
    """Compare the tokenizer with the server's, by `/tokenize`, before the first question is paid for, and
    stop when the server reads another number of tokens than it was sent."""
    candidates: int = Field(32, ge=1)
    """Candidates a request, at most; `transformers` has one, `chat` all."""
    sampling: Sampling = Sampling(max_new_tokens=256)
    """How `chat` draws its answer; models that think aloud need more tokens."""
    price: Price = Price()
    """What the model costs."""
    limits: Limits = Limits()
    """The most that one command may pay for scores."""

    setting: ClassVar[str] = "model"
    shorter: ClassVar[str] = "prompt.recent_items, prompt.item_tokens or model.sampling.max_new_tokens"

    @model_validator(mode="after")
    def _with_tokenizer(self) -> EndpointModel:
        if self.protocol != "chat" and not self.tokenizer:
            message = (
                f"tokenizer: protocol {self.protocol} sends the ids of the model's own tokenizer: name it"
            )
            raise ValueError(message)
        return self


RankingModel = Annotated[CompactModel | HuggingFaceModel | EndpointModel, Field(discriminator="kind")]


class Lora(Section):
    """Low-rank adapters (the paper's values)."""

    rank: int = Field(8, ge=1)
    """Rank of the update."""
    alpha: int = Field(16, ge=1)
    """Scale: the update counts alpha / rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout before the adapter."""
    targets: tuple[str, ...] = ()
    """Module names to adapt. Empty: the attention projections of the architecture, fused or not."""


class Training(Section):
    """Supervised fine-tuning on answers yes or no."""

    method: Literal["auto", "lora", "full", "none"] = "auto"
    """Train adapters or all weights. `auto`: all weights of the compact model, adapters on any other; nothing
    of a model behind a server. `none`: the model ranks as it stands."""
    lora: Lora = Lora()
    """The adapters, when adapters are trained."""
    negatives: int = Field(4, ge=1)
    """Negatives per positive in every epoch, taken in turn from those that `sampler` says."""
    sampler: Literal["candidates", "both", "retrieved"] = "candidates"
    """Where negatives come from. `candidates`: the user's frozen candidates (the paper's). `both`: these, and
    as many drawn the other way, so that uniform and popularity-proportional ones take turns. `retrieved`: the
    best items of `retriever`, as many as there are candidates, target and history left out."""
    retriever: BaselineName = "llmseqsim"
    """Who retrieves negatives, where they are retrieved. One that isn't trained on histories: another has
    learnt the targets of those who are trained on."""
    loss: Literal["pointwise", "listwise"] = "pointwise"
    """`pointwise`: each candidate's answer, as separate samples (the paper's). `listwise`: the target against
    the user's other candidates, by the margins between yes and no."""
    tokens: Literal["answer", "all"] = "answer"
    """Which tokens the loss counts: the answer alone, or every token of prompt and answer, as ordinary
    fine-tuning of language models does. `all` needs `loss: pointwise`, and costs one prompt per candidate."""
    epochs: int = Field(5, ge=1)
    """Passes over the training users; the best by validation Recall@3+5+10 is kept."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of AdamW; linear decay. Null: 1e-3 for the compact model, 1e-4 for any other."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Moment decays of AdamW."""
    weight_decay: float = Field(5e-4, ge=0)
    """Decoupled weight decay."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    batch_size: int = Field(16, ge=1)
    """Prompts a forward pass."""
    accumulation: int = Field(1, ge=1)
    """Forward passes an update."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on a GPU that has it, else float32."""
    gradient_checkpointing: bool = False
    """Less memory for more time."""
    seed: int | None = None
    """Seed of initial weights, order and drawn negatives; null: the run's seed. Split and candidates follow
    the run's seed, so that several trainings are measured on the same users."""
    max_users: int | None = Field(None, ge=1)
    """Train on this many users at most, chosen by the seed."""
    report_to: tuple[str, ...] = ()
    """Trackers that follow losses and validation, as transformers' Trainer names them: `tensorboard`,
    `wandb`, `mlflow`, ... Each needs its own package and takes its settings from its own environment
    variables; a run has the run folder's name. TensorBoard's files lie in the run folder, in `tracking`."""
    validation_users: int | None = Field(None, ge=1)
    """Validate on this many users at most after each epoch, chosen by the seed."""

    @model_validator(mode="after")
    def _one_loss(self) -> Training:
        if self.tokens == "all" and self.loss == "listwise":
            message = "tokens: all is a loss of single prompts; it needs loss: pointwise, got loss: listwise"
            raise ValueError(message)
        return self


def _check_metric(part: object) -> str:
    """Write a metric's name; its gains are asked for once: what fails does so before the long work."""
    with checking():
        name = spell("metric", part, METRICS)
        make_part("metric", name, METRICS).table(20)
    return name


MetricName = Annotated[str, BeforeValidator(_check_metric, json_schema_input_type=str | dict[str, Any])]


class Evaluation(Section):
    """What is measured, and with which certainty."""

    ks: tuple[Annotated[int, Field(ge=1)], ...] = Field((3, 5, 10), min_length=1)
    """Cut-offs of Recall, MRR and NDCG, which are always measured, as AUC is."""
    metrics: tuple[MetricName, ...] = ()
    """What is measured beside them: a built-in metric at another cut-off, such as `Recall(k=20)`, or your own
    as `package.module:Class`."""
    bootstrap: int = Field(1000, ge=100)
    """Resamples of users for the 95% intervals."""
    baselines: tuple[BaselineName, ...] = ("random", "popularity", "tfidf")
    """Systems that stand in the same table as a floor."""
    batch_tokens: int = Field(16384, ge=256)
    """Tokens a scoring batch, padding included."""
    report_users: int = Field(12, ge=0)
    """Test users whom the report shows in full."""

    @model_validator(mode="after")
    def _metrics_differ(self) -> Evaluation:
        names = [f"{family}@{k}" for family in METRICS for k in self.ks] + ["AUC"]
        names += [make_part("metric", metric, METRICS).name for metric in self.metrics]
        if twice := [name for name in names if names.count(name) > 1]:
            message = f"metrics must have names of their own, but two are {twice[0]}; give the class a `name`"
            raise ValueError(message)
        return self
