"""The contents of a network's tensors, with copies of them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COPIED_BYTES = 1 << 28
"""What all copies may take: 256 MiB. Of larger tensors a copy is made only before they are written to."""


class Content:
    """The bytes of one storage, which several tensors may share.

    Attributes:
        where: which module and attribute have it first.
        nbytes: of the storage.
        copy: the bytes as they were found; None without a copy.
    """

    def __init__(self, where: str, storage: torch.UntypedStorage) -> None:
        self.where, self._storage, self.nbytes = where, storage, storage.nbytes()
        self.copy: Tensor | None = None
        self._view: Tensor | None = None

    @property
    def bytes(self) -> Tensor:
        """A view; writing to it leaves the version counters of tensors alone.  uint8, shape [nbytes]."""
        if self._view is None or self._storage.nbytes() != self.nbytes:
            if self._storage.nbytes() != self.nbytes:
                self._storage.resize_(self.nbytes)
            empty = torch.empty(0, dtype=torch.uint8, device=self._storage.device)
            self._view = empty.set_(self._storage)  # type: ignore[call-overload]
        return self._view  # type: ignore[return-value]

    def keep(self) -> None:
        """Make a copy, if there is none yet."""
        if self.copy is None:
            self.copy = self.bytes.clone()


class Contents:
    """The contents of all tensors that were met."""

    def __init__(self) -> None:
        self._by_storage: dict[int, Content] = {}
        self._room = COPIED_BYTES
        self._written: list[Content] = []  # those that a forward pass writes to

    def of(self, where: str, tensor: Tensor) -> Content:
        """That of a tensor."""
        storage = tensor.untyped_storage()
        return self._by_storage.setdefault(storage._cdata, Content(where, storage))

    def has_room(self, num_bytes: int) -> bool:
        """Whether a copy of so many bytes may be made; if so, it is counted."""
        fits = num_bytes <= self._room
        self._room -= num_bytes if fits else 0
        return fits

    def copy(self) -> None:
        """Copy contents, the smallest first, as long as there is room."""
        for content in sorted(self._by_storage.values(), key=lambda content: content.nbytes):
            if self.has_room(content.nbytes):
                content.keep()

    @property
    def are_missing(self) -> bool:
        """Whether there was no room for all copies."""
        return any(content.copy is None for content in self._by_storage.values())

    def before_write(self, tensor: Tensor) -> None:
        """Copy what is about to be written to, whatever room that takes."""
        if tensor.layout is torch.strided and tensor.device.type != "meta":
            content = self._by_storage.get(tensor.untyped_storage()._cdata)
            if content is not None:
                content.keep()
                self._is_written(content)

    def compare(self) -> None:
        """Find what was written to unseen; from now on it is put back whether it seems to have changed or not."""
        for content in self._by_storage.values():
            if content.copy is not None and not torch.equal(content.bytes, content.copy):
                self._is_written(content)

    def put_back(self, changed: Iterable[Content]) -> None:
        """Write the copies of what changed, and of what is known to be written to.

        Raises:
            ValueError: there is no copy.
        """
        for content in changed:
            self._is_written(content)
        if lost := [content.where for content in self._written if content.copy is None]:
            raise ValueError(
                f"{lost[0]!r}: a later batch changed it, where the first did not, and a copy of it was too large to be "
                "kept; the network is not as it was found"
            )
        if self._written:
            copies = [content.copy for content in self._written if content.copy is not None]
            torch._foreach_copy_([content.bytes for content in self._written], copies)

    def _is_written(self, content: Content) -> None:
        if content not in self._written:
            self._written.append(content)


class TensorCell:
    """One tensor as it was found.

    Attributes:
        content: of its storage.
    """

    def __init__(self, tensor: Tensor, content: Content) -> None:
        self.content = content
        self._tensor, self._alias = tensor, tensor.data
        self._place = _place(tensor)
        self._version = None if tensor.is_inference() else tensor._version
        self._requires_grad, self._grad = tensor.requires_grad, tensor.grad if tensor.is_leaf else None

    def put_back(self) -> bool:
        """All but the content; whether that was written to."""
        tensor = self._tensor
        if _place(tensor) != self._place:  # something was assigned to .data
            tensor.data = self._alias
        if tensor.is_leaf:
            if tensor.requires_grad != self._requires_grad:
                tensor.requires_grad_(self._requires_grad)
            if tensor.grad is not self._grad:
                tensor.grad = self._grad
        if self._version is None or tensor._version == self._version:
            return False
        torch._C._autograd._unsafe_set_version_counter((tensor,), (self._version,))  # its content is as it was
        return True


def _place(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()
