"""The form of every section of the configuration."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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


def require_each_once(section: Section, *names: str) -> None:
    """Raise ValueError, naming the list and what stands in it, when a list names something twice."""
    for name in names:
        values = getattr(section, name)
        if len(set(values)) < len(values):
            message = f"{name} must name each once, got {', '.join(map(str, values))}"
            raise ValueError(message)
