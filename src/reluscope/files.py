"""Files that are whole on the disk before anything speaks of them, through kills and power loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore


class WriteError(OSError):
    """A file could not be written: no room, no permission, a quota."""


def write_file(path: Path, data: Any) -> None:
    """Write a file whole or not at all: beside its name, to the disk, and only then under its name.

    A writer that was killed leaves `<name>.partial`, which the next one overwrites: one process writes here at a time.

    Args:
        data: bytes, or anything with the buffer protocol.

    Raises:
        WriteError: it cannot be written; what was there before is untouched.
    """
    partial = path.with_name(f"{path.name}.partial")
    size = memoryview(data).nbytes
    try:
        make_folder(path.parent)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
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
    if folder.is_dir():
        return
    try:
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"{folder}: cannot be made: {_reason(error, folder.parent)}") from error


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
    """A Zarr store in a folder whose files are written by `write_file`."""

    async def set(self, key: str, value: Buffer) -> None:
        self._check_writable()
        await asyncio.to_thread(write_file, self.root / key, value.as_numpy_array())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not (self.root / key).exists():
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        write_file(self.root / key, value.as_numpy_array())


def _sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk; where a system cannot open folders, it keeps them itself."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError, folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return (
        f"{error.strerror} ({shutil.disk_usage(folder).free:,} bytes are free there); what was saved before is kept: "
        "mend this and start again to continue"
    )
