"""Files that are whole on the disk before anything speaks of them, through kills and power loss."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from reluscope.placement import (
    JOURNAL,
    MANIFEST,
    OTHER,
    Mark,
    PlacementError,
    files_below,
    manifest_of,
    mark_of,
    mark_of_file,
    read_manifest,
    stray,
)

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


class WriteError(OSError):
    """A file could not be written: no room, no permission, a quota."""


def write_file(path: Path, data: Any) -> None:
    """Write a file whole or not at all: beside its name, to the disk, and only then under its name.

    A writer that was killed leaves `<name>.partial`, which the next one overwrites: one process writes here at a time.

    Args:
        data: bytes, or anything with the buffer protocol.

    Raises:
        WriteError: it cannot be written.
    """
    make_folder(path.parent)
    partial = path.with_name(f"{path.name}.partial")
    size = memoryview(data).nbytes
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            _sync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise WriteError(f"{path}: cannot write {size:,} bytes: {_reason(error, path.parent)}") from error


def append_line(path: Path, line: str) -> None:
    """Append a line to a file, on the disk; one that a kill or power loss cuts off does not spoil the next.

    Raises:
        WriteError: it cannot be written.
    """
    try:
        is_new = not path.exists()
        with path.open("ab") as file:
            file.write(f"\n{line}".encode())
            file.flush()
            _sync(file.fileno())
        if is_new:
            _sync_folder(path.parent)
    except OSError as error:
        raise WriteError(f"{path}: cannot write {len(line):,} bytes: {_reason(error, path.parent)}") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, on the disk.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        if folder.is_dir():
            return
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made: {_reason(error, folder.parent)}") from error


def remove(path: Path) -> None:
    """Remove a file, if it is there, on the disk too."""
    path.unlink(missing_ok=True)
    if path.parent.is_dir():
        _sync_folder(path.parent)


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder whose contents are on the disk; a folder of the new name is replaced.

    Raises:
        WriteError: it cannot be renamed.
    """
    make_folder(new.parent)
    try:
        if new.is_dir():
            shutil.rmtree(new)
        old.rename(new)
        _sync_folder(new.parent)
    except OSError as error:
        raise WriteError(f"{new}: cannot rename {old} to it: {_reason(error, new.parent)}") from error


class Journal:
    """The marks of what is written into an unfinished store, each on the disk before its file.

    A job that is killed between a file and what speaks of it (the state beside the store) leaves a newer file than the
    state has; so a file may be as it was at the last save, or as it was written any time after that.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._file = root, root / JOURNAL

    def note(self, name: str, data: Any) -> None:
        """Say what is about to be written under a name."""
        append_line(self._file, json.dumps([name, *mark_of(name, memoryview(data).cast("B"))]))

    def write_state(self, state: Path, data: Any) -> None:
        """Write the file beside the store that speaks of all that was written so far, and so is not to be older."""
        self.note(f"../{state.name}", data)
        write_file(state, data)
        append_line(self._file, "[]")

    def resume(self, state: Path) -> None:
        """Go on in a store that a killed job left; of one without a journal, files are taken as they are.

        Raises:
            PlacementError: a file, or the state, is not one that was written under its name.
        """
        name = f"../{state.name}"
        found = self._found() | {name: mark_of_file(self._root, name)}
        if self._file.exists():
            self.check(self._marks(), found)
            return
        known = found
        if (self._root / MANIFEST).exists():  # killed at the very end
            known = {**read_manifest(self._root), name: found[name]}
        write_file(self._file, "\n".join(json.dumps([name, *mark]) for name, mark in sorted(known.items())).encode())
        self.check({name: [mark] for name, mark in known.items()}, found)

    def finish(self) -> None:
        """Write the manifest in the journal's place.

        Raises:
            PlacementError: a file is not what was written last under its name.
        """
        for name in [name for name in files_below(self._root) if name.endswith(".partial")]:
            remove(self._root / name)  # of a write that was killed
        found = self._found()
        self.check({name: marks[-1:] for name, marks in self._marks().items()}, found)
        write_file(self._root / MANIFEST, manifest_of(found))
        remove(self._file)

    @staticmethod
    def check(written: dict[str, list[Mark]], found: dict[str, Mark]) -> None:
        for name, mark in found.items():
            if name not in written:
                raise PlacementError(stray(name))
            if mark not in written[name]:
                raise PlacementError(f"{name} {OTHER}")

    def _found(self) -> dict[str, Mark]:
        names = [name for name in files_below(self._root) if not name.endswith(".partial")]
        return {name: mark_of_file(self._root, name) for name in names}

    def _marks(self) -> dict[str, list[Mark]]:
        """What each file may be, the last last."""
        marks: dict[str, list[Mark]] = {}
        for line in self._file.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):  # a line that was cut off: its file was not written
                match json.loads(line or "null"):
                    case [str(name), int(size), str(mark)]:
                        marks.setdefault(name, []).append((size, mark))
                    case []:
                        marks = {name: known[-1:] for name, known in marks.items()}
        return marks


class DurableStore(LocalStore):
    """A Zarr store in a folder whose files are written by `write_file`, and whose `journal` says which they are.

    Zarr writes several chunks at once and does not wait for the others when one fails; here nothing is written after a
    failure, which every later write repeats, so that the folder may be given to another writer.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.journal = Journal(self.root)
        self._one_at_a_time = threading.Lock()
        self._failure = ""  # what the first was

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        async for name in super().list_dir(prefix):
            if name not in (JOURNAL, MANIFEST):  # which zarr would warn of
                yield name

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await asyncio.to_thread(self._write, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not (self.root / key).exists():
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        self._write(key, value)

    def _write(self, key: str, value: Buffer) -> None:
        with self._one_at_a_time:
            if self._failure:
                raise WriteError(self._failure)
            try:
                self.journal.note(key, value.as_numpy_array())
                write_file(self.root / key, value.as_numpy_array())
            except BaseException as error:
                self._failure = str(error) or repr(error)
                raise


def _sync(descriptor: int) -> None:
    """Put a file on the disk; macOS needs more than fsync to empty the drive's own cache (fcntl(2))."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, full)


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where its file system can (some networked ones, and Windows, cannot)."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError, folder: Path) -> str:
    free = ""
    with contextlib.suppress(OSError):
        while not folder.exists():
            folder = folder.parent
        free = f" ({shutil.disk_usage(folder).free:,} bytes are free there)"
    return f"{error.strerror}{free}; what was saved before is kept: mend this and start again to continue"
