"""Counts words, after JavaScript has said which of them are the same."""

from collections import Counter

from wit_world import exports
from wit_world.imports import text
from wit_world.types import Err


class Tally(exports.Tally):
    def count(self, words: list[str]) -> list[text.Row]:
        if not words:
            raise Err("there are no words to count")
        times = Counter(fold(number, word) for number, word in enumerate(words, start=1))
        return [text.Row(word, count) for word, count in times.most_common()]


def fold(number: int, word: str) -> str:
    """The word as JavaScript has it; where that refuses, the error says which word it was."""
    try:
        return text.fold(word)
    except Err as error:
        raise Err(f"word {number}: {error.value}")
