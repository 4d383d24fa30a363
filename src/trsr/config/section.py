"""The form of every section of the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from trsr.errors import ConfigError
from trsr.registry import BASELINES, spell


class Section(BaseModel):
    """A frozen, typed group of settings that refuses unknown keys.

    The text under each field is its documentation; help, the JSON schema and the
    configuration page are made from it.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )


@contextmanager
def checking() -> Iterator[None]:
    """Let what a part's name or settings are refused for be told as a wrong setting."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from error


def named_by(what: str, built_in: Mapping[str, str]) -> Callable[[object], str]:
    """Make the check of a field that names such parts, which returns the one name; see `spell`."""

    def check(part: object) -> str:
        with checking():
            return spell(what, part, built_in)

    return check


BaselineName = Annotated[
    str,
    BeforeValidator(named_by("baseline", BASELINES), json_schema_input_type=str | dict[str, Any]),
]
"""A system without a language model, by its name: a built-in one, or `package.module:Class`. With settings,
`{kind: package.module:Class, l2: 100}` and `package.module:Class(l2=100)` are the same."""


def require_each_once(section: Section, *names: str) -> None:
    """Raise ValueError, naming the list and what stands in it, when a list names something twice."""
    for name in names:
        values = getattr(section, name)
        if any(values.count(value) > 1 for value in values):
            message = f"{name} must name each once, got {', '.join(map(str, values))}"
            raise ValueError(message)
