"""What a file is that is no checkpoint, by its first bytes.  Free of torch."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

HEAD = 1024
"""So many bytes tell."""

_PIECE = 1 << 20  # bytes read at once

_PICTURES = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"%PDF": "a PDF document"}
_BINARY = {
    b"\x89HDF\r\n": "an HDF5 file, as Keras saves",
    b"\x93NUMPY": "a NumPy array (.npy)",
    b"\x1f\x8b": "compressed by gzip; unpack it first",
    b"\xfd7zXZ": "compressed by xz; unpack it first",
    b"BZh": "compressed by bzip2; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
    b"GGUF": "a GGUF file, as llama.cpp reads",
    **_PICTURES,
}


def mistaken_for_one(head: bytes) -> str | None:
    """What was saved in place of a checkpoint by git or a download, and what to do; None where it is nothing such.

    Args:
        head: the first HEAD bytes of a file.
    """
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n.")
    if text[:1] not in (b"v", b"/", b"<"):
        return None
    if text.startswith(b"version https://git-lfs.github.com/spec/"):
        size = re.search(rb"\nsize ([0-9]+)", head)
        of = f" of {int(size[1]):,} bytes" if size else ""
        return f"this is Git LFS's pointer to the file{of}, not the file; fetch it with git lfs pull"
    if b"/annex/objects/" in text[:200] and b"\0" not in head:
        return "this is git-annex's pointer to the file, not the file; fetch it with git annex get"
    if re.match(rb"(?i)<(!doctype\s+html|html|head|body)\b", text):
        title = re.search(rb"(?is)<title[^>]*>(.*?)</title>", head)
        named = f" ({' '.join(title[1].decode(errors='replace').split())[:60]})" if title else ""
        return f"this is a web page{named}, saved under the name of a checkpoint; download the file itself"
    if re.match(rb"(?i)<\?xml|<error\b", text):
        return "this is XML, as a server answers with an error; download the file itself"
    return None


def what_it_is(file: str) -> str | None:
    """What a file is that its readers refuse, and what to do; None where its first bytes do not tell."""
    with Path(file).open("rb") as opened:
        head = opened.read(HEAD)
    if what := mistaken_for_one(head):
        return what
    if not head:
        return "the file is empty"
    if not head.strip(b"\0"):
        return f"it begins with zeros ({Path(file).stat().st_size:,} bytes), as a broken copy does"
    for begins, what in _BINARY.items():
        if head.startswith(begins):
            return f"this is no checkpoint, but {what}"
    if not file.endswith(".safetensors") and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return "this is a safetensors file; rename it to .safetensors"
    if file.endswith(".safetensors") and (zipfile.is_zipfile(file) or head.startswith(b"\x80\x02")):
        return "this is a file of torch.save; rename it to .pt"
    if zipfile.is_zipfile(file):
        return _of_zip(file)
    if _is_text(head):
        return f"this is text, which begins {' '.join(head.decode().split())[:60]!r}"
    return None


def _of_zip(file: str) -> str | None:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return "this is a TorchScript program; save the weights alone: torch.jit.load(file).state_dict()"
    if names and all(name.endswith(".npy") for name in names):
        return "this is no checkpoint, but NumPy arrays (.npz)"
    if not any(name.endswith("data.pkl") for name in names):
        return f"this is a zip archive of other files, such as {names[0] if names else 'none'}"
    return None


def _is_text(head: bytes) -> bool:
    try:
        text = head[:512].decode()
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\n\r\t" for letter in text)


def require_sound(file: str) -> None:
    """Compare the checksums of a zip archive, as torch.save makes; torch.load does not.

    Nothing is said where none agrees: torch.save can be told to leave them out.

    Raises:
        ValueError: some agree, others do not.
    """
    if not zipfile.is_zipfile(file):
        return
    agree, damaged = False, []
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if not entry.file_size:
                continue
            try:
                with archive.open(entry) as opened:
                    while opened.read(_PIECE):
                        pass
                agree = True
            except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError):
                damaged.append(entry.filename)
    if agree and damaged:
        raise ValueError(f"{file}: damaged: {damaged[0]} in it does not have the checksum that it was saved with")
