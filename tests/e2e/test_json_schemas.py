"""docs/json_schemas.md: the keys that it documents are those that the commands write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli

DOCUMENT = Path(__file__).parents[2] / "docs" / "json_schemas.md"
BUNDLE = "BUNDLE"
COMMANDS = {
    "simulate": ("simulate", BUNDLE, "--set", "dma_bandwidth=2x"),
    "traffic": ("traffic", BUNDLE, "--steps", "3"),
    "inspect": ("inspect", BUNDLE),
    "inspect --graph": ("inspect", BUNDLE, "--component", "text_encoder", "--graph"),
    "inspect --memory": ("inspect", BUNDLE, "--component", "text_encoder", "--memory"),
    "inspect --tiles": ("inspect", BUNDLE, "--tiles", "vae_decoder.node_conv2d_22"),
    "passes": ("passes",),
    "ops": ("ops",),
    "presets": ("presets", "tiny-test"),
}


def sections() -> dict[str, list[str]]:
    """Documented keys of each command, braces expanded."""
    found: dict[str, list[str]] = {}
    for part in DOCUMENT.read_text().split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        cells = re.findall(r"^\| (`.*?) \| ", text, re.MULTILINE)
        keys = [key for cell in cells for key in re.findall(r"`([^`]+)`", cell)]
        found[heading.strip("` ").removeprefix("edgefusion ")] = [
            each for key in keys for each in expanded(key)
        ]
    return found


def expanded(key: str) -> Iterator[str]:
    parts = re.split(r"\{([^}]*)\}", key)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    yield from map("".join, product(*choices))


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of each value that is no list or mapping, or an empty one."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from paths(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for each in value:
            yield from paths(each, f"{path}[]")
    else:
        yield path


def pattern(key: str) -> re.Pattern[str]:
    text = re.escape(key).replace(r"\*", ".+?").replace(r"\.…", r"([.\[].*)?")
    return re.compile(text)


def test_every_command_of_the_page_is_compared() -> None:
    assert sections().keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_keys_are_those_written(cli: Cli, bundle: Path, command: str) -> None:
    arguments = [bundle if each == BUNDLE else each for each in COMMANDS[command]]
    outcome = cli(*arguments, "--json", "-")
    assert outcome.code == 0, outcome.err
    written = set(paths(json.loads(outcome.out)))
    documented = {key: pattern(key) for key in sections()[command]}
    unwritten = [key for key, each in documented.items() if not any(map(each.fullmatch, written))]
    assert not unwritten, "documented, but not written"
    unknown = [path for path in sorted(written) if not known(path, documented.values())]
    assert not unknown, "written, but not documented"


def known(path: str, documented: Iterable[re.Pattern[str]]) -> bool:
    """Whether ``path`` is documented, or an empty list or mapping of something that is."""
    spellings = (path, f"{path}[]", f"{path}.x", f"{path}[].x")
    return any(each.fullmatch(spelling) for each in documented for spelling in spellings)
