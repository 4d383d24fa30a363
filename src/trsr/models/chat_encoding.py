"""A chat as token ids: the chat template's own words with control tokens, everybody else's without."""

from __future__ import annotations

from typing import Final

import jinja2
from transformers import PreTrainedTokenizerBase

from trsr.errors import ModelError
from trsr.models.generation import Chat
from trsr.models.tokenization import PlainEncoder, leading_ids

# Stand where the messages go while the template is rendered; letters only, so that no template changes them.
_SYSTEM_MARK: Final = "TrsrSystemMessage"
_USER_MARK: Final = "TrsrUserMessage"

_Layout = tuple[tuple[int, ...] | str, ...]


class ChatEncoder:
    """Encodes chats for one model.

    With a chat template: the template is rendered once around two marks and cut at
    them; its pieces are encoded with control tokens, the messages without. Hence
    no message can end its turn or begin another's. A template that has no system
    role (it refuses or drops the message) gets the system text on top of the
    user's. Without a chat template: both texts as plain text after the tokenizer's
    beginning-of-sequence token. Templates that can think aloud are told not to.

    Parameters
    ----------
    tokenizer
        A fast tokenizer.

    Raises
    ------
    ModelError
        When the tokenizer is not a fast one, or its chat template does not show the
        user's message exactly once.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._plain = PlainEncoder(tokenizer)
        self._with_system = self._layout(system=True)
        self._without_system = self._layout(system=False)

    def __call__(self, chat: Chat) -> list[int]:
        """Return the prompt's token ids, up to where the model's answer begins."""
        layout = self._with_system if chat.system else self._without_system
        texts = {_SYSTEM_MARK: chat.system.strip(), _USER_MARK: chat.user.strip()}
        if _SYSTEM_MARK not in layout and chat.system:
            texts[_USER_MARK] = f"{chat.system.strip()}\n\n{chat.user.strip()}"
        if not self._tokenizer.chat_template:
            texts[_USER_MARK] += "\n"
        ids: list[int] = []
        for piece in layout:
            ids.extend(self._plain([texts[piece]])[0] if isinstance(piece, str) else piece)
        return ids

    def _layout(self, *, system: bool) -> _Layout:
        if not self._tokenizer.chat_template:
            return (leading_ids(self._tokenizer), _USER_MARK)
        rendered = self._render(system=system)
        marks = [mark for mark in (_SYSTEM_MARK, _USER_MARK) if rendered.count(mark) == 1]
        if _USER_MARK not in marks:
            message = (
                f"the chat template of {self._tokenizer.name_or_path!r} shows the user's message "
                f"{rendered.count(_USER_MARK)} times; it must show it once: take an instruction-tuned model"
            )
            raise ModelError(message)
        layout: list[tuple[int, ...] | str] = []
        for mark in sorted(marks, key=rendered.index):
            before, _, rendered = rendered.partition(mark)
            layout += [self._trusted(before), mark]
        return (*layout, self._trusted(rendered))

    def _render(self, *, system: bool) -> str:
        messages = [{"role": "user", "content": _USER_MARK}]
        if system:
            messages.insert(0, {"role": "system", "content": _SYSTEM_MARK})
        try:
            rendered = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            if system:  # many templates raise on a role that their model was not trained with
                return self._render(system=False)
            message = f"the chat template of {self._tokenizer.name_or_path!r} can't be rendered: {error}"
            raise ModelError(message) from error
        return str(rendered)

    def _trusted(self, text: str) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=False).input_ids)
