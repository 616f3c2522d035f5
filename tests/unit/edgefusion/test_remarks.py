"""``--remarks [PATTERN]``: which remarks a pattern means, and that it may stand without one."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.main import get_command

from edgefusion.cli.remarks import RemarksCommand, RemarksOption, chosen_by, remark_lines
from edgefusion.compiler.bundle.remarks import Remark
from edgefusion.runtime.errors import UsageError

MODULE = "down_blocks.0.attentions.0"
REMARKS = {
    "unet": (
        Remark("fuse-attention", "matched", "node_a", f"{MODULE}.attn1", "2 heads", ("softmax",)),
        Remark("fuse-attention", "missed", "node_b", f"{MODULE}.attn2", "its mask is computed"),
        Remark("fuse-silu", "matched", "node_c", "down_blocks.01", "SiLU of [1, 4]"),
    ),
    "vae_decoder": (Remark("fuse-silu", "matched", "node_a", "", "SiLU of [1, 8]"),),
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", [0, 1, 2, 3]),
        ("unet", [0, 1, 2]),
        ("fuse-silu", [2, 3]),
        ("fuse-*", [0, 1, 2, 3]),
        ("missed", [1]),
        ("node_a", [0, 3]),
        ("softmax", [0]),  # a node of the source
        ("down_blocks.0", [0, 1]),  # the module and what is in it, not down_blocks.01
        ("*.attn[12]", [0, 1]),
        ("*attn2", [1]),
        ("attn2", []),
        ("/mask|SiLU/", [1, 2, 3]),
        ("/^vae/", [3]),
    ],
)
def test_pattern_chooses(pattern: str, expected: list[int]) -> None:
    chosen = chosen_by(pattern)
    every = [(name, remark) for name, made in REMARKS.items() for remark in made]
    assert [i for i, pair in enumerate(every) if chosen(*pair)] == expected


def test_lines_say_what_where_and_why() -> None:
    assert remark_lines(REMARKS, "fuse-attention") == [
        f"unet: fuse-attention: matched node_a ({MODULE}.attn1): 2 heads",
        f"unet: fuse-attention: missed node_b ({MODULE}.attn2): its mask is computed",
        "remarks: 1 matched and 1 missed",
        "",
    ]


def test_a_slip_is_told() -> None:
    (line,) = remark_lines(REMARKS, "fuse-atention")
    assert line == "no remark matches fuse-atention, of 4. Did you mean fuse-attention?"
    with pytest.raises(UsageError, match=r"--remarks /\(/ is no regular expression"):
        chosen_by("/(/")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["source"], None),
        (["source", "--remarks"], "*"),
        (["--remarks", "--steps", "3", "source"], "*"),
        (["--remarks", "fuse-silu", "source"], "fuse-silu"),
        (["--remarks=missed", "source"], "missed"),
    ],
)
def test_the_value_may_be_left_out(arguments: list[str], pattern: str | None) -> None:
    app = typer.Typer(add_completion=False)
    found = []

    @app.command(cls=RemarksCommand)
    def command(
        source: str,
        remarks: RemarksOption = None,
        steps: Annotated[int, typer.Option()] = 2,
    ) -> None:
        found.append((source, remarks))

    get_command(app).main(args=arguments, standalone_mode=False)
    assert found == [("source", pattern)]
