"""Prompts from a file, or from a language model behind an OpenAI-compatible HTTP interface."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefusion.models.data.dataset import CAPTION_COLUMN
from edgefusion.models.data.imagefolder import as_caption, json_row
from edgefusion.runtime.errors import InputError

INSTRUCTION = (
    "Write {count} prompts for a text-to-image model, one a line, without numbers. Each describes "
    "one scene in at most 40 words: subject, surroundings, light and style. Vary subjects, places, "
    "ages, genders and ethnicities of people. These are prompts {first} to {last} of a long list: "
    "do not begin with the most obvious ones."
)
_NUMBERING = re.compile(r"^\s*(?:[-*•]|\d+\s*[.):])\s*")
_RETRIES = 4
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class FilePrompts:
    """The lines of a text file, or the column ``text`` of a .jsonl file."""

    lines: tuple[str, ...]

    def __call__(self, start: int, count: int) -> Sequence[str]:
        """See ``PromptProvider``."""
        return self.lines[start : start + count]


def prompts_from_file(path: Path, column: str = CAPTION_COLUMN) -> FilePrompts:
    """Raises InputError for a file that cannot be read and lines without that column."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} cannot be read: {error}. Expected prompts, one a line."
        ) from error
    if path.suffix != ".jsonl":
        return FilePrompts(tuple(line.strip() for line in lines if line.strip()))
    rows = [json_row(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        if not as_caption(row.get(column)):
            raise InputError(f"{path}, row {number} has no {column}; expected a prompt there.")
    return FilePrompts(tuple(as_caption(row[column]) for row in rows))


@dataclass(frozen=True, slots=True)
class ChatPrompts:
    """Asks ``model`` at ``base_url`` (".../v1") for prompts, many at once.

    ``instruction`` may hold {count}, {first} and {last}. The seed sent is ``seed`` + the first
    prompt's number, for servers that heed it. The key is read from the environment when it is
    wanted and is never written anywhere.
    """

    base_url: str
    model: str
    instruction: str = INSTRUCTION
    key_variable: str = "OPENAI_API_KEY"
    temperature: float = 1.0
    seed: int = 0

    def __call__(self, start: int, count: int) -> Sequence[str]:
        """See ``PromptProvider``. Raises InputError for servers that do not answer as expected."""
        text = self.instruction
        for name, value in (("count", count), ("first", start + 1), ("last", start + count)):
            text = text.replace(f"{{{name}}}", str(value))
        answer = self._post(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": text}],
                "temperature": self.temperature,
                "seed": self.seed + start,
            }
        )
        try:
            content = answer["choices"][0]["message"]["content"]
            lines = content.splitlines()
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.base_url} gave an answer without choices[0].message.content; expected an "
                "OpenAI-compatible server of chat completions."
            ) from error
        return [line for line in (_NUMBERING.sub("", raw).strip() for raw in lines) if line]

    def _post(self, body: dict[str, Any]) -> Any:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        again = Retry(
            _RETRIES,
            backoff_factor=1,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
        )
        key = os.environ.get(self.key_variable)
        with requests.Session() as session:
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=again))
            try:
                response = session.post(
                    f"{self.base_url.rstrip('/')}/chat/completions",
                    json=body,
                    headers={"Authorization": f"Bearer {key}"} if key else {},
                    timeout=_TIMEOUT_SECONDS,
                )
                response.raise_for_status()
                return response.json()
            except requests.RequestException as error:
                raise InputError(
                    f"no prompts from {self.base_url}: {error}. What was answered before is kept: "
                    f"check the address, the model's name and the key in {self.key_variable}, and "
                    "repeat the command."
                ) from error
