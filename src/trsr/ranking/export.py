"""A ranker as a folder that other tools load, checked there: merged weights, and prompts as pairs of texts.

Both forms read a prompt as a pair, the user's part and the candidate's: the tokenizer that is written makes
the ids of each on its own and joins them, as `RankingPrompt` does. Their score is the log-odds of yes.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from trsr.artifacts import write_text
from trsr.errors import ArtifactError, ModelError
from trsr.hf.adapters import has_adapter, merge_adapter
from trsr.hf.compression import ranks_of
from trsr.hf.loading import is_quantized, positions, without_bars
from trsr.ranking.ranker import COMPACT, Ranker
from trsr.ranking.scoring import RankingUser
from trsr.ranking.shared_prefix.layout import UserPrompts
from trsr.ranking.shared_prefix.strategy import Path as Way
from trsr.ranking.shared_prefix.strategy import candidate_logits
from trsr.records import Item, Tool

ModelTool = Literal[Tool.SENTENCE_TRANSFORMERS, Tool.SEQUENCE_CLASSIFICATION]
Pair = tuple[str, str]

TOLERANCE: Final = 1e-3
"""Largest difference of log-odds, of float32 on the CPU: p(yes) then differs by a quarter of it at most."""
_USERS: Final = 20
_CANDIDATES: Final = 5
_BATCH: Final = 8


def export_ranker(ranker: Ranker, items: Sequence[Item], to: ModelTool, out: Path) -> tuple[int, float]:
    """Write the ranker, on the CPU, for a tool, and compare what that tool's own loader makes of it.

    Returns the number of prompts that were compared, 100 of a catalogue that has as many, and the largest
    difference of log-odds. The weights of `ranker` are merged in place.

    Raises
    ------
    ArtifactError
        When `out` holds something.
    ModelError
        When the model can't be had in this form, or scores otherwise there by more than `TOLERANCE`; nothing
        is left in `out` then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        message = f"{out}: isn't an empty folder; name another with --out, or empty it"
        raise ArtifactError(message)
    if is_quantized(ranker.model):
        message = (
            "weights of 8 or 4 bits can't be merged; train with model.quantization: none, and export that"
        )
        raise ModelError(message)
    if ranks_of(ranker.model):
        message = "a compressed model's pairs of layers are known to TRSR alone; export the run's own model"
        raise ModelError(message)
    ranker.model = ranker.model.float().eval()
    pairs, expected = _expected(ranker, probes(ranker, items))
    trained = ranker.model
    model = merge_adapter(trained) if has_adapter(trained) else cast("PreTrainedModel", trained)
    if ranker.origin.kind == COMPACT:
        model = _as_llama(model)
    tokenizer = _pair_tokenizer(ranker)
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    unfinished.chmod(0o755)
    try:
        with without_bars(), torch.no_grad():
            if to is Tool.SENTENCE_TRANSFORMERS:
                _write_cross_encoder(ranker, model, tokenizer, unfinished)
                found = _ask_cross_encoder(unfinished, pairs)
            else:
                _write_classifier(ranker, model, tokenizer, unfinished)
                found = _ask_classifier(unfinished, pairs)
        difference = _require_parity(found, expected, to)
        write_text(_card(ranker, items, to, len(pairs), difference), unfinished / "README.md")
        if out.exists():
            out.rmdir()
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(pairs), difference


def probes(ranker: Ranker, items: Sequence[Item]) -> list[RankingUser]:
    """Draw up to 20 users with up to 5 candidates out of the catalogue; the first spell control tokens."""
    draw = np.random.default_rng(0)
    control = " ".join(ranker.tokenizer.all_special_tokens)
    made = []
    for number in range(_USERS):
        length = min(len(items), 1 + number % (ranker.prompt.prompting.recent_items + 2))
        history, liked, asked = (
            tuple(items[place] for place in draw.choice(len(items), min(len(items), count), replace=False))
            for count in (length, number % 4, _CANDIDATES)
        )
        summary = f"Likes {control} things." if number == 0 else _liking(liked)
        made.append(RankingUser(str(number), summary, history, asked))
    return made


def _liking(items: Sequence[Item]) -> str:
    texts = [" ".join(item.fields.values()) for item in items]
    return f"Likes {'; '.join(texts)}." if texts else ""


