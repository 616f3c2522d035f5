"""Module paths in less room: long words give way first, places (numbers) and the end stay."""

from __future__ import annotations

CUT = "…"


def shortened(path: str, width: int) -> str:
    """``path`` in at most ``width`` characters.

    Words between the first dot and the last are cut, all to the same length, so that the places of
    two modules still tell them apart: ``up_blocks.0.attentions.1.transformer_blocks.0.attn1``
    becomes ``up_blocks.0.atte….1.tran….0.attn1``. Then the first word gives way, at last the front.
    """
    if len(path) <= width:
        return path
    parts = path.split(".")
    longest = max(map(len, parts))
    for first in (1, 0):
        for letters in range(longest, 0, -1):
            cut = [_cut(part, letters) for part in parts[first:-1]]
            text = ".".join((*parts[:first], *cut, parts[-1]))
            if len(text) <= width:
                return text
    return CUT + path[len(path) - width + 1 :] if width > 1 else CUT[:width]


def _cut(word: str, letters: int) -> str:
    stem = word.rstrip("0123456789")
    if len(stem) <= letters + len(CUT):
        return word
    return stem[:letters] + CUT + word[len(stem) :]
