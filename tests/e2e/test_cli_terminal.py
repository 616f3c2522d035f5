"""simulate, traffic and inspect as a person reads them: what if, names, narrow terminals, CSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

USAGE, DONE = 2, 0


def test_what_if_says_what_was_changed_and_from_what(cli: Cli, bundle: Path) -> None:
    own = cli("simulate", bundle, "--json", "-").json
    given = ("simulate", bundle, "--set", "dma_bandwidth=2x", "--steps", "4")
    document = cli(*given, "--json", "-").json
    assert document["lowered_again"] is False
    changed, before = document["changes"], document["changed_from"]
    assert changed["dma_bandwidth_bytes_per_s"] == 2 * before["dma_bandwidth_bytes_per_s"]
    assert (changed["steps"], before["steps"]) == (4, 2)
    unet = document["components"]["unet"]
    assert unet["evaluations"] == 4
    assert unet["latency_ms"] < own["components"]["unet"]["latency_ms"]
    assert "changed     steps: 2 -> 4" in cli(*given).out
    assert own["changes"] == own["changed_from"] == {}
    given = ("traffic", bundle, "--components", "text_encoder", "--set", "sram=128KiB")
    smaller = cli(*given, "--json", "-").json
    assert smaller["lowered_again"] is True
    assert list(smaller["evaluations"]) == ["text_encoder"]
    assert "lowered again" in cli(*given).out


def test_ops_are_chosen_by_name_path_and_pattern(cli: Cli, bundle: Path) -> None:
    document = cli("simulate", bundle, "--op", "unet.down_blocks.0", "--json", "-").json
    assert document["ops"]
    assert all(op["path"].startswith("unet.down_blocks.0.") for op in document["ops"])
    assert sorted(op["rank"] for op in document["ops"]) == [*range(1, len(document["ops"]) + 1)]
    name = document["ops"][0]["name"]
    traffic = cli("traffic", bundle, "--op", f"unet.{name}", "--json", "-").json
    assert [row["name"] for row in traffic["image"]["op"]] == [name]
    moved = {row["name"]: row["image_bytes"] for row in traffic["image"]["cause"]}
    causes = document["ops"][0]["dram_bytes_by_cause"]
    assert moved == {cause: 2 * nbytes for cause, nbytes in causes.items()}
    assert traffic["total_bytes"] > sum(moved.values())


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("simulate", "--op", "node_conv2"), "Did you mean"),
        (("traffic", "--op", "unet.down_block.0"), "unet.down_blocks.0"),
        (("inspect", "--tiles", "node_cnv2d_3"), "node_conv2d_3"),
        (("simulate", "--components", "unet,vae"), "Did you mean vae_decoder?"),
        (("traffic", "--components", ","), "text_encoder, unet, vae_decoder"),
        (("simulate", "--set", "dma_bandwith=1GB/s"), "dma_bandwidth"),
    ],
)
def test_typing_errors_are_told_with_what_was_meant(
    cli: Cli, bundle: Path, arguments: tuple[str, ...], hint: str
) -> None:
    outcome = cli(arguments[0], bundle, *arguments[1:])
    assert (outcome.code, outcome.out) == (USAGE, "")
    assert hint in outcome.err


def test_a_name_of_two_components_asks_which(cli: Cli, bundle: Path) -> None:
    names: dict[str, set[str]] = {}
    for op in cli("simulate", bundle, "--json", "-").json["ops"]:
        names.setdefault(op["name"], set()).add(op["component"])
    name, components = next((n, c) for n, c in names.items() if len(c) > 1)
    outcome = cli("inspect", bundle, "--tiles", name)
    assert outcome.code == USAGE
    assert all(f"{component}.{name}" in outcome.err for component in components)
    one = sorted(components)[0]
    assert cli("inspect", bundle, "--tiles", name, "--component", one).code == DONE
    assert cli("inspect", bundle, "--tiles", f"{one}.{name}").code == DONE


@pytest.mark.parametrize(
    "arguments",
    [
        ("simulate",),
        ("traffic", "--by", "tensor"),
        ("inspect",),
        ("inspect", "--component", "unet", "--memory"),
        ("inspect", "--component", "unet", "--graph"),
    ],
)
def test_csv_is_one_table_on_the_standard_output(
    cli: Cli, bundle: Path, arguments: tuple[str, ...]
) -> None:
    outcome = cli(arguments[0], bundle, *arguments[1:], "--csv", "-")
    assert outcome.code == DONE, outcome.err
    header, *rows = csv.reader(outcome.out.splitlines())
    assert len(set(header)) == len(header)
    assert rows
    assert {len(row) for row in rows} == {len(header)}


def test_terminal_csv_and_json_agree(cli: Cli, bundle: Path) -> None:
    ops = cli("simulate", bundle, "--json", "-").json["ops"]
    first = min(ops, key=lambda op: op["rank"])
    row = next(csv.DictReader(cli("simulate", bundle, "--csv", "-").out.splitlines()))
    assert row["name"] == first["name"]
    for key in ("image_latency_ms", "share_percent", "latency_ms", "bound_ms", "ratio"):
        assert float(row[key]) == first[key]
    line = next(x for x in cli("simulate", bundle).out.splitlines() if first["path"] in x)
    shown = (f"{first['image_latency_ms']:,.3f}", f"{first['share_percent']:.1f}")
    assert all(text in line.split() for text in (*shown, first["limited_by"]))


def test_components_csv_leaves_nothing_else_on_the_standard_output(cli: Cli, bundle: Path) -> None:
    outcome = cli("simulate", bundle, "--components", "unet", "--components-csv", "-")
    (row,) = csv.DictReader(outcome.out.splitlines())
    assert (row["component"], float(row["share_percent"])) == ("unet", 100)


@pytest.fixture
def on_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command prints on a terminal of some width, without its colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # which is how rich is told that there is one
    monkeypatch.setenv("TERM", "xterm")

    def run(columns: int, *arguments: str | Path) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        outcome = cli(*arguments)
        assert outcome.code == DONE, outcome.err
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", outcome.out)

    return run


def test_a_narrow_terminal_keeps_what_matters_and_says_what_is_hidden(
    on_terminal: Callable[..., str], bundle: Path
) -> None:
    text = on_terminal(80, "simulate", bundle)
    assert max(map(len, text.splitlines())) <= 80
    assert "columns hidden" in text
    assert "--wide shows all" in " ".join(text.split())
    for title in ("module", "limited", "cum.", "image", "%"):
        assert title in text
    wide = on_terminal(80, "simulate", bundle, "--wide")
    assert "hidden" not in wide
    assert "queries=" in wide or "rows=" in wide


def test_reasons_and_bytes_are_never_hidden(on_terminal: Callable[..., str], bundle: Path) -> None:
    text = on_terminal(60, "inspect", bundle, "--tiles", "vae_decoder.node_conv2d_22")
    assert "rejected" in text
    assert "SRAM" in text
    assert "the NPU has no" in " ".join(on_terminal(80, "inspect", bundle).split())
