"""Values as people write them: units, names, multiples, ranges, and what is refused."""

from __future__ import annotations

import pytest

from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.settings import parse_choices, parse_settings, setting_text
from edgefusion.runtime.target import load_target


@pytest.fixture(scope="module")
def machine() -> Machine:
    return load_target("exynos2400").machine


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("sram=4MiB", "sram_bytes", 4 * 2**20),
        ("sram_bytes=4_194_304", "sram_bytes", 4 * 2**20),
        ("sram = 2 kB", "sram_bytes", 2000),
        ("sram=0.5x", "sram_bytes", 3 * 2**20),
        ("sram=0.3x", "sram_bytes", round(0.3 * 6 * 2**20)),
        ("dma_bandwidth=30GB/s", "dma_bandwidth_bytes_per_s", 30e9),
        ("dma_bandwidth=1GiB/s", "dma_bandwidth_bytes_per_s", float(2**30)),
        ("dma_bandwidth=3e10", "dma_bandwidth_bytes_per_s", 3e10),
        ("clock=1.5GHz", "clock_hz", 1.5e9),
        ("clock=2×", "clock_hz", 2.392e9),
        ("host_call=5us", "host_call_ns", 5000.0),
        ("host_call=.5ms", "host_call_ns", 5e5),
        ("host_macs=2GMAC/s", "host_macs_per_s", 2e9),
        ("tensor_rate.w8a16=0.25", "tensor_rate.w8a16", 0.25),
        ("tensor_fill=100", "tensor_fill_cycles", 100.0),
        ("dma_engines=2", "dma_engines", 2),
    ],
)
def test_names_and_units(machine: Machine, text: str, key: str, value: float) -> None:
    (found,) = parse_settings([text], machine).items()
    assert found == (key, value)
    assert type(found[1]) is type(value)
    machine.with_values(**dict([found]))


def test_the_last_of_a_key_holds(machine: Machine) -> None:
    assert parse_settings(["sram=1MiB", "sram_bytes=2MiB"], machine) == {"sram_bytes": 2 * 2**20}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sram", "expected KEY=VALUE"),
        ("srm=4MiB", r"no such parameter. Did you mean sram\?"),
        ("vector_cycles.softmx=1", "Did you mean vector_cycles.softmax"),
        ("name=other", "no such parameter"),
        ("zzz=1", "There are clock_hz"),
        ("sram=", "expected a number"),
        ("sram=lots", "expected a number"),
        ("sram=nan", "expected a number"),
        ("sram=inf", "expected a number"),
        ("sram=4MiB/s", "sram_bytes takes no unit 'MiB/s'; units are B, kB"),
        ("dma_bandwidth=30GB", "takes no unit 'GB'"),
        ("dma_engines=2MiB", "units are none, for its unit is in its name"),
    ],
)
def test_what_is_no_setting(machine: Machine, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings([text], machine)


@pytest.mark.parametrize(
    "text",
    ["sram=-5", "sram=0", "sram=4.5", "clock=0", "clock=-1GHz", "clock=1e999", "sram=1e30",
     "tensor_rate.fp16=0", "dma_engines=300", "sram=1e999x"],
)  # fmt: skip
def test_what_no_machine_has(machine: Machine, text: str) -> None:
    with pytest.raises(UsageError, match=r"exynos2400: .*found"):
        machine.with_values(**parse_settings([text], machine))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sram=1MiB, 2MiB,1MiB", (2**20, 2**21)),
        ("sram=1MiB:3MiB:1MiB", (2**20, 2**21, 3 * 2**20)),
        ("sram=1MiB:9MiB:*2", (2**20, 2**21, 2**22, 2**23)),
        ("sram=1MiB:2MiB:1MiB,1x", (2**20, 2**21, 6 * 2**20)),
        ("tensor_rate.fp16=0.1:0.3:0.1", (0.1, 0.2, pytest.approx(0.3))),
        ("dma_engines=1:1:1", (1,)),
    ],
)
def test_lists_and_ranges(machine: Machine, text: str, values: tuple[float, ...]) -> None:
    (found,) = parse_choices([text], machine).values()
    assert found == values
    assert all(type(one) is type(found[0]) for one in found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sram=,", "one value or more"),
        ("sram=1:2", "FIRST:LAST:STEP"),
        ("sram=2MiB:1MiB:1MiB", "no range leads"),
        ("sram=1:5:0", "no range leads"),
        ("sram=1:5:-1", "no range leads"),
        ("sram=1:5:*1", "no range leads"),
        ("sram=1:5:*x", "a number after"),
        ("sram=1:1GiB:1", "more than 10000"),
        ("sram=1MiB,2GHz", "takes no unit 'GHz'"),
    ],
)
def test_what_is_no_list(machine: Machine, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_choices([text], machine)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("sram_bytes", 4 * 2**20, "4MiB"),
        ("sram_bytes", 2**20 + 2**19, "1.5MiB"),
        ("sram_bytes", 1001, "1001B"),
        ("dma_bandwidth_bytes_per_s", 14.3832e9, "14.3832GB/s"),
        ("clock_hz", 1.196e9, "1.196GHz"),
        ("semaphore_ns", 220.08, "220.08ns"),
        ("tensor_rate.fp16", 0.5, "0.5"),
        ("steps", 2, "2"),
    ],
)
def test_values_as_text_read_back(machine: Machine, key: str, value: float, text: str) -> None:
    assert setting_text(key, value) == text
    if key != "steps":
        assert parse_settings([f"{key}={text}"], machine) == {key: pytest.approx(value)}
