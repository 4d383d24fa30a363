"""A model's answer as the text of a summary, and whether it is of any use."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from trsr.config.summary import Check
from trsr.errors import WriterError
from trsr.llm.generator import Completion
from trsr.prompts.item_text import ApproximateTokens, neutralise
from trsr.prompts.words import LETTER, spaced

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


def bare_lines(answer: str) -> list[str]:
    r"""Return the lines of an answer that holds one thing a line: no thoughts, list marks or fences.

    Examples
    --------
    >>> bare_lines("<think>Hm.</think>\n```text\n- **KEEP**\n\n```")
    ['KEEP']
    """
    lines = _MARKDOWN.sub("", _ANSWER.sub("", without_thoughts(answer))).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("```")]


_ENDS, _CLOSING = ".!?…。！？।۔", "\"'”’)]」』）"
# After an abbreviation, an initial or a number that was cut no sentence ends.
_SENTENCE: Final = re.compile(
    r"""[\s\S]*(?:(?<!\b\w)(?<!\b(?:Dr|Mr|Ms|St|vs|No|ca))[.!?…]+["'”’)\]]*(?=\s|(?<!\d\.)\Z)"""
    r"|[。！？।۔]+[”」』）]*)"
)


def first_line(completion: Completion) -> Completion:
    """Take an answer's first line: what a server that didn't stop there went on with is no answer."""
    line, line_end, _ = completion.text.strip().partition("\n")
    return replace(completion, text=line, finish_reason="stop") if line_end else completion


def read_answer(completion: Completion, *, is_line: bool = False) -> str:
    """Reduce an answer to one paragraph; of one that the limit cut, to its whole sentences where it has any.

    Where it `is_line` it is a single sentence, which may be cut at a comma. What has no sign at its end has
    nothing whole.

    Examples
    --------
    >>> read_answer(Completion("Likes tea. Buys pots, and", 20, 9, "length"))
    'Likes tea.'
    >>> read_answer(Completion("Likes tea, green tea, green tea, green", 20, 9, "length"), is_line=True)
    'Likes tea, green tea.'
    """
    paragraph = to_paragraph(completion.text)
    if completion.finish_reason != "length":
        return paragraph
    if (whole := _SENTENCE.match(paragraph)) is not None:
        return whole[0]
    return _whole_parts(paragraph) if is_line else paragraph.rstrip(_ENDS)


def _whole_parts(line: str) -> str:
    """Take the parts of a line between commas but for the last one, which was cut; each once, for loops."""
    first, *others = re.split(r"[,;] ", line)
    parts = dict.fromkeys([first, *others[:-1]])
    return f"{', '.join(parts)}." if others else line.rstrip(_ENDS)


def has_thoughts(answer: str) -> bool:
    """Say whether some of an answer is marked as thoughts."""
    return _MARK.search(answer) is not None


def without_thoughts(answer: str) -> str:
    """Take off what a model thought before, between or after its answer.

    Thoughts end with the next mark that fits the one they began with, else with the last closing mark;
    without one they were cut, and all that follows is thoughts. A closing mark alone ends thoughts that began
    in the prompt's template.

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


_WORD: Final = re.compile(rf"{LETTER}+(?:['’]{LETTER}+)*")
_REFUSAL: Final = re.compile(
    r"\W*(?:(?:sorry|unfortunately|apologies|i apologi[sz]e)\b"
    r"|as an? (?:ai|artificial|(?:large )?language model)\b"
    r"|(?:i|we)(?: am|'m| are|'re)? (?:\w+ )?(?:sorry|unable|not able|cannot|can't|can not|could not|couldn't"
    r"|won't|don't have|do not have)\b"
    r"|please (?:provide|share|give me)\b)",
    re.IGNORECASE,
)
_MARKUP: Final = re.compile(r"```|\A\s*(?:[{\[]|<[a-z/!?])", re.IGNORECASE)
_FUNCTION_WORDS: Final[Mapping[str, frozenset[str]]] = {
    language: frozenset(words.split())
    for language, words in {
        "English": "the a an of and to in is for with that this on as are by from their they has have not it",
        "German": "der die das und ist zu den von mit für auf eine ein nicht sich auch dem des im als wie",
        "French": "le la les de des et est un une du pour dans que qui avec sur par plus pas ce elle ses aux",
        "Spanish": "el la los las de y en que un una por con para es se del su al lo como más sus le o pero",
        "Italian": "il la di e che un una per con del è si della in i da al le sono gli nel suo come anche",
        "Portuguese": "o a os as de e que do da em um uma para com não por mais dos se na no ao seu sua como",
        "Dutch": "de het een en van is te dat die in op voor met niet zijn aan ook er maar om bij naar deze",
    }.items()
}
_FEW_WORDS: Final = 12
_LANGUAGE_SHARE: Final = 0.15
_ECHO_RUN, _ECHO_SHARE = 6, 0.5
_REPEATED_RUN, _DISTINCT_SHARE, _REPEATED_WORDS = 3, 0.5, 20
_COMPRESSED_SHARE, _COMPRESSED_BYTES = 0.25, 120
_OVER: Final = 1.5


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with an answer: the check that it fails, and what to say about it.

    `fault` is worded to follow "the answer", `remedy` asks the model for something better, and `hint` says
    what a person can do about it, where that isn't plain.
    """

    check: Check
    fault: str
    remedy: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is held against.

    `instruction` is the prompt's own words, without anything that was filled in; `shown` all that is not to
    be repeated, the prompt without its summaries; `told` all that is known of the user, the items' texts and
    the summaries before.
    """

    instruction: str
    shown: str
    max_tokens: int
    told: str = ""


def judge(text: str, completion: Completion, asked: Asked, checks: Collection[Check]) -> Verdict | None:
    """Say what is wrong with an answer, or return None when it is a usable summary.

    `text` is the answer as one paragraph, without thoughts and marks. `empty`, `thoughts` and `filtered` are
    checked whatever `checks` says.

    Examples
    --------
    >>> asked = Asked("Write a summary of this shopper.", "1. title: Tea pot", max_tokens=50)
    >>> judge("Likes tea.", Completion("Likes tea.", 20, 3, "stop"), asked, ("cut",)) is None
    True
    >>> judge("Likes tea and", Completion("Likes tea and", 20, 50, "length"), asked, ("cut",)).check
    'cut'
    >>> judge("Likes tea.", Completion("Likes tea. Buys", 20, 50, "length"), asked, ("cut",)) is None
    True
    """
    if completion.finish_reason == "content_filter":
        return _VERDICTS["filtered"]
    if not text:
        return _VERDICTS["thoughts" if has_thoughts(completion.text) else "empty"]
    found = (check for check, fails in _CHECKS.items() if check in checks and fails(text, completion, asked))
    check = next(found, None)
    return None if check is None else _VERDICTS[check]


def _is_cut(text: str, completion: Completion, asked: Asked) -> bool:
    return completion.finish_reason == "length" and not text.endswith(tuple(_ENDS + _CLOSING))


def _is_long(text: str, completion: Completion, asked: Asked) -> bool:
    tokens = ApproximateTokens().count(text)
    return (completion.completion_tokens or 0) > asked.max_tokens or tokens > _OVER * asked.max_tokens


def _is_refusal(text: str, completion: Completion, asked: Asked) -> bool:
    return _REFUSAL.match(text.replace("’", "'")) is not None


def _is_no_summary(text: str, completion: Completion, asked: Asked) -> bool:
    return bool(_MARKUP.search(text)) or text.endswith(("?", "？")) or len(_words(text)) < 2


def _is_repetition(text: str, completion: Completion, asked: Asked) -> bool:
    words = _words(text)
    runs = _runs(words, _REPEATED_RUN)
    if len(words) >= _REPEATED_WORDS and len(set(runs)) < _DISTINCT_SHARE * len(runs):
        return True
    written = text.encode()
    return len(written) >= _COMPRESSED_BYTES and len(zlib.compress(written)) < _COMPRESSED_SHARE * len(
        written
    )


def _is_echo(text: str, completion: Completion, asked: Asked) -> bool:
    words = _words(text)
    if len(words) < _FEW_WORDS:
        return False
    shown = set(_runs(_words(asked.shown), _ECHO_RUN))
    runs = _runs(words, _ECHO_RUN)
    return sum(run in shown for run in runs) >= _ECHO_SHARE * len(runs)


def _is_foreign(text: str, completion: Completion, asked: Asked) -> bool:
    scripts = Counter(_script(letter) for letter in asked.instruction if letter.isalpha())
    letters = [letter for letter in text if letter.isalpha()]
    if scripts and letters:
        wanted = {script for script, count in scripts.items() if 10 * count >= scripts.total()}
        if 2 * sum(_script(letter) in wanted for letter in letters) < len(letters):
            return True
    wanted_language, language = _language(asked.instruction), _language(text)
    return bool(wanted_language and language and language != wanted_language)


def _is_ungrounded(text: str, completion: Completion, asked: Asked) -> bool:
    return bool(unknown_names(text, asked.told)) and _language(asked.instruction) != "German"


def unknown_names(text: str, told: str) -> list[str]:
    """Return the names in a summary that stand nowhere in what is known of the user.

    A name is a word with a capital letter that begins no sentence, or one with a capital or a digit inside.
    So the scripts with capitals can be looked at (Latin, Greek, Cyrillic, Armenian), the others have none.

    Examples
    --------
    >>> unknown_names("Likes Uji tea and Dexter tools, in Dexter's colours.", "title: Green tea; brand: UJI")
    ['Dexter', 'Dexter']
    """
    known = [word.casefold() for word in _WORD.findall(told)]
    known_words = {*known, *("".join(pair) for pair in pairwise(known))}
    begins = {match.end() for match in _BEGIN.finditer(text)}
    found = []
    for match in _WORD.finditer(text):
        word = re.sub(r"['’]s$", "", match[0])
        inner = any(letter.isupper() for letter in word[1:]) or (
            any(map(str.isdigit, word)) and not word.isdigit()
        )
        is_name = inner or (word[0].isupper() and len(word) > 1 and match.start() not in begins)
        if is_name and not _stems(word.casefold()) & known_words:
            found.append(word)
    return found


_BEGIN: Final = re.compile(r"\A\W*|[.!?…]\W+")


def _stems(word: str) -> set[str]:
    """Return a word, what it may be the plural of, and its plural."""
    return {word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s"}


def _language(text: str) -> str:
    """Name the language whose function words are most of the text's; empty when it isn't clear."""
    words = _words(text)
    if len(words) < _FEW_WORDS:
        return ""
    counts = {name: sum(word in known for word in words) for name, known in _FUNCTION_WORDS.items()}
    first, second = sorted(counts, key=lambda name: -counts[name])[:2]
    clear = counts[first] >= _LANGUAGE_SHARE * len(words) and counts[first] > counts[second]
    return first if clear else ""


def _script(letter: str) -> str:
    return "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(spaced(text))]


def _runs(words: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(words[start : start + length]) for start in range(len(words) - length + 1)]


_CHECKS: Final[Mapping[Check, Callable[[str, Completion, Asked], bool]]] = {
    "no_summary": _is_no_summary,
    "refusal": _is_refusal,
    "repetition": _is_repetition,
    "echo": _is_echo,
    "language": _is_foreign,
    "cut": _is_cut,
    "long": _is_long,
    "grounding": _is_ungrounded,
}
_VERDICTS: Final[Mapping[Check, Verdict]] = {
    verdict.check: verdict
    for verdict in (
        Verdict("empty", "had no text", "Write the summary itself."),
        Verdict(
            "thoughts",
            "was all thoughts, which were not ended",
            "Write the summary itself at once, without thoughts before it.",
            "raise summary.sampling.max_new_tokens so that thoughts and answer have room, or turn thinking "
            "off by summary.writer.request.extra: {chat_template_kwargs: {enable_thinking: false}} where "
            "vLLM or SGLang serves the model, {reasoning_effort: low} or the like at a provider",
        ),
        Verdict(
            "filtered",
            "was kept back by the server's content filter",
            "Describe only plain interests in goods or topics.",
            "see the provider's rules for its filter, or use another model for these users",
        ),
        Verdict("no_summary", "was no summary", "Write whole sentences: no code, no question."),
        Verdict(
            "refusal", "was a refusal", "Describe only what the given text shows; nothing else is asked."
        ),
        Verdict("repetition", "repeated itself", "Say everything once."),
        Verdict("echo", "repeated the prompt", "Use your own words and do not copy the text above."),
        Verdict("language", "was in another language", "Write in the language of these instructions."),
        Verdict(
            "cut",
            "was cut at the limit of tokens",
            "Be much shorter and finish the last sentence.",
            "raise summary.sampling.max_new_tokens",
        ),
        Verdict("long", "was too long", "Be much shorter."),
        Verdict(
            "grounding",
            "named what stands nowhere in the text",
            "Name no brand, person or place that does not stand in the given text.",
        ),
    )
}


_FEWEST, _MOST, _NEARLY_ALL = 10, 20, 0.9


class FirstAnswers:
    """Looks whether nearly all first answers of a run fail the same check: then the others will, too.

    After ten answers all of them must have failed, from then on up to the twentieth nine in ten. A run that
    goes on where such a one was stopped finds the answers in the store, and stops before anything is paid.

    Examples
    --------
    >>> first = FirstAnswers()
    >>> for _ in range(9):
    ...     first.note(_VERDICTS["cut"], "They are a loyal customer who")
    >>> first.is_awaited
    True
    """

    def __init__(self) -> None:
        self._count = 0
        self._failed: Counter[Check] = Counter()

    @property
    def is_awaited(self) -> bool:
        """Whether so few were judged that nothing can be said yet."""
        return self._count < _FEWEST

    def note(self, verdict: Verdict | None, answer: str) -> None:
        """Count a first answer; raises WriterError, with this one shown, when the run is better stopped."""
        self._count += 1
        if verdict is None or self._count > _MOST:
            return
        self._failed[verdict.check] += 1
        failed = self._failed[verdict.check]
        if self.is_awaited or failed < _NEARLY_ALL * self._count or (failed < self._count < _MOST):
            return
        hint = f"{verdict.hint}, " if verdict.hint else ""
        shown = answer if len(answer) <= _SHOWN else f"{answer[:_SHOWN]} ..."
        message = (
            f"{failed} of the first {self._count} answers fail the check {verdict.check!r}: an answer "
            f"{verdict.fault}, such as {shown!r}. Nothing more was paid for, and what was is stored: "
            f"{hint}set summary.writer.style to the other one of chat and examples, take another model, or "
            f"leave {verdict.check!r} out of summary.checks, and run again"
        )
        raise WriterError(message)


_SHOWN: Final = 200
