"""How histories become summaries, and how prompts are worded."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    field_validator,
    model_validator,
)

from trsr.config.section import Section, checking
from trsr.registry import PARADIGMS, WRITERS, dotted, find_part, is_dotted

Domain = Literal["shopping", "news", "video", "generic"]
Style = Literal["auto", "chat", "examples"]
Quantization = Literal["none", "8bit", "4bit"]


class KeyphraseWriter(Section):
    """The built-in writer: weighted key phrases of the catalogue, no model."""

    kind: Literal["keyphrase"] = "keyphrase"
    """The writer's name."""
    decay: float = Field(0.6, gt=0, le=1)
    """Weight that an interest keeps when one more block has passed."""
    phrases: int = Field(6, ge=1)
    """Key phrases that a summary names at most."""


class LocalWriter(Section):
    """Any Hugging Face causal language model on this machine."""

    kind: Literal["local"]
    """The writer's name."""
    model: str
    """Folder, `.gguf` file, a name of `trsr models list`, or hub id. Of a LoRA adapter: it is merged into the
    base that it names."""
    revision: str | None = None
    """Hub revision; part of the key under which answers are stored."""
    device: str = "auto"
    """`auto` (CUDA when there is one), `cpu`, `cuda`, `cuda:1`, ..."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""
    quantization: Quantization = "none"
    """Weights of 8 bits (LLM.int8) or 4 bits (NF4) on a GPU, by `trsr[quantized]`; part of the key under
    which answers are stored."""
    batch_size: int = Field(16, ge=1)
    """Prompts a batch; batches are made of prompts of like length."""
    style: Style = "auto"
    """`chat`: instructions. `examples`: worked examples, which the model goes on with for one line, as base
    models and very small ones can. `auto`: examples for models without a chat template or narrower than 768,
    chat for all others."""


class RequestBody(Section):
    """What a request to a server looks like.

    What the server refuses by name is left out or renamed by itself, once and with a
    notice; these settings say it beforehand.
    """

    max_tokens_name: str = Field("max_tokens", pattern=r"^\w+$")
    """Name under which the longest answer is sent; newer models of OpenAI want `max_completion_tokens`."""
    omit: tuple[Literal["temperature", "top_p", "seed", "frequency_penalty", "stop"], ...] = ()
    """Parameters of `sampling` that are not sent: the provider's own values hold. Part of the key
    under which answers are stored."""
    system_role: Literal["system", "developer", "user"] = "system"
    """Role of the instruction; `user`: it heads the user's message, for models without a system role. Part
    of the key under which answers are stored."""
    extra: dict[str, Any] = Field({})
    """Whatever else the request holds, such as `{reasoning_effort: low}` or `{chat_template_kwargs:
    {enable_thinking: false}}`. No keys: it is written wherever the configuration is. Part of the key under
    which answers are stored."""


class Endpoint(Section):
    """A model behind an HTTP server: where it is, and how fast it may be asked."""

    base_url: str
    """Root of the API, such as `http://localhost:8000/v1`, without user name, password or key: they would be
    written wherever the configuration is."""
    model: str
    """Model name as the server knows it."""
    revision: str | None = None
    """Whatever tells apart two models of one name; part of the key under which answers are stored."""
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the key; the key itself is never written anywhere."""
    concurrency: int = Field(8, ge=1, le=1000)
    """Requests under way at once."""
    requests_per_minute: float | None = Field(None, gt=0)
    """What the server allows; null: no limit but its own refusals, which are respected."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """What the server allows of prompt and completion tokens together: estimated when a request is sent,
    corrected by what the answer says it used."""
    connect_timeout_s: float = Field(10.0, gt=0)
    """Seconds until a connection that isn't made counts as lost."""
    timeout_s: float = Field(120.0, gt=0)
    """Seconds for a whole request, from sending to the answer's last byte; then it is tried again."""
    max_retries: int = Field(5, ge=0)
    """Tries after the first one, with exponential back-off and jitter, before a call counts as failed. Being
    away or busy doesn't count for a server that has answered anything before."""
    patience_s: float = Field(600.0, gt=0)
    """Seconds without any answer from a failing server until the run gives up; it goes on when run again."""

    setting: ClassVar[str] = "summary.writer"
    """Where these settings stand, as messages name it."""

    @field_validator("base_url")
    @classmethod
    def _without_secret(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            message = (
                "must hold no user name, password or query; put the key into the variable of api_key_env"
            )
            raise ValueError(message)
        return url

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            message = "must be the name of an environment variable, not the key itself"
            raise ValueError(message)
        return name


class ChatEndpoint(Endpoint):
    """A server that answers chat completions."""

    request: RequestBody = RequestBody()
    """What a request looks like, for providers that take other parameters than most."""

    shorter: ClassVar[str] = "items.max_tokens, summary.block_size or summary.sampling.max_new_tokens"
    """The settings that make a prompt shorter."""


class EndpointWriter(ChatEndpoint):
    """Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, Ollama, `transformers serve`, or a provider."""

    kind: Literal["endpoint"]
    """The writer's name."""
    tokenizer: str | None = None
    """Folder, `.gguf` file, known name or hub id of the model's tokenizer, by which `trsr plan` counts
    exactly; null: estimated."""
    check_prompt_tokens: bool = True
    """Stop when the server's own count of prompt tokens shows that it cuts prompts."""
    style: Style = "auto"
    """`chat` (and `auto`): instructions. `examples`: worked examples, which the model goes on with for one
    line; sent to `/completions`, so the server's model may be a base model."""


class TableWriter(Section):
    """Texts that are there already: a table with users and what is known of each. No model is called.

    There is one text a user, so that the paradigms `recurrent` and `hierarchical` are the same here; `none`
    leaves the texts out. When they were written is not known: see docs/store.md for what may leak.
    """

    kind: Literal["table"]
    """The writer's name."""
    path: Path
    """Table in any format of own tables: CSV, TSV, JSON lines or Parquet, a file or a folder of parts."""
    user_column: str = "user_id"
    """Column that holds the user's id, as the data has it."""
    text_column: str | Annotated[tuple[str, ...], Field(min_length=1)] = "summary"
    """Column that holds the text; several are joined in this order, each after its name."""
    encoding: str | None = None
    """Encoding of a text file, as in `data.encoding`."""

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The columns of text, also where there is one."""
        return (self.text_column,) if isinstance(self.text_column, str) else self.text_column

    @field_validator("encoding")
    @classmethod
    def _known(cls, encoding: str | None) -> str | None:
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except LookupError as error:
                message = "must be an encoding that Python knows, such as cp1252, shift_jis or gb18030"
                raise ValueError(message) from error
        return encoding


class OwnWriter(Section):
    """Any class that writes; its own ``Settings``, a subclass of this, say what else can be set."""

    kind: str
    """The writer's class, as `package.module:Class`."""


def _kind(writer: object) -> str:
    """Say whose settings these are: those of a built-in writer, or of an own one."""
    kind = writer.get("kind") if isinstance(writer, Mapping) else getattr(writer, "kind", None)
    return "own" if isinstance(kind, type) or is_dotted(str(kind)) else str(kind)


def _own_settings(writer: object) -> OwnWriter:
    """Check the settings of an own writer by those that its class declares."""
    if isinstance(writer, OwnWriter):
        return writer
    values = dict(writer) if isinstance(writer, Mapping) else {}
    values["kind"] = dotted(values["kind"])
    with checking():
        made = find_part("writer", values["kind"], {})
    declared: type[OwnWriter] = getattr(made, "Settings", OwnWriter)
    return declared.model_validate(values)


Writer = Annotated[
    Annotated[KeyphraseWriter, Tag("keyphrase")]
    | Annotated[LocalWriter, Tag("local")]
    | Annotated[EndpointWriter, Tag("endpoint")]
    | Annotated[TableWriter, Tag("table")]
    | Annotated[SerializeAsAny[OwnWriter], BeforeValidator(_own_settings), Tag("own")],
    Discriminator(
        _kind,
        custom_error_type="writer",
        custom_error_message=f"kind must be {', '.join(WRITERS)}, or your own as package.module:Class",
    ),
]


def _paradigm(paradigm: object) -> str:
    name = dotted(paradigm)
    if name not in PARADIGMS:  # a built-in one is there, and needn't be loaded
        with checking():
            find_part("paradigm", name, PARADIGMS)
    return name


class Sampling(Section):
    """How a language model draws its answer."""

    max_new_tokens: int = Field(150, ge=1)
    """Longest answer."""
    temperature: float = Field(0.0, ge=0)
    """0 is greedy: the same prompt gives the same answer."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus of the distribution that is drawn from when the temperature is above 0."""
    seed: int = 0
    """Seed of the draw; part of the key under which answers are stored."""
    frequency_penalty: float = Field(0.0, ge=0, le=2)
    """Taken off a token's logit for each time that it stands in the answer already, against loops. What
    stands in the prompt costs nothing: names are to be copied from there."""


Check = Literal[
    "empty", "thoughts", "filtered", "cut", "long", "refusal", "echo", "repetition", "language", "no_summary",
    "grounding", "edits",
]  # fmt: skip


class Price(Section):
    """What a model behind a server costs; unknown unless given, and what is unknown is never shown as 0."""

    prompt: float | None = Field(None, ge=0)
    """Money for a million prompt tokens."""
    completion: float | None = Field(None, ge=0)
    """Money for a million completion tokens."""
    currency: str = Field("USD", pattern=r"^\S{1,8}$")
    """What money is counted in."""


class Limits(Section):
    """The most that one command may pay; `--max-calls`, `--max-cost` set that of summaries and captions."""

    max_calls: int | None = Field(None, ge=0)
    """Calls that are paid for; answers from the store are free. A try that may have been charged although
    no answer came of it, such as one that timed out, is a call."""
    max_cost: float | None = Field(None, ge=0)
    """Money by the `price` beside it, which must be given then. What a server doesn't report counts as
    reserved: the prompt as estimated and the longest answer."""


class Summarization(Section):
    """How a history becomes a preference summary."""

    paradigm: Annotated[str, BeforeValidator(_paradigm, json_schema_input_type=str)] = "recurrent"
    """`recurrent`: each block updates the summary so far. `hierarchical`: each block alone, then the
    summaries together. `sections`: a profile in fixed sections (lasting tastes, lately, dislikes, brands and
    price), which each block edits. `none`: no summary. Your own: `package.module:function`. With the writer
    `table`, `recurrent` and `hierarchical` are the same: its text; there is nothing to edit."""
    block_size: int = Field(5, ge=1)
    """Items a block."""
    block_tokens: int | None = Field(None, ge=16)
    """When given, blocks are cut by this many tokens of item text in place of `block_size`."""
    fan_in: int = Field(5, ge=2)
    """Summaries that one combining call takes; more block summaries make more levels."""
    writer: Writer = KeyphraseWriter()
    """Who writes."""
    sampling: Sampling = Sampling()
    """How a language model draws its answer; the keyphrase writer draws nothing."""
    checks: tuple[Check, ...] = tuple(name for name in get_args(Check) if name not in ("grounding", "edits"))
    """What makes an answer useless: it is asked for once more, then its user counts as failed. `empty`, all
    `thoughts`, `filtered` by the provider and, of the paradigm `sections`, what are no `edits` are always
    checked; `cut` by the limit of tokens, `long` beyond it, a `refusal`, an `echo` of the prompt,
    `repetition`, another `language` than the prompt's, `no_summary` (code, a question, a single word).
    `grounding`, which is off unless named: a name that stands neither in the block nor in the summary before;
    where names can be told by capitals, so not in German."""
    price: Price = Price()
    """What a call costs."""
    limits: Limits = Limits()
    """When to stop paying; captions of images (`images`) are paid from the same."""
    store: str | None = None
    """URL of the store of model answers, such as `sqlite:///answers.db`; null: `answers.db` beside the run
    folders, so that runs share it."""

    @model_validator(mode="after")
    def _can_be_edited(self) -> Summarization:
        if self.paradigm == "sections" and isinstance(self.writer, TableWriter):
            message = (
                "paradigm: sections edits a profile, and the writer table has whole texts; set recurrent"
            )
            raise ValueError(message)
        return self


class Prompting(Section):
    """How prompts are worded and how long they may be."""

    domain: Domain = "generic"
    """What the items are; chooses the words of every prompt."""
    templates: Path | None = None
    """Folder of own templates; a template that is not in it is taken from the built-in ones."""
    recent_items: int = Field(5, ge=0)
    """Newest items that the ranking prompt shows."""
    item_fields: tuple[str, ...] = ()
    """Fields of an item that the ranking prompt shows, in this order. Empty: those of `items.fields`."""
    item_tokens: int | None = Field(None, ge=4)
    """Cap of an item's line in the ranking prompt, in the model's tokens. Null: `items.max_tokens`."""
    max_tokens: int = Field(1024, ge=64)
    """Longest ranking prompt. Oldest recent items go first, then the summary's end; never the candidate.
    No more than the model has positions, less one for the answer."""
    summary_tokens: int = Field(256, ge=8)
    """Cap of the summary inside the ranking prompt."""
    nearest_items: int = Field(0, ge=0)
    """Items of the whole history told beside each candidate: those whose words are most like its own, and
    how alike the first is, 0 to 9. No model is asked for them, and the user's part stays shared."""
    nearest_tokens: int = Field(8, ge=0)
    """Cap of each of these items' text; 0: only how alike the first is."""
    answers: tuple[str, str] = ("yes", "no")
    """The two answers; each must be one token of the model after the answer slot."""

    @model_validator(mode="after")
    def _two_answers(self) -> Prompting:
        if self.answers[0] == self.answers[1]:
            message = f"answers must differ, got {self.answers[0]!r} twice"
            raise ValueError(message)
        return self
