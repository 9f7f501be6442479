"""Files that are whole on the disk before anything speaks of them, through kills and power loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import threading
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

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


class DurableStore(LocalStore):
    """A Zarr store in a folder whose files are written by `write_file`.

    Zarr writes several chunks at once and does not wait for the others when one fails; here nothing is written after a
    failure, which every later write repeats, so that the folder may be given to another writer.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._one_at_a_time = threading.Lock()
        self._failure = ""  # what the first was

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
