"""The sentences that refuse a search space, and their parts: values shown, words listed, the word that was meant."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable


class SpaceError(ValueError):
    """A search space, or a question to it, that is not valid; each sentence says what is allowed.

    The message is the first of `sentences`, with the number of the others.
    """

    def __init__(self, *sentences: str) -> None:
        more = f" (the first of {len(sentences)} mistakes: make space lists them)" if len(sentences) > 1 else ""
        super().__init__(sentences[0] + more)
        self.sentences = sentences


def show(value: object) -> str:
    """The value for an error message; bounded, since YAML aliases can nest a small file into a huge value."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)


def listed(words: Iterable[object]) -> str:
    """The words with commas between them, on one line whatever they hold."""
    return ", ".join(text if (text := str(word)).isprintable() else repr(text) for word in words)


def closest(word: object, known: Iterable[str]) -> str | None:
    """Return the known word that `word` resembles most; None where none does."""
    matches = difflib.get_close_matches(word, list(known), n=1) if isinstance(word, str) else []
    return matches[0] if matches else None


def hint(word: object, known: Iterable[str]) -> str:
    """Ask, in brackets, whether the closest known word was meant; empty where there is none."""
    match = closest(word, known)
    return f" (did you mean {match}?)" if match else ""
