"""Parts by name: a built-in one by its short name, anybody's own as ``package.module:Class``.

A part is a class that brings its ``Settings``, a `trsr.config.section.Section`, and is made from them by
keywords. Its name may hold settings, as a call does: ``bm25(k1=1.5)``, ``my_shop.rankers:Ease(l2=9)``. In
that one form it stands in configurations, tables and fingerprints, however it was given.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from trsr.errors import ConfigError

BASELINES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "random": "trsr.baselines.simple:Random",
        "popularity": "trsr.baselines.simple:Popularity",
        "itemknn": "trsr.baselines.simple:ItemNeighbours",
        "tfidf": "trsr.baselines.text:TextSimilarity",
        "bm25": "trsr.baselines.text:Bm25",
        "embeddings": "trsr.baselines.text:Embeddings",
        "llmseqsim": "trsr.baselines.text:LLMSeqSim",
        "ncf": "trsr.baselines.neural.system:NCF",
        "din": "trsr.baselines.neural.system:DIN",
        "caser": "trsr.baselines.neural.system:Caser",
        "gru4rec": "trsr.baselines.neural.system:GRU4Rec",
        "sasrec": "trsr.baselines.neural.system:SASRec",
        "esasrec": "trsr.baselines.neural.system:ESASRec",
        "bert4rec": "trsr.baselines.neural.system:BERT4Rec",
        "sasrec_text": "trsr.baselines.neural.system:SASRecText",
        "llm2sasrec": "trsr.baselines.neural.system:LLM2SASRec",
        "llm2bert4rec": "trsr.baselines.neural.system:LLM2BERT4Rec",
        "llm2gru4rec": "trsr.baselines.neural.system:LLM2GRU4Rec",
        "ensemble": "trsr.baselines.hybrids:Ensemble",
        "popularity_switch": "trsr.baselines.hybrids:PopularitySwitch",
        "frequent_first": "trsr.baselines.hybrids:FrequentFirst",
        "mix": "trsr.baselines.hybrids:Mix",
    }
)
"""Systems without a language model; see `trsr.baselines.base.Baseline`."""

ENCODERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "lsa": "trsr.baselines.item_encoder:Lsa",
        "sentence": "trsr.baselines.pretrained_encoder:Sentence",
        "language_model": "trsr.baselines.pretrained_encoder:LanguageModelStates",
        "llm2rec": "trsr.baselines.pretrained_encoder:LLM2Rec",
        "file": "trsr.baselines.item_encoder:VectorFile",
    }
)
"""What turns items into vectors; see `trsr.baselines.item_encoder.ItemEncoder`."""

METRICS: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"trsr.evaluation.metrics:{name}" for name in ("Recall", "MRR", "NDCG", "AUC")}
)
"""What is measured; see `trsr.evaluation.metrics.Metric`."""

READERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "demo": "trsr.data.readers.demo:Demo",
        "mind": "trsr.data.readers.mind:Mind",
        "microlens": "trsr.data.readers.sequences:MicroLens",
        "movielens": "trsr.data.readers.movielens:MovieLens",
        "recbole": "trsr.data.readers.recbole:RecBole",
        "amazon_5core": "trsr.data.readers.amazon:Amazon5Core",
        "amazon_m2": "trsr.data.readers.amazon:AmazonM2",
        "amazon_reviews": "trsr.data.readers.amazon:AmazonReviews",
        "tables": "trsr.data.readers.tables:Tables",
        "sequences": "trsr.data.readers.sequences:Sequences",
    }
)
"""Formats of data, in the order in which they are recognised; see `trsr.data.dataset.Reader`."""


WRITERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "keyphrase": "trsr.summarize.keyphrase.writer:open_writer",
        "local": "trsr.summarize.llm_writer:open_local",
        "endpoint": "trsr.summarize.llm_writer:open_endpoint",
        "table": "trsr.summarize.writer:open_table",
    }
)
"""Who writes summaries; see `trsr.summarize.writer.open_writer`."""

CAPTIONERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "endpoint": "trsr.summarize.captions:open_endpoint",
        "local": "trsr.summarize.captions:open_local",
    }
)
"""Who describes images; see `trsr.summarize.captions.open_captioner`."""

PARADIGMS: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"trsr.summarize.paradigms:{name}" for name in ("recurrent", "hierarchical", "sections", "none")}
)
"""How blocks become one summary; see `trsr.summarize.paradigms.open_paradigm`."""

_BASES: Final = {
    "baseline": "trsr.baselines.base:Baseline",
    "encoder": "trsr.baselines.item_encoder:ItemEncoder",
    "metric": "trsr.evaluation.metrics:Metric",
    "data format": "trsr.data.dataset:Reader",
}
_LONGEST_PATH: Final = 120
_UNKNOWN: Final = "extra_forbidden"
"""What pydantic calls a setting that isn't declared."""


