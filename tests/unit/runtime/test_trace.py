"""Traces parse as Chrome trace JSON and say exactly what the timeline says."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from edgefusion.benchmarks.simulator_speed import synthetic_program
from edgefusion.runtime import trace
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.isa import DType, Role
from edgefusion.runtime.program import OpRecord, Program, TensorRecord
from edgefusion.runtime.simulator import simulate
from edgefusion.runtime.target import load_target

MACHINE = load_target("exynos2400").machine


def named_program(component: str = "unet", instructions: int = 50) -> Program:
    program = synthetic_program(instructions)
    tensors = (TensorRecord("q", DType.INT16, (256, 64), Role.ACTIVATION, 0, 32768),)
    ops = (OpRecord('down/"attn"\n', "attention", ()),)
    return replace(program, component=component, ops=ops, tensors=tensors)


def written(*programs: Program) -> str:
    file = io.StringIO()
    trace.write_trace(file, [(program, simulate(program, MACHINE)) for program in programs])
    return file.getvalue()


def slices(text: str) -> list[dict[str, Any]]:
    events = json.loads(text, parse_float=Decimal)["traceEvents"]
    return [event for event in events if event["ph"] == "X"]


@pytest.mark.parametrize("chunk", [7, 4096])
def test_slices_are_the_timeline(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "CHUNK", chunk)
    program = named_program()
    timeline = simulate(program, MACHINE)
    events = slices(written(program))
    assert [int(e["ts"] * 10**6) for e in events] == timeline.start_ps.tolist()
    assert [int((e["ts"] + e["dur"]) * 10**6) for e in events] == timeline.end_ps.tolist()
    assert [e["tid"] for e in events] == timeline.engine.tolist()
    assert [e["args"]["instruction"] for e in events] == list(range(50))
    assert {e["name"] for e in events} == {'down/"attn"\n'}
    assert [e["cat"] for e in events[:5]] == ["LOAD", "MATMUL", "SOFTMAX", "MATMUL", "STORE"]


def test_transfers_carry_bytes_cause_and_tensor() -> None:
    program = named_program()
    events = slices(written(program))
    moved = [e["args"] for e in events if "bytes" in e["args"]]
    assert [a["instruction"] % 5 for a in moved] == [0, 4] * 10
    assert {(a["bytes"], a["cause"], a["tensor"]) for a in moved} == {(32768, "activation", "q")}
    useful = simulate(program, MACHINE).work.dma.useful_bytes
    assert sum(a["bytes"] for a in moved) == int(useful.sum())


def test_components_follow_each_other_on_their_own_tracks() -> None:
    text = written(named_program("text_encoder", 5), named_program("unet", 5))
    first, second = slices(text)[:5], slices(text)[5:]
    assert {e["pid"] for e in first} == {1}
    assert {e["pid"] for e in second} == {2}
    assert second[0]["ts"] == max(e["ts"] + e["dur"] for e in first)
    names = [
        (e["name"], e["pid"], e["tid"], e["args"]["name"])
        for e in json.loads(text)["traceEvents"]
        if e["ph"] == "M"
    ]
    assert ("process_name", 2, 0, "unet") in names
    assert ("thread_name", 1, 1, "tensor0") in names


def test_same_timeline_same_bytes() -> None:
    assert written(named_program()) == written(named_program())


def test_an_empty_trace_is_valid() -> None:
    assert json.loads(written())["traceEvents"] == []


def test_unknown_op_is_refused() -> None:
    program = named_program()
    columns = replace(program.columns, op=np.full(50, 3, dtype=np.int32))
    with pytest.raises(InputError, match="unknown op 3"):
        written(replace(program, columns=columns))
