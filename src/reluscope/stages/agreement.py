"""What is compared was made of the same images, where the config says that it was."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from reluscope import stores
from reluscope.data.digest import require_same_data
from reluscope.study import Study

KINDS = ("weights", "counts", "measure")


def require_configured_data(study: Study, made: Iterable[tuple[str, str]], folder: str = "") -> None:
    """Refuse stores whose runs have the same data section, but that were made of different training images.

    Args:
        made: (run, path) of each store.
        folder: in which results/ lies; the working directory without it.

    Raises:
        StoreError: names two that differ.
    """
    by_data: dict[str, dict[str, dict[str, Any]]] = {}
    for run, path in made:
        store = Path(folder, path)
        section = study.runs[run].spec.data.to_dict()
        images = {key: value for key, value in section.items() if key not in ("augmentation", "test_images")}
        known = by_data.setdefault(json.dumps(images, sort_keys=True, default=str), {})
        known[str(store)] = stores.attributes_of(store, *KINDS)
    for of_one_section in by_data.values():
        require_same_data(of_one_section)
