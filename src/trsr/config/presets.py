"""Named starting points of a configuration: the demo shop, and the authors' settings of each method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MINILM: Final = {"encoder": {"kind": "sentence", "model": "minilm"}}
_LLMSEQSIM: Final = {"kind": "llmseqsim", **_MINILM, "decay": "harmonic", "similarity": "cosine"}
_LIKE_THEIRS: Final = {"max_length": 20, "negatives": 0, "average": 0.0, "max_epochs": 100, "patience": 2}
_BERT4REC: Final = {
    **_LIKE_THEIRS,
    "width": 448,
    "heads": 1,
    "dropout": 0.45,
    "mask_share": 0.65,
    "learning_rate": 1.2e-3,
    "weight_decay": 0.0235,
    "batch_size": 224,
}
_SASREC: Final = {**_LIKE_THEIRS, "width": 448, "heads": 1, "learning_rate": 1e-4}
_LLM2SASREC: Final = {"kind": "llm2sasrec", **_MINILM, **_SASREC}
_LLM2REC: Final = {
    "kind": "llm2rec",
    "model": "Qwen/Qwen2-0.5B",
    "max_tokens": 512,
    "csft": {
        "steps": 10_000,
        "batch_size": 4,
        "accumulation": 32,
        "learning_rate": 3e-4,
        "warmup": 200,
        "items": 10,
    },
    "mntp": {"steps": 1000, "batch_size": 32, "learning_rate": 5e-5, "masked": 0.2},
    "simcse": {
        "steps": 1000,
        "batch_size": 256,
        "learning_rate": 2e-4,
        "warmup": 300,
        "dropout": 0.2,
        "temperature": 0.1,
    },
}
_ON_LLM2REC: Final = {
    "width": 128,
    "layers": 2,
    "max_length": 10,
    "dropout": 0.3,
    "negatives": 0,
    "average": 0.0,
    "weight_decay": 1e-4,
    "batch_size": 256,
    "max_epochs": 1000,
    "patience": 20,
}
_ON_SASREC: Final = {**_ON_LLM2REC, "learning_rate": 1e-3}
_ON_GRU4REC: Final = {**_ON_LLM2REC, "learning_rate": 1e-4}
_FROZEN: Final = {"encoder": _LLM2REC, "reducer": "none", "adapter": "linear", "offset_scale": 0}

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "demo": {
        "name": "demo",
        "data": {"format": "demo"},
        "split": {"by": "time", "test": 0.15},
        "model": {"kind": "compact", "vocabulary": 2048, "hidden": 64, "pretrain_questions": 4000},
        "prompt": {"domain": "shopping", "item_fields": ["category", "title"], "item_tokens": 8},
        "training": {
            "method": "full",
            "loss": "listwise",
            "negatives": 20,
            "batch_size": 168,
            "learning_rate": 5e-4,
            "epochs": 2,
        },
    },
    "paper": {
        "history": {"min": 11, "max": 26},
        "candidates": {"negatives": 20, "sampler": "uniform"},
        "summary": {"block_size": 5, "sampling": {"max_new_tokens": 150}},
        "prompt": {"recent_items": 5, "max_tokens": 2048},
        "model": {"kind": "huggingface", "path": "meta-llama/Llama-2-7b-hf"},
        "training": {
            "method": "lora",
            "lora": {"rank": 8, "alpha": 16, "dropout": 0.05},
            "negatives": 1,
            "epochs": 5,
            "learning_rate": 1e-4,
            "betas": [0.9, 0.95],
            "weight_decay": 5e-4,
            "batch_size": 8,
            "accumulation": 8,
        },
    },
    "mllm_msr": {
        "images": {
            "captioner": {"kind": "local", "model": "llava-hf/llava-v1.6-mistral-7b-hf"},
            "sampling": {"max_new_tokens": 200},
        },
        "items": {"max_tokens": 256},
        "candidates": {"negatives": 20, "sampler": "uniform"},
        "history": {"min": 6, "max": 11},
        "summary": {
            "paradigm": "recurrent",
            "block_size": 3,
            "writer": {"kind": "local", "model": "meta-llama/Meta-Llama-3-8B-Instruct"},
            "sampling": {"max_new_tokens": 1024, "temperature": 0.6, "top_p": 0.9},
        },
        "prompt": {"recent_items": 0, "max_tokens": 1024, "summary_tokens": 512},
        "model": {"kind": "huggingface", "path": "mistralai/Mistral-7B-Instruct-v0.2"},
        "training": {
            "method": "lora",
            "lora": {"rank": 16, "alpha": 32, "dropout": 0.1},
            "negatives": 1,
            "epochs": 4,
            "learning_rate": 2e-5,
            "batch_size": 1,
            "accumulation": 24,
        },
        "comparison": {"language_models": ["mllm_msr", "recurrent"]},
    },
    "llm_sequential": {
        "training": {"sampler": "retrieved", "retriever": _LLMSEQSIM, "loss": "listwise", "negatives": 20},
        "comparison": {
            "baselines": [
                "popularity",
                _LLMSEQSIM,
                {"kind": "sasrec", **_SASREC},
                _LLM2SASREC,
                {"kind": "bert4rec", **_BERT4REC},
                {"kind": "llm2bert4rec", **_MINILM, **_BERT4REC},
                {"kind": "llm2bert4rec", **_MINILM, **_BERT4REC, "permuted": True},
                {"kind": "popularity_switch", "first": _LLMSEQSIM, "second": _LLM2SASREC},
                {"kind": "ensemble", "first": _LLMSEQSIM, "second": _LLM2SASREC},
                {"kind": "frequent_first", "first": _LLMSEQSIM},
            ],
            "language_models": ["llmseqprompt"],
            "retriever": _LLMSEQSIM,
            "retrieve": 20,
            "fused": False,
        },
    },
    "llm2rec": {
        "comparison": {
            "baselines": [
                "popularity",
                {"kind": "sasrec", **_ON_SASREC},
                {"kind": "llm2sasrec", **_FROZEN, **_ON_SASREC},
                {"kind": "llm2sasrec", **_FROZEN, **_ON_SASREC, "permuted": True},
                {"kind": "llm2sasrec", **_FROZEN, **_MINILM, **_ON_SASREC},
                {"kind": "gru4rec", **_ON_GRU4REC},
                {"kind": "llm2gru4rec", **_FROZEN, **_ON_GRU4REC},
            ],
            "language_models": [],
            "fused": False,
        },
    },
}
"""Named starting points; a file's own values go over them."""
