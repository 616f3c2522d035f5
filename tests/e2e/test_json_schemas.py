"""docs/json_schemas.md: the keys that it documents are those that the commands write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefusion import compile_source
from tests.e2e.conftest import Cli

FLOAT = TensorProto.FLOAT
DOCUMENT = Path(__file__).parents[2] / "docs" / "json_schemas.md"
BUNDLE, SMALL, MODEL, BUFFERS, OUT = "BUNDLE", "SMALL", "MODEL", "BUFFERS", "OUT"
COMMANDS = {
    "simulate": ("simulate", BUNDLE, "--set", "dma_bandwidth=2x"),
    "traffic": ("traffic", BUNDLE, "--steps", "3"),
    "inspect": ("inspect", BUNDLE),
    "inspect --graph": ("inspect", BUNDLE, "--component", "text_encoder", "--graph"),
    "inspect --memory": ("inspect", BUNDLE, "--component", "text_encoder", "--memory"),
    "inspect --groups": ("inspect", SMALL, "--groups"),
    "inspect --tiles": ("inspect", BUNDLE, "--tiles", "vae_decoder.node_conv2d_22"),
    "passes": ("passes",),
    "ops": ("ops",),
    "presets": ("presets", "tiny-test"),
    "targets": ("targets",),
    "targets NAME": ("targets", "exynos2400"),
    "export": ("export", MODEL, "-o", OUT),
    "compile": ("compile", MODEL, "-o", f"{OUT}.npub"),
    "run": ("run", BUNDLE, "--prompt", "a", "--reference", "-o", f"{OUT}.png"),
    "verify": ("verify", SMALL),
    "alloc": ("alloc", BUFFERS, "--most-steps", "0"),
}


@pytest.fixture(scope="module")
def places(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the words in capitals stand for: the demo's bundle, a small one, its model."""
    folder = tmp_path_factory.mktemp("schemas")
    model, small = with_host_op(folder), folder / "small.npub"
    compile_source(str(model), output=small)
    buffers = folder / "buffers.csv"
    buffers.write_text("id,lower,upper,size\n0,0,2,8\n")
    return {
        BUNDLE: bundle,
        SMALL: small,
        MODEL: model,
        BUFFERS: buffers,
        OUT: folder / "out",
    }


def with_host_op(folder: Path) -> Path:
    """Two products, and a function that the NPU has not."""
    weights = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["g"]),
        helper.make_node("MatMul", ["g", "w"], ["h"]),
        helper.make_node("Erf", ["h"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(name, FLOAT, [1, 4, 8]) for name in ("x", "y")]
    graph = helper.make_graph(
        nodes, "g", ports[:1], ports[1:], [numpy_helper.from_array(weights, "w")]
    )
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def placed(text: str, places: dict[str, Path]) -> str:
    for word, path in places.items():
        if text.split(".")[0] == word:
            return text.replace(word, str(path))
    return text


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
def test_documented_keys_are_those_written(cli: Cli, places: dict[str, Path], command: str) -> None:
    arguments = [placed(each, places) for each in COMMANDS[command]]
    outcome = cli(*arguments, "--json", "-")
    assert outcome.code == 0, outcome.err
    written = set(paths(json.loads(outcome.out)))
    documented = {key: pattern(key) for key in sections()[command]}
    spelt = {spelling for path in written for spelling in spellings(path)}
    unwritten = [key for key, each in documented.items() if not any(map(each.fullmatch, spelt))]
    assert not unwritten, "documented, but not written"
    unknown = [path for path in sorted(written) if not known(path, documented.values())]
    assert not unknown, "written, but not documented"


def known(path: str, documented: Iterable[re.Pattern[str]]) -> bool:
    """Whether ``path`` is documented, or an empty list or mapping of something that is."""
    return any(each.fullmatch(spelling) for each in documented for spelling in spellings(path))


def spellings(path: str) -> tuple[str, ...]:
    """What may be documented of a path where an empty list or mapping was written."""
    return path, f"{path}[]", f"{path}.x", f"{path}[].x"
