"""What a checkpoint's file holds, and how it comes into a network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from reluscope.checkpoint_files.manifest import Entry, digest

WRAPPINGS = ("state_dict", "model_state_dict", "model", "network", "net")
"""Keys under which a state dict is commonly saved, in the order they are looked for."""

PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What DataParallel, torch.compile and common wrappers put before the names of parameters."""

_LISTED = 8  # names that a message lists


class CheckpointFiles:
    """Loads the steps of a run of files, each only if its bytes are those that its entry says."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.step: entry for entry in entries}

    def load_into(self, network: nn.Module, step: int) -> None:
        """Put the network into the state of `step`: parameters, and what buffers the file has.

        Raises:
            ValueError: the file changed since the manifest was written, cannot be read, or is of another network.
        """
        entry = self._entries[step]
        if digest(entry.file) != entry.sha256:
            raise ValueError(f"{entry.file}: changed since its manifest was written; start again to count it as it is")
        load_state(entry.file, network)


def load_state(file: str, network: nn.Module) -> None:
    """Load a checkpoint's parameters and buffers into a network, in the network's own precision.

    Batch-norm's running statistics may be missing: counting takes each batch's own.

    Raises:
        ValueError: the file cannot be read, or tensors are missing, unexpected or of another shape: all in one line.
    """
    expected = {name: tensor for name, tensor in network.state_dict().items() if isinstance(tensor, Tensor)}
    found = _unprefixed(_state_dict(read_file(file), file), expected)
    unused = {
        f"{name}.{buffer}" if name else buffer
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        for buffer, _ in module.named_buffers(recurse=False)
    }
    parts = [f"missing {n} {list(t.shape)}" for n, t in expected.items() if n not in found and n not in unused]
    parts += [f"unexpected {n} {list(t.shape)}" for n, t in found.items() if n not in expected]
    parts += [
        f"{n} {list(found[n].shape)} instead of {list(t.shape)}"
        for n, t in expected.items()
        if n in found and found[n].shape != t.shape
    ]
    if parts:
        more = [f"and {len(parts) - _LISTED} more"] if len(parts) > _LISTED else []
        raise ValueError(f"{file} does not fit the network: {'; '.join(parts[:_LISTED] + more)}")
    if absent := [name for name in expected if name not in found]:
        print(f"{file}: without {len(absent)} running statistics of batch-norm, which counting does not use")
    with torch.no_grad():
        for name, tensor in found.items():
            expected[name].copy_(tensor)


def step_field(file: str, key: str) -> int:
    """The step that a file holds under `key`; of .safetensors, in its metadata.

    Raises:
        ValueError: the file cannot be read, or has no whole number there.
    """
    content = _metadata(file) if Path(file).suffix == ".safetensors" else read_file(file)
    value = content.get(key) if isinstance(content, Mapping) else None
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(
            f"checkpoints.step: {file} has no whole number under {key!r}, but holds {keys[:200] or 'nothing'}"
        )
    return value


def read_file(file: str) -> Any:
    """What a checkpoint's file holds, on the CPU; nothing in it is run.

    Raises:
        ValueError: torch refuses it, or it is damaged; one line that says what to do.
    """
    try:
        if Path(file).suffix == ".safetensors":
            return _safetensors(file).torch.load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        held = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"{file}: torch does not load it with weights_only=True"
            f"{f', because it holds a {held[1]}' if held else ''}; save its weights alone: "
            "torch.save(network.state_dict(), file)"
        ) from error
    except ValueError:
        raise
    except Exception as error:  # what a damaged or foreign file makes of the readers
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{file}: cannot be read: {reason}") from error


def _safetensors(file: str) -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(f"{file}: needs the package safetensors; pip install 'reluscope[safetensors]'") from error
    return safetensors


def _metadata(file: str) -> Mapping[str, str]:
    try:
        with _safetensors(file).safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except ValueError:
        raise
    except Exception as error:  # safetensors has an error of its own
        raise ValueError(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}") from error


def _state_dict(content: Any, file: str) -> dict[str, Tensor]:
    """The tensors by name, out of the wrappings that they are commonly saved in."""
    inner = content
    while isinstance(inner, Mapping) and (wrapping := next((k for k in WRAPPINGS if _is_mapping(inner.get(k))), None)):
        inner = inner[wrapping]
    items = inner.items() if _is_mapping(inner) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        held = ", ".join(map(str, content)) if _is_mapping(content) else f"a {type(content).__name__}"
        raise ValueError(
            f"{file}: expected parameters by name, alone or under {', '.join(WRAPPINGS)}, but it holds {held[:200]}"
        )
    return tensors


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _unprefixed(found: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what wrappers put before every name, unless the network's own names begin so."""
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in found)), None):
        if all(name.startswith(prefix) for name in expected):
            break
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found
