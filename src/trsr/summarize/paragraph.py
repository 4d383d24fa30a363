"""A model's answer as the text of a summary."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from trsr.prompts.untrusted import neutralise

# Words of which models make tags around what they think: <think>, [THINK], <seed:think>, ◁think▷.
_TAGS: Final = (
    "think|thinking|thinks|thought|thoughts|reason|reasoning|reasonings|reflect|reflection|analysis|rationale|"
    "scratchpad|scratch_pad|monologue|inner_monologue|deliberation|chain_of_thought|cot|antthinking|"
    "thought_process|reasoning_process|thinking_process|inner_thoughts"
)
_TAG: Final = rf"(?:\w+:)?(?:{_TAGS})"
_BRACKETED: Final = (
    "(?:THINK|THINKING|THOUGHT|THOUGHTS|REASONING)"  # in capitals: a "[Reflection]" is a title
)
_THOUGHTS: Final[Mapping[str, tuple[str, str]]] = {
    # No space after the bracket: so are marks written that somebody put into an item's text (`neutralise`).
    "tag": (
        rf"[<＜◁]{_TAG}(?:\s[^<>]*)?[>＞▷]|(?-i:\[{_BRACKETED}\])",
        rf"[<＜◁]/{_TAG}\s*[>＞▷]|(?-i:\[/{_BRACKETED}\])",
    ),
    "token": (
        r"<[|｜](?:begin[_▁]of[_▁](?:thought|think(?:ing)?)|start_(?:thinking|thought)|thinking_start|inner_prefix)[|｜]>",
        r"<[|｜](?:end[_▁]of[_▁](?:thought|think(?:ing)?)|end_(?:thinking|thought)|thinking_end|inner_suffix)[|｜]>",
    ),
    "harmony": (
        r"(?:<\|start\|>\w+)?<\|channel\|>\s*(?!final)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
        r"(?:<\|end\|>)?(?:<\|start\|>\w+)?<\|channel\|>\s*final[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>",
    ),
    # The same where a server leaves special tokens out: only the names of the channels are left.
    "harmony, bare": (r"\A\s*analysis(?=[A-Z][\s\S]*?assistantfinal)", r"assistantfinal"),
    "channel": (r"<\|channel>\s*(?:thought|analysis)\b", r"<channel\|>"),
    "sentence": (
        r"\A\s*here(?: is|['’]s) my (?:thought|thinking|reasoning) process:",
        r"here(?: is|['’]s) my (?:response|answer|summary):",
    ),
}
"""Family to how its thoughts begin and end, in whatever case; the one table of such marks."""

# Around the answer itself; the marks go, what is between them stays.
_ANSWER: Final = re.compile(
    r"</?(?:answer|final_answer|final|output|response|solution|summary)>"
    r"|<\|(?:begin|end)_of_(?:solution|answer)\|>|<\|(?:START|END)_(?:RESPONSE|TEXT)\|>"
    r"|<\|(?:end|return)\|>\s*\Z",
    re.IGNORECASE,
)
_MARK: Final = re.compile(
    "|".join(
        f"(?P<open{n}>{begin})|(?P<close{n}>{end})" for n, (begin, end) in enumerate(_THOUGHTS.values())
    ),
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"[<＜◁\[]/?([\w:]+)")
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
    text = _ANSWER.sub("", without_thoughts(answer))
    return neutralise(_LABEL.sub("", _MARKDOWN.sub("", text)))


def has_thoughts(answer: str) -> bool:
    """Say whether some of an answer is marked as thoughts."""
    return _MARK.search(answer) is not None


def without_thoughts(answer: str) -> str:
    """Take off what a model thought before, between or after its answer.

    Thoughts end with the next mark that fits the one they began with, else with the last
    closing mark; without one they were cut, and all that follows is thoughts. A closing
    mark alone ends thoughts that began in the prompt's template.

    Examples
    --------
    >>> without_thoughts("[THINK]Tea, pots.[/THINK]Likes tea.")
    'Likes tea.'
    >>> without_thoughts("They want tea.</think>Likes tea. <reflection>Good.</reflection>")
    'Likes tea. '
    >>> without_thoughts("<thinking>They want")
    ''
    """
    marks = [(match, *_read(match)) for match in _MARK.finditer(answer)]
    last_end = max((place for place, (_, closes, _) in enumerate(marks) if closes), default=-1)
    kept: list[str] = []
    position = number = 0
    while number < len(marks):
        mark, closes, name = marks[number]
        if closes:
            kept.clear()
        else:
            kept.append(answer[position : mark.start()])
            later = range(number + 1, len(marks))
            end = next((place for place in later if marks[place][1:] == (True, name)), last_end)
            if end <= number:
                return "".join(kept)
            number = end
        position = marks[number][0].end()
        number += 1
    return "".join([*kept, answer[position:]])


def _read(mark: re.Match[str]) -> tuple[bool, str]:
    """Say whether a mark closes, and which ones it fits: the same tag, or the same family."""
    group = str(mark.lastgroup)
    tag = _NAME.match(mark[0]) if group in ("open0", "close0") else None
    return group.startswith("close"), tag[1].lower() if tag else group.removeprefix("open").removeprefix(
        "close"
    )
