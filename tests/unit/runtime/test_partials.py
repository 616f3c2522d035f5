"""What killed processes leave behind, and what live ones hold."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgefusion.runtime.partials import (
    exchange,
    lock_on,
    partial_file,
    partial_folder,
    remove_leftovers,
    remove_leftovers_below,
)

_HOLDER = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from edgefusion.runtime.partials import partial_file, partial_folder
place = Path(sys.argv[1])
with partial_file(place) as file, partial_folder(place) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "weights").write_bytes(b"1")
    file.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(60)
"""


def _killed(place: Path) -> None:
    """A process that is killed while it holds a file and a folder in ``place``; before it is, they
    must be left alone."""
    command = [sys.executable, "-c", _HOLDER, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        remove_leftovers(place)
        assert len(list(place.iterdir())) == 2, "a live process's files were taken"
        process.send_signal(signal.SIGKILL)


def test_the_next_one_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    _killed(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    others = [tmp_path / ".edgefusion-mine.partial", tmp_path / "edgefusion-0123456789abcdef"]
    for other in others:
        other.mkdir()
    with partial_folder(tmp_path) as folder:
        assert sorted(tmp_path.iterdir()) == sorted([folder, *others])
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_leftovers_below(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    left = tmp_path / "a" / "b" / ".edgefusion-0123456789abcdef.partial"
    left.write_bytes(b"half")
    remove_leftovers_below(tmp_path)
    assert not left.exists()
    remove_leftovers_below(tmp_path / "absent")


def test_links_are_never_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / ".edgefusion-0123456789abcdef.partial").symlink_to(tmp_path / "folder")
    remove_leftovers(tmp_path)
    assert (tmp_path / "folder" / "kept").exists()


def test_a_new_one_that_was_taken_for_dead_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefusion.runtime import partials

    lock, taken = partials._lock, []

    def late(descriptor: int, options: int, *, unknown: bool) -> bool:
        if not taken:  # between making and locking it
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        return lock(descriptor, options, unknown=unknown)

    monkeypatch.setattr(partials, "_lock", late)
    with partial_file(tmp_path) as file:
        assert file.exists()
        assert file != taken[0]


def test_threads_do_not_share(tmp_path: Path) -> None:
    """And none removes another's, though they are of one process."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(20):
                remove_leftovers(tmp_path)
                with partial_file(tmp_path) as file:
                    file.write_bytes(b"1")
                    assert file.read_bytes() == b"1"
        except Exception as error:  # noqa: BLE001  # told by the test
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert not list(tmp_path.iterdir())


def test_lock(tmp_path: Path) -> None:
    with lock_on(tmp_path) as first, lock_on(tmp_path) as second:
        assert first
        assert not second
    with lock_on(tmp_path) as third:
        assert third


@pytest.mark.parametrize("system", [True, False])
def test_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: bool) -> None:
    if not system:
        monkeypatch.setattr("ctypes.CDLL", lambda *_args, **_options: object())
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    exchange(tmp_path / "one", tmp_path / "other")
    assert (tmp_path / "one" / "other").exists()
    assert (tmp_path / "other" / "one").exists()
    with pytest.raises(OSError, match=r"No such file"):
        exchange(tmp_path / "one", tmp_path / "absent")
