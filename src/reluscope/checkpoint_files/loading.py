"""What a checkpoint's file holds, and how it comes into a network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reluscope.checkpoint_files.fitting import load_tensors
from reluscope.checkpoint_files.kinds import require_sound, what_it_is
from reluscope.checkpoint_files.manifest import Entry, digest
from reluscope.checkpoint_files.naming import Expected, naming

WRAPPINGS = (
    "state_dict",
    "model_state_dict",
    "model",
    "network",
    "net",
    "module",
    "model_state",
    "network_weights",
    "params",
    "weights",
)
"""Keys under which a state dict is commonly saved, in the order they are looked for."""

_UNREADABLE = "damaged, cut off, or not made by torch.save(network.state_dict(), file)"


class CheckpointFiles:
    """Loads the steps of a run of files, each only if its bytes are those that its entry says."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.step: entry for entry in entries}
        self._said: set[str] = set()

    def load_into(self, network: nn.Module, step: int) -> None:
        """Put the network into the state of `step`: parameters, and what buffers the file has.

        What a person should know of a file is said once, of the first one of which it is true.

        Raises:
            ValueError: the file changed since the manifest was written, cannot be read, or is of another network.
        """
        entry = self._entries[step]
        if digest(entry.file) != entry.sha256:
            raise ValueError(f"{entry.file}: changed since its manifest was written; start again to count it as it is")
        for note in load_state(entry.file, network):
            if note not in self._said:
                print(f"{entry.file}: {note}", flush=True)
                self._said.add(note)


def load_state(file: str, network: nn.Module) -> list[str]:
    """Load a checkpoint's parameters and buffers into a network, in the network's own precision.

    They come in through the network's `load_state_dict`, with its hooks. Tied weights may be there by one of their
    names, and batch-norm's running statistics may be missing, because counting takes each batch's own. The network is
    left as it was where the file is refused.

    Returns:
        What a person should know, a line each: what the file has and the network does not take, say.

    Raises:
        ValueError: the file cannot be read, or lacks what the network needs, or has it in another shape or kind of
            numbers: all in one line.
    """
    content = read_file(file)
    require_sound(file)
    return load_tensors(_state_dict(content, file, network), file, network)


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
        if what := what_it_is(file):
            raise ValueError(f"{file}: {what}") from error
        held = re.search(r"GLOBAL (\S+)", str(error))
        if held is None:
            raise ValueError(f"{file}: {_UNREADABLE}") from error
        raise ValueError(
            f"{file}: torch does not load it with weights_only=True, because it holds a {held[1]}; save its weights "
            "alone: torch.save(network.state_dict(), file)"
        ) from error
    except ValueError:
        raise
    except Exception as error:  # what a damaged or foreign file makes of the readers
        reason = f"cannot be read: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if isinstance(error, EOFError | IndexError | KeyError):  # the unpickler's, which say nothing
            reason = _UNREADABLE
        if not isinstance(error, OSError):
            reason = what_it_is(file) or reason
        raise ValueError(f"{file}: {reason}") from error


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


def _state_dict(content: Any, file: str, network: nn.Module) -> Mapping[str, Any]:
    """The tensors by name, out of the wrappings that they are commonly saved in: of several, those that fit."""
    held = list(_state_dicts(content))
    if not held:
        what = ", ".join(map(str, content)) if _is_mapping(content) else f"a {type(content).__name__}"
        raise ValueError(
            f"{file}: expected parameters by name, alone or under {', '.join(WRAPPINGS)}, but it holds {what[:200]}"
        )
    if len(held) > 1:
        expected = Expected.of(network)
        fitting = [one for one in held if naming(one[1], expected)[0]]
        if len(fitting) != 1:
            places = " and ".join(place for place, _ in fitting or held)
            raise ValueError(f"{file}: holds parameters under {places}; save those that are meant alone")
        held = fitting
    return held[0][1]


def _state_dicts(content: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Where there are tensors by name, and these."""
    if not _is_mapping(content):
        return
    inner = [one for key in WRAPPINGS for one in _state_dicts(content.get(key), f"{place}.{key}" if place else key)]
    if inner:
        yield from inner
    elif any(isinstance(value, Tensor) for value in content.values()):
        named = OrderedDict(
            (str(name), value)
            for name, value in content.items()
            if isinstance(value, Tensor) or str(name).endswith("_extra_state")
        )
        if hasattr(content, "_metadata"):  # by which hooks tell old files from new ones
            named._metadata = content._metadata  # type: ignore[attr-defined]
        yield place, named


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
