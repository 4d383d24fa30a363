"""Whether an answer is a usable summary; pure functions of the answer and what was asked.

===========  ==========================================================================
check        an answer fails it when
===========  ==========================================================================
empty        nothing is left of it but labels and marks
thoughts     nothing is left of it but thoughts
filtered     the server's content filter kept it back
no_summary   it is a single word, code or markup, or it ends in a question
refusal      it begins with the model speaking of itself: sorry, unable, as an AI
repetition   below half of its runs of three words are distinct, or it compresses to
             less than a quarter
echo         half of its runs of six words stand in the prompt; a summary that was shown
             may be kept word by word
language     it is in another script than the instruction, or its function words are
             those of another language
cut          the limit of tokens ended it
long         the server went over the limit, or the text is half as long again
===========  ==========================================================================
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from trsr.config.summary import Check
from trsr.models.generation import Completion
from trsr.prompts.tokens import ApproximateTokens
from trsr.prompts.words import LETTER, spaced
from trsr.summarize.paragraph import has_thoughts

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
        "English": "the of and to in is for with that this on as are be by from their they has have not it",
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
    """What is wrong with an answer.

    Parameters
    ----------
    check
        The check that it fails.
    fault
        The fault, as it follows "the answer".
    remedy
        The sentence that asks the model for something better.
    hint
        What a person can do about it, where that isn't plain; empty otherwise.
    """

    check: Check
    fault: str
    remedy: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an answer is held against.

    Parameters
    ----------
    instruction
        The prompt's own words, without anything that was filled in.
    shown
        All that was shown and is not to be repeated: the prompt without the summaries in it.
    max_tokens
        Longest answer.
    """

    instruction: str
    shown: str
    max_tokens: int


def judge(text: str, completion: Completion, asked: Asked, checks: Collection[Check]) -> Verdict | None:
    """Say what is wrong with an answer, or return None when it is a usable summary.

    Parameters
    ----------
    text
        The answer as one paragraph, without thoughts and marks.
    completion
        The answer as it came.
    asked
        What it answers.
    checks
        The checks to make; `empty`, `thoughts` and `filtered` are always made.

    Examples
    --------
    >>> asked = Asked("Write a summary of this shopper.", "1. title: Tea pot", max_tokens=50)
    >>> judge("Likes tea.", Completion("Likes tea.", 20, 3, "stop"), asked, ("cut",)) is None
    True
    >>> judge("Likes tea and", Completion("Likes tea and", 20, 50, "length"), asked, ("cut",)).check
    'cut'
    """
    if completion.finish_reason == "content_filter":
        return _VERDICTS["filtered"]
    if not text:
        return _VERDICTS["thoughts" if has_thoughts(completion.text) else "empty"]
    found = (check for check, fails in _CHECKS.items() if check in checks and fails(text, completion, asked))
    check = next(found, None)
    return None if check is None else _VERDICTS[check]


def _is_cut(text: str, completion: Completion, asked: Asked) -> bool:
    return completion.finish_reason == "length"


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
        Verdict("cut", "was cut at the limit of tokens", "Be much shorter and finish the last sentence."),
        Verdict("long", "was too long", "Be much shorter."),
    )
}