def _expected(ranker: Ranker, users: Sequence[RankingUser]) -> tuple[list[Pair], NDArray[np.float64]]:
    """Return the prompts as pairs of texts, and the log-odds that TRSR gives them."""
    pairs: list[Pair] = []
    prompts: list[UserPrompts] = []
    for user in users:
        prefix = ranker.prompt.prefix(user.summary, user.history)
        told = (ranker.prompt.suffix(item, user.history) for item in user.candidates)
        suffixes = {suffix.ids: suffix.text for suffix in told}
        pairs += [(prefix.text, text) for text in suffixes.values()]
        prompts.append(UserPrompts(prefix.ids, list(suffixes)))
    words = ranker.answers.yes, ranker.answers.no
    budget = 16384 if ranker.plan.path is Way.PLAIN else None
    with torch.no_grad():
        logits = candidate_logits(ranker.model, prompts, words, ranker.plan, budget=budget)
    return pairs, _numbers(logits[:, 0] - logits[:, 1])


def _numbers(scores: Tensor) -> NDArray[np.float64]:
    return scores.double().cpu().numpy().reshape(-1)


def _pair_tokenizer(ranker: Ranker) -> PreTrainedTokenizerFast:
    """Make a tokenizer that joins a pair's ids as the prompt does, and reads control tokens in it as text."""
    given: Any = ranker.tokenizer
    backend = Tokenizer.from_str(given.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    leading = [(str(given.convert_ids_to_tokens(number)), number) for number in ranker.prompt.leading]
    before = [token for token, _ in leading]
    backend.post_processor = TemplateProcessing(
        single=[*before, "$A"], pair=[*before, "$A", "$B"], special_tokens=leading
    )
    special = dict(given.special_tokens_map)
    special.setdefault("pad_token", special.get("eos_token") or str(given.convert_ids_to_tokens(0)))
    kind: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = kind(
        tokenizer_object=backend,
        **special,
        model_max_length=positions(ranker.model) or ranker.prompt.prompting.max_tokens,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )
    return made


def _as_llama(model: PreTrainedModel) -> PreTrainedModel:
    """Give the compact model, a Qwen2, the name of an architecture that leaves it its own tokenizer.

    To a Qwen2 transformers' `AutoTokenizer` gives the tokenizer of Qwen2, whatever the files say. A Llama
    with biases is the same network, but for one bias more, which is zero.
    """
    told = model.config.to_dict()
    names = (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "hidden_act", "rope_parameters"),
        *("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "initializer_range"),
    )
    llama: PreTrainedModel = LlamaForCausalLM(
        LlamaConfig(attention_bias=True, **{name: told[name] for name in names})
    )
    weights = llama.state_dict()
    more = {name: torch.zeros_like(weights[name]) for name in weights if name.endswith("o_proj.bias")}
    llama.load_state_dict(model.state_dict() | more)
    return llama


def _write_cross_encoder(
    ranker: Ranker, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    library = _sentence_transformers()
    base = _sentence_transformers(".base.modules.transformer")
    scores = _sentence_transformers(".cross_encoder.modules.logit_score")
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        model.save_pretrained(place)
        tokenizer.save_pretrained(place)
        causal = base.Transformer(place, transformer_task="text-generation")
        answers = scores.LogitScore(ranker.answers.yes, ranker.answers.no)
        made = library.CrossEncoder(modules=[causal, answers], device="cpu", activation_fn=torch.nn.Sigmoid())
        made.save_pretrained(str(folder), create_model_card=False)


def _ask_cross_encoder(folder: Path, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    loaded = _sentence_transformers().CrossEncoder(str(folder), device="cpu", local_files_only=True)
    scores = loaded.predict(
        list(pairs),
        batch_size=_BATCH,
        activation_fn=torch.nn.Identity(),
        convert_to_tensor=True,
        show_progress_bar=False,
    )
    return _numbers(scores)


def _sentence_transformers(part: str = "") -> Any:
    try:
        return importlib.import_module(f"sentence_transformers{part}")
    except ImportError as error:
        message = (
            "--to sentence-transformers needs sentence-transformers with LogitScore, as 6.2 has it: pip "
            "install --upgrade 'trsr[embeddings]'"
        )
        raise ModelError(message) from error


_OTHERWISE: Final = "export it --to sentence-transformers, which keeps the whole model"


def _write_classifier(
    ranker: Ranker, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> None:
    yes, no = ranker.answers.yes, ranker.answers.no
    causal: Any = model
    head = causal.get_output_embeddings()
    reason = ""
    if getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        reason = "its logits are capped, which no linear head does"
    elif getattr(head, "bias", None) is not None and head.bias[yes] != head.bias[no]:
        reason = "its head has a bias for each word, and the head of one label has none"
    if not reason:
        config = type(model.config).from_dict(model.config.to_dict() | {"architectures": None})
        config.num_labels = 1
        config.pad_token_id = tokenizer.pad_token_id
        try:
            loader: Any = AutoModelForSequenceClassification
            made = loader.from_config(config, dtype=torch.float32)
            made.base_model.load_state_dict(model.base_model.state_dict())
            made.score.weight.copy_((head.weight[yes] - head.weight[no])[None])
        except (ValueError, AttributeError, RuntimeError) as error:
            reason = f"transformers has no head of one label for it ({str(error).splitlines()[0][:200]})"
    if reason:
        message = f"{type(model).__name__} can't be a model with one label: {reason}; {_OTHERWISE}"
        raise ModelError(message)
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _ask_classifier(folder: Path, pairs: Sequence[Pair]) -> NDArray[np.float64]:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()
    scores = []
    for start in range(0, len(pairs), _BATCH):
        prefixes, suffixes = zip(*pairs[start : start + _BATCH], strict=True)
        batch = tokenizer(list(prefixes), list(suffixes), padding=True, return_tensors="pt")
        scores.append(model(**batch).logits)
    return _numbers(torch.cat(scores))


def _require_parity(found: NDArray[np.float64], expected: NDArray[np.float64], to: ModelTool) -> float:
    differences = np.abs(found - expected)
    worst = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
    if differences[worst] <= TOLERANCE:
        return float(differences[worst])
    other = _OTHERWISE if to is Tool.SEQUENCE_CLASSIFICATION else "serve it with `trsr serve`"
    apart = int((~(differences <= TOLERANCE)).sum())
    message = (
        f"--to {to}: {apart} of {len(found)} prompts score otherwise there by "
        f"more than {TOLERANCE:g}: log-odds {found[worst]:.4f} for {expected[worst]:.4f}; nothing was "
        f"written: {other}"
    )
    raise ModelError(message)


def _card(ranker: Ranker, items: Sequence[Item], to: ModelTool, prompts: int, difference: float) -> str:
    """Say how pairs are given, by items of the catalogue."""
    prompt = ranker.prompt
    query, nobody = prompt.prefix("{summary}", items[:2]).text, prompt.prefix("", ()).text
    document = prompt.suffix(items[-1], items[:2]).text
    score = (
        "`CrossEncoder(FOLDER).predict(pairs)` gives p(yes)"
        if to is Tool.SENTENCE_TRANSFORMERS
        else "the one logit is the log-odds of yes; its sigmoid is p(yes)"
    )
    return f"""# A ranker made with TRSR

Made from {ranker.origin.identity}; licence: {ranker.origin.licence or "not stated"}. {score}.
{prompts} prompts scored here as in TRSR: their log-odds differ by {difference:.1e} at most (float32, CPU).

A prompt is a pair of texts, whose ids are made apart and joined: give the first as query, the second as
document, with every line break. Both together may have {prompt.prompting.max_tokens} tokens, an item's line
{prompt.item_tokens}; cut longer ones yourself, or let TRSR make the texts: a tool that cuts may cut the end,
where the answer is read.

Query, with a summary in the place of `{{summary}}` and at most {prompt.prompting.recent_items} recent items,
oldest first (here two of the catalogue); it ends with a line break:

```text
{query}```

Query of somebody of whom nothing is known:

```text
{nobody}```

Document (here an item of the catalogue); no line break at its end:

```text
{document}
```

In Python, with `trsr` and the bundle, the same texts:

```python
from pathlib import Path

from trsr.bundle import Bundle

prompt = Bundle(Path("BUNDLE")).ranker().prompt
query = prompt.prefix(summary, history).text
document = prompt.suffix(candidate, history).text
```
"""