def is_dotted(name: str) -> bool:
    """Say whether a name leads to a class outside the package.

    Examples
    --------
    >>> is_dotted("bm25"), is_dotted("my_shop.rankers:Ease(l2=100)")
    (False, True)
    """
    return ":" in name.partition("(")[0]


def dotted(part: object) -> str:
    """Write how a class or a function is imported; a name stays as it is.

    Examples
    --------
    >>> dotted(Path), dotted("bm25")
    ('pathlib:Path', 'bm25')
    """
    return part if isinstance(part, str) else f"{part.__module__}:{getattr(part, '__qualname__', part)}"


def find_part(what: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Import the class, or the function, that a name without settings leads to.

    Parameters
    ----------
    what
        The kind of part, in words, such as ``baseline``; it stands in the errors.
    name
        A key of `built_in`, or ``package.module:Class`` of any importable module.
    built_in
        Short name to ``package.module:Class``.

    Raises
    ------
    ConfigError
        When there is no such built-in part, the module or the class can't be imported, or the class is not
        derived from what such a part is.

    Examples
    --------
    >>> find_part("mapping", "ordered", {"ordered": "collections:OrderedDict"}).__name__
    'OrderedDict'
    >>> find_part("mapping", "collections:Counter", {}).__name__
    'Counter'
    """
    if not is_dotted(name) and name not in built_in:
        names = ", ".join(built_in)
        message = f"there is no {what} {name!r}; take one of {names}, or your own as package.module:Class"
        raise ConfigError(message)
    module, _, attribute = built_in.get(name, name).partition(":")
    try:
        part = getattr(importlib.import_module(module), attribute)
    # An own module raises whatever its code raises.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        message = f"the {what} {name!r} can't be imported ({reason}); is its module on the Python path?"
        raise ConfigError(message) from error
    if is_dotted(name) and what in _BASES:
        home, _, base = _BASES[what].partition(":")
        if not (isinstance(part, type) and issubclass(part, getattr(importlib.import_module(home), base))):
            message = f"the {what} {name!r} must be a class derived from {home}.{base}"
            raise ConfigError(message)
    return part


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """Take a name apart, into its kind and the settings in it; raises ConfigError when it is none.

    Examples
    --------
    >>> parse("my_shop.rankers:Ease(l2=100)"), parse("bm25")
    (('my_shop.rankers:Ease', {'l2': 100}), ('bm25', {}))
    """
    kind, bracket, inside = name.partition("(")
    try:
        call = ast.parse(f"made({inside}" if bracket else "made()", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError(name)
        return kind, {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError) as error:
        message = f"{name!r} is not a name with settings such as package.module:Class(setting=1)"
        raise ConfigError(message) from error


def spell(what: str, part: object, built_in: Mapping[str, str]) -> str:
    """Write the one name of a part, whichever way it is given; see the module's text.

    Parameters
    ----------
    part
        A name; a mapping of ``kind`` and settings; a class; or an object with its ``settings``.

    Raises
    ------
    ConfigError
        When there is no such part, or its class has no such settings.

    Examples
    --------
    >>> spell("baseline", {"kind": "bm25", "k1": 1.5}, BASELINES)
    'bm25(k1=1.5)'
    >>> spell("baseline", {"kind": "bm25", "k1": 1.2}, BASELINES)  # the default
    'bm25'
    """
    if isinstance(part, str):
        kind, settings = parse(part.strip())
    elif isinstance(part, Mapping) and isinstance(part.get("kind"), str):
        kind, settings = part["kind"], {str(key): value for key, value in part.items() if key != "kind"}
    elif isinstance(part, type) or isinstance(getattr(part, "settings", None), BaseModel):
        path = dotted(part if isinstance(part, type) else type(part))
        kind = next((name for name, target in built_in.items() if target == path), path)
        settings = {} if isinstance(part, type) else part.settings.model_dump(mode="json")  # type: ignore[attr-defined]
    else:
        message = f"a {what} is a name, a class, an object with settings, or a mapping with `kind`"
        raise ConfigError(message)
    if kind in built_in and not settings:
        return kind  # a plain name is known without loading what it leads to
    given = settings_of(what, kind, settings, built_in).model_dump(mode="json", exclude_defaults=True)
    inside = ", ".join(f"{key}={value!r}" for key, value in given.items())
    return f"{kind}({inside})" if inside else kind


def settings_of(what: str, kind: str, settings: Mapping[str, Any], built_in: Mapping[str, str]) -> BaseModel:
    """Check settings by the part's own ``Settings``; raises ConfigError with each that is wrong."""
    declared: type[BaseModel] = find_part(what, kind, built_in).Settings
    try:
        return declared.model_validate(settings)
    except ValidationError as error:
        known = ", ".join(declared.model_fields) or "none"
        wrong = "; ".join(
            "".join(f"{name}: " for name in [".".join(map(str, each["loc"]))] if name)
            + (f"no such setting{_meant(each['loc'], declared)}" if each["type"] == _UNKNOWN else each["msg"])
            for each in error.errors()
        )
        message = f"the {what} {kind!r}: {wrong} (its settings: {known})"
        raise ConfigError(message) from error


def _meant(place: tuple[int | str, ...], declared: type[BaseModel]) -> str:
    near = get_close_matches(str(place[-1]), declared.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def make_part(what: str, name: str, built_in: Mapping[str, str], **further: Any) -> Any:
    """Make the object that a name with its settings stands for; `further` keywords go to its class, too."""
    kind, settings = parse(name)
    return find_part(what, kind, built_in)(**settings, **further)


def path_name(name: str) -> str:
    """Write a part's name so that it can name a folder; a plain one stays as it is.

    Examples
    --------
    >>> path_name("bm25"), path_name("my_shop.rankers:Ease(l2=100)")
    ('bm25', 'my_shop.rankers%3AEase%28l2%3D100%29')
    """
    written = quote(name, safe="")
    return (
        written
        if len(written) <= _LONGEST_PATH
        else f"{written[:80]}-{sha256(name.encode()).hexdigest()[:16]}"
    )


def identity(what: str, name: str, built_in: Mapping[str, str]) -> Any:
    """Say what a part's results depend on: its name, all its settings, and the file of an own one's class.

    Settings that name a file or a model say by a method ``content`` what is in it.
    """
    kind, settings = parse(name)
    checked = settings_of(what, kind, settings, built_in)
    content = getattr(checked, "content", None)
    depends = [kind, checked.model_dump(mode="json"), own_source(what, kind)]
    return [*depends, content()] if content is not None else depends


def own_source(what: str, name: str) -> str | None:
    """Hash the file in which an own part stands, or its text without a file; None for a built-in one."""
    if not is_dotted(name):
        return None
    part = find_part(what, name, {})
    try:
        text = Path(inspect.getsourcefile(part) or "").read_bytes()
    except (OSError, TypeError):
        text = repr(part).encode()
    return sha256(text).hexdigest()
