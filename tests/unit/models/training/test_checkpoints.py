"""Checkpoints appear whole or not at all; damage is noticed, and the one before is used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.runtime.errors import InputError


def network(value: float) -> nn.Module:
    made = nn.Linear(100, 100)
    nn.init.constant_(made.weight, value)
    return made


def filled(folder: Path, *steps: int, keep: int = 3) -> CheckpointStore:
    store = CheckpointStore(folder / "checkpoints", keep)
    for step in steps:
        store.save(step, {"student": network(step)}, {"updates": step, "moment": torch.ones(3)})
    return store


def silent(_text: str) -> None:
    pass


def test_round_trip(tmp_path: Path) -> None:
    store = filled(tmp_path, 1, 2)
    student = network(0)
    state = store.load(2, {"student": student})
    assert bool((student.get_parameter("weight") == 2).all())
    assert state["updates"] == 2
    assert torch.equal(state["moment"], torch.ones(3))


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    store = filled(tmp_path, 1, 2, 3, 4, keep=2)
    assert store.steps() == [3, 4]
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-00000003", "step-00000004"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("student.safetensors", cut, "is cut off: student.safetensors has"),
        ("student.safetensors", flip, "is damaged: student.safetensors"),
        ("state.pt", cut, "is cut off: state.pt"),
        ("state.pt", Path.unlink, "is incomplete: state.pt"),
        ("manifest.json", Path.unlink, "is incomplete: manifest.json"),
        ("manifest.json", cut, "manifest.json is not readable"),
    ],
)
def test_damage_is_passed_over(
    tmp_path: Path, name: str, damage: Callable[[Path], None], told: str
) -> None:
    store = filled(tmp_path, 1, 2)
    damage(store.folder / "step-00000002" / name)
    said: list[str] = []
    assert store.latest(said.append) == 1
    assert told in said[0]
    store.save(2, {"student": network(5)}, {})
    assert store.latest(silent) == 2, "the damaged one is replaced"


def test_nothing_whole(tmp_path: Path) -> None:
    store = filled(tmp_path, 1, 2)
    for path in store.folder.glob("*/state.pt"):
        cut(path)
    with pytest.raises(InputError, match=r"no checkpoint .* is whole: step-00000002 is cut off"):
        store.latest(silent)
    assert CheckpointStore(tmp_path / "none").latest(silent) is None


def test_killed_while_writing(tmp_path: Path) -> None:
    """What a kill leaves behind is no checkpoint, and is cleared away by the next one."""
    store = filled(tmp_path, 1)
    partial = store.folder / ".partial-step-00000002"
    partial.mkdir()
    (partial / "student.safetensors").write_bytes(b"half")
    assert store.latest(silent) == 1
    store.save(2, {"student": network(2)}, {})
    assert sorted(p.name for p in store.folder.iterdir()) == ["step-00000001", "step-00000002"]


_FILL = """
import resource, signal, sys
from pathlib import Path
import torch
from edgefusion.models.training.checkpoints import CheckpointStore
from edgefusion.runtime.errors import DoesNotFitError
store = CheckpointStore(Path(sys.argv[1]), 2)
student = torch.nn.Linear(100, 100)
store.save(1, {"student": student}, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
sizes = {"weights": (student.double(), 1), "state": (torch.nn.Linear(2, 2), 100_000)}
for network, count in (sizes[sys.argv[2]],):
    try:
        store.save(2, {"student": network}, {"moment": torch.ones(count)})
    except DoesNotFitError as error:
        print(error)
"""


@pytest.mark.parametrize("what", ["weights", "state"])
def test_full_disk(tmp_path: Path, what: str) -> None:
    """The system refuses to make files larger: as on a full disk, in each library's own words."""
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path), what],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the disk is full: the checkpoint of step 2 was not written" in done.stdout, done.stderr
    assert "step-00000001 is as it was" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert CheckpointStore(tmp_path).latest(silent) == 1


def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "checkpoints"
    blocked.write_text("a file")
    with pytest.raises(InputError, match="cannot be written"):
        CheckpointStore(blocked).save(1, {"student": network(1)}, {})


def test_other_networks_are_refused(tmp_path: Path) -> None:
    store = filled(tmp_path, 1)
    with pytest.raises(InputError, match="does not fit these networks"):
        store.load(1, {"student": nn.Linear(3, 3)})
