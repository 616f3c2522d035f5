"""Files appear whole or not at all, in the place that a path leads to."""

from __future__ import annotations

import errno
import os
import stat
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from edgefusion.runtime.errors import DoesNotFitError, InputError, UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import (
    alone_in,
    check_folder,
    put_together,
    replacing,
    replacing_folder,
    write_whole,
)

NULL, FULL = 3, 7
"""Minor numbers of /dev/null and /dev/full."""
TEXT = '{"a": 1}\n'


def write(path: Path, text: str = TEXT) -> None:
    with replacing((path,), Kind.JSON) as (partial,):
        partial.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_file_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.json"
    write(path)
    assert path.read_text() == TEXT
    assert names(path.parent) == ["out.json"]
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_old_file_stays_until_the_end_and_gives_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("[]")
    path.chmod(0o640)
    with replacing((path,), Kind.JSON) as (partial,):
        partial.write_text(TEXT)
        assert path.read_text() == "[]"
    assert path.read_text() == TEXT
    assert path.stat().st_mode & 0o777 == 0o640
    assert names(tmp_path) == ["out.json"]


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt(), SystemExit(143)])
def test_nothing_is_left_of_a_failed_one(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "new" / "deep" / "out.json"

    def fail() -> None:
        with replacing((tmp_path / "old.json", path), Kind.JSON) as partial:
            partial[0].write_text("half")
            raise error

    (tmp_path / "old.json").write_text("[]")
    with pytest.raises(type(error)):
        fail()
    assert names(tmp_path) == ["old.json"]
    assert (tmp_path / "old.json").read_text() == "[]"


@pytest.mark.parametrize("content", [b"a holiday", b"PK\3\4", b"\xff\xd8\xff", b"a,b\n"])
def test_another_kind_of_file_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "out.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"JSON would be written there"):
        write(path)
    assert path.read_bytes() == content
    assert names(tmp_path) == ["out.json"]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target.json", tmp_path / "link.json"
    link.symlink_to(target)
    write(link)  # dangling: it makes its target
    assert target.read_text() == TEXT
    write(link, "[]")
    assert target.read_text() == "[]"
    assert link.is_symlink()
    assert names(tmp_path) == ["far", "link.json"]
    assert names(tmp_path / "far") == ["target.json"]


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("b.json")
    (tmp_path / "b.json").symlink_to("a.json")
    with pytest.raises(InputError, match=r"cannot use"):
        write(tmp_path / "a.json")


def test_pipe_is_written_through(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write(pipe, '"' + "x" * 300_000 + '"')
    reader.join()
    assert len(found[0]) == 300_002
    assert pipe.is_fifo()


def test_descriptor_is_written_through() -> None:
    read, written = os.pipe()
    write(Path(f"/dev/fd/{written}"))
    os.close(written)
    assert os.read(read, 100).decode() == TEXT
    os.close(read)


def test_descriptor_of_a_file_is_written_where_it_stands(tmp_path: Path) -> None:
    """As after ``--json /dev/stdout >> log``."""
    log = tmp_path / "log"
    with log.open("w") as file:
        file.write("before\n")
        file.flush()
        write(Path(f"/proc/self/fd/{file.fileno()}"))
    assert log.read_text() == "before\n" + TEXT


def test_reader_that_goes_away_had_enough() -> None:
    read, written = os.pipe()
    os.close(read)
    write(Path(f"/dev/fd/{written}"))
    os.close(written)


def test_descriptor_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with Path("/dev/zero").open("rb") as file, pytest.raises(InputError, match=r"reading only"):
        write(Path(f"/dev/fd/{file.fileno()}"))
    with pytest.raises(InputError, match=r"Bad file descriptor"):
        write(Path("/dev/fd/987"))


@pytest.mark.parametrize("minor", [NULL, FULL])
def test_device_is_written_through(tmp_path: Path, minor: int) -> None:
    """One of the test's own: a mistake here must not cost the machine its /dev/null."""
    device = tmp_path / "device"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        device.open("wb").close()
    except PermissionError:
        pytest.skip("devices cannot be made here")
    told = pytest.raises(DoesNotFitError, match=r"disk is full: writing .*device")
    with told if minor == FULL else nullcontext():
        write(device)
    assert device.is_char_device()
    assert names(tmp_path) == ["device"]


@pytest.mark.parametrize("name", ["x" * 300, "file/out.json"])
def test_place_that_cannot_be_is_told_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()

    def work() -> None:
        with replacing((tmp_path / name,), Kind.JSON):
            raise AssertionError("the block must not run")

    with pytest.raises(InputError, match=r"cannot use"):
        work()
    with pytest.raises(UsageError, match=r"is a folder"):
        write(tmp_path)


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with (
        replacing((path,), Kind.JSON) as (first,),
        replacing((path,), Kind.JSON) as (second,),
    ):
        assert first != second
        first.write_text("[1]")
        second.write_text("[2]")
    assert path.read_text() == "[1]", "the last one to end stays"
    assert names(tmp_path) == ["out.json"]


@pytest.mark.parametrize("call", range(4))
def test_disk_that_fills_up_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    calls = ("open", "fsync", "chown", "chmod")
    path = tmp_path / "out.json"
    path.write_text("[]")

    def full(*_args: object, **_options: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, calls[call], full)
    with pytest.raises(DoesNotFitError, match=r"disk is full"):
        write(path)
    monkeypatch.undo()
    assert path.read_text() == "[]"
    assert names(tmp_path) == ["out.json"]


def test_files_that_belong_together_are_never_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it ends, a graph refers to the weights of its own time."""
    seen = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        state = [p.read_text() if p.exists() else None for p in (tmp_path / "g", tmp_path / "w")]
        seen.append(tuple(state))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    for time in ("old", "new"):
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        (made / "g").write_text(time)
        (made / "w").write_text(time)
        put_together({made / "w": tmp_path / "w", made / "g": tmp_path / "g"})
        seen.append(((tmp_path / "g").read_text(), (tmp_path / "w").read_text()))
    assert all(graph in (None, weights) for graph, weights in seen)
    assert seen[-1] == ("new", "new")


def test_write_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "x", b"1")
    write_whole(tmp_path / "a" / "x", b"2")
    assert (tmp_path / "a" / "x").read_bytes() == b"2"
    assert names(tmp_path / "a") == ["x"]


def test_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    for text in ("one", "two"):
        with replacing_folder(folder, "index") as partial:
            (partial / "index").write_text(text)
            (partial / text).touch()
        assert names(folder) == sorted(["index", text])
    assert names(tmp_path) == ["pipeline"]

    def fail() -> None:
        with replacing_folder(folder, "index") as partial:
            (partial / "index").write_text("three")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()
    assert (folder / "index").read_text() == "two"
    assert names(tmp_path) == ["pipeline"]


def test_another_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "holiday").touch()
    with pytest.raises(UsageError, match=r"holds no index"):
        check_folder(tmp_path, "index")
    with pytest.raises(UsageError, match=r"holds no index"):
        check_folder(tmp_path / "holiday", "index")
    check_folder(tmp_path / "absent", "index")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path),
        pytest.raises(InputError, match=r"another process"),
        alone_in(tmp_path),
    ):
        raise AssertionError("the block must not run")
