"""A model's answer as the text of a summary."""

from __future__ import annotations

import re
from typing import Final

from trsr.prompts.untrusted import neutralise

# What models that think aloud write before the answer.
_THOUGHTS: Final = re.compile(r"\A.*</think>|<think>.*", re.DOTALL)
# Marks of headings, lists, quotes and bold type at the answer's lines.
_MARKDOWN: Final = re.compile(r"^\s*(?:#{1,6}\s+|[-*•>]\s+)+|\*\*", re.MULTILINE)
_LABEL: Final = re.compile(r"\A\s*(?:\w+ ){0,2}summary:\s*", re.IGNORECASE)


def to_paragraph(answer: str) -> str:
    r"""Reduce a model's answer to one neutral paragraph: no thoughts, label, list marks or line breaks.

    Examples
    --------
    >>> to_paragraph("<think>Hm.</think>\n**Updated summary:**\n- Likes **tea**.\n- Buys often.")
    'Likes tea. Buys often.'
    """
    return neutralise(_LABEL.sub("", _MARKDOWN.sub("", _THOUGHTS.sub("", answer))))
