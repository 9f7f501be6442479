"""What of the machine decides the bits of a result, for a store's attributes."""

from __future__ import annotations

from typing import Any

import torch


def machine(device: torch.device) -> dict[str, Any]:
    """Name of the device, and torch's number of threads on a CPU: sums are split among them."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "threads": None}
    return {"device": device.type, "threads": torch.get_num_threads()}
