"""Text that is not ours made safe to show: the names in a run's files come from whoever wrote them."""

import re
from typing import Any


def legible(text: str) -> str:
    """With escapes for what is not seen, or moves what is: controls, line breaks, changes of direction."""
    if text.isprintable():
        return text
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in text)


def all_legible(value: Any) -> Any:
    """Every text in a decoded JSON document, keys included."""
    if isinstance(value, dict):
        return {legible(key): all_legible(item) for key, item in value.items()}
    if isinstance(value, list):
        return [all_legible(item) for item in value]
    return legible(value) if isinstance(value, str) else value


def as_markdown(text: str) -> str:
    """As Markdown that shows this text: no column, markup, link or reference comes of it. Brackets alone are none."""
    text = re.sub(r"([\\|<>*_`#~&])", r"\\\1", legible(" ".join(text.split())))
    return re.sub(r"\](?=[(\[:])", r"]\\", text)


def as_code(text: str) -> str:
    """As a code span of Markdown."""
    return f"`{legible(text).replace('`', chr(39))}`"
