"""Sees every operation that runs, whatever called it: below torch's functions, and in threads that begin meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Probe(TorchDispatchMode):
    """Calls `before(operation, args, kwargs)` and `after(operation, args, kwargs, result, what before returned)`."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it away from this mode

    def __init__(self, before: Callable[..., Any], after: Callable[..., None]) -> None:
        super().__init__()
        self._before, self._after = before, after

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        kept = self._before(func, args, kwargs)
        result = func(*args, **kwargs)
        self._after(func, args, kwargs, result, kept)
        return result


@contextmanager
def probing_new_threads(before: Callable[..., Any], after: Callable[..., None]) -> Iterator[None]:
    """Probes threads that begin inside, whose `before` is told so, because modes of torch are a thread's own."""
    begin, is_on = threading.Thread.start, True

    def run(usual: Callable[[], None]) -> None:
        with Probe(lambda *call: before(*call, elsewhere=True) if is_on else None, after):
            usual()

    def start(self: threading.Thread) -> None:
        self.run = partial(run, self.run)  # type: ignore[method-assign]
        begin(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start, is_on = begin, False  # type: ignore[method-assign]
