"""An independent recount: one step of a finished run, counted again without the code that counted it first.

The stores are opened with xarray, the network is built below in plain torch from the stored tensors, and the patterns
are packed and counted with NumPy: `packbits` and `unique`. From reluscope come only the images, normalised and in their
fixed order (`reluscope.data.load` of the run's data section). Every layer's keys and counts are compared to the last
pattern; the exit status is 1 if any differ, 2 if the run cannot be recounted. Run it in the study's working directory,
on the machine that counted it (its CPU) and with as many threads, because a pattern bit can hang on the last bit of a
convolution:

    python tests/benchmarks/recount.py results/runs/toynet20-seed0 --step 0

ToyNet, ConvNet and ResNet of any depth with ReLU, and 8, 16, 32 or 64 channels a layer. All keys stay in memory:
ToyNet-20 over the 50,000 images of CIFAR-10 takes 1.8 GB for them, 4.3 GB at its peak, and 100 seconds.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from reluscope.data import DataSpec, ImageSet, load

BATCH_SIZE = 128
"""Images in a batch (Hartmann et al. 2021): batch-norm normalises each by its own statistics."""

HAS_SHORTCUTS = {"toynet": False, "convnet": False, "resnet": True}


class Block(nn.Module):
    """BN, ReLU, convolution, twice; plus the block's input, strided by slicing and padded with zero channels."""

    def __init__(self, in_width: int, out_width: int, stride: int, has_shortcut: bool) -> None:
        super().__init__()
        self.bn1, self.relu1 = nn.BatchNorm2d(in_width), nn.ReLU()
        self.conv1 = nn.Conv2d(in_width, out_width, 3, stride, padding=1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(out_width), nn.ReLU()
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1, bias=False)
        self.stride, self.padding, self.has_shortcut = stride, (out_width - in_width) // 2, has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(x))))))
        if not self.has_shortcut:
            return out
        strided = x[:, :, :: self.stride, :: self.stride]
        return out + F.pad(strided, (0, 0, 0, 0, self.padding, self.padding))


def build(spec: dict[str, Any], state: dict[str, Tensor]) -> nn.Sequential:
    """The pre-activation network of a stored spec in a stored state, channels_last and in training mode."""
    width, in_channels = state["conv.weight"].shape[:2]
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(in_channels, width, 3, padding=1, bias=False))
    for s, out_width in enumerate(spec["widths"]):
        stage = nn.Sequential()
        for b in range((spec["depth"] - 2) // 6):
            stride = 2 if s > 0 and b == 0 else 1
            stage.add_module(f"block{b}", Block(width, out_width, stride, HAS_SHORTCUTS[spec["name"]]))
            width = out_width
        network.add_module(f"stage{s + 1}", stage)
    network.add_module("bn", nn.BatchNorm2d(width))
    network.add_module("relu", nn.ReLU())
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("linear", nn.Linear(width, len(state["linear.bias"])))
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def stored_state(weights: xr.Dataset, step: int) -> dict[str, Tensor]:
    """Every tensor of the run at `step`, by its name in the state dict."""
    state: dict[str, Tensor] = {}
    for kind in ("parameters", "buffers", "integer_buffers"):
        vector = torch.from_numpy(weights[kind].sel(step=step).values.copy())
        for entry in weights[kind].attrs["entries"]:
            shape, start = torch.Size(entry["shape"]), entry["offset"]
            state[entry["name"]] = vector[start : start + shape.numel()].view(shape)
    return state


def keys_of(preactivation: Tensor) -> NDArray[Any]:
    """The key of each position, channel c at bit c: [n, channels, h, w] -> [n, h, w], unsigned."""
    bits = (preactivation > 0).permute(0, 2, 3, 1).numpy()
    key_bytes = np.packbits(bits, axis=-1, bitorder="little")
    return key_bytes.view(f"<u{key_bytes.shape[-1]}")[..., 0]


def keys_by_layer(network: nn.Module, images: ImageSet) -> list[NDArray[Any]]:
    """The keys of all positions, an array [images, h, w] a layer in forward order."""
    layers: list[NDArray[Any]] = []
    batch_keys: list[NDArray[Any]] = []

    def append(module: nn.Module, args: tuple[Tensor]) -> None:
        batch_keys.append(keys_of(args[0]))

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(append)
    with torch.no_grad():
        for start in range(0, len(images), BATCH_SIZE):
            batch_keys.clear()
            network(images[start : start + BATCH_SIZE])
            if not layers:  # allocated whole: an array a batch took 22 GB instead of 4, between torch's own
                layers = [np.empty((len(images), *keys.shape[1:]), keys.dtype) for keys in batch_keys]
            for layer, keys in zip(layers, batch_keys, strict=True):
                layer[start : start + BATCH_SIZE] = keys
    return layers


def stored_counts(shard: Path, layer: int, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Keys and counts of one layer at the `index`-th step of a counts store."""
    group = xr.open_zarr(shard, group=f"layer{layer:03d}")
    here = slice(*group["indptr"].values[index : index + 2].tolist())
    return group["keys"].isel(pattern=here).values, group["counts"].isel(pattern=here).values


def find_shard(run: Path, step: int) -> tuple[Path, xr.Dataset]:
    """The counts store that holds `step`."""
    counted: list[int] = []
    for path in sorted(run.glob("counts/*.zarr")):
        shard = xr.open_zarr(path)
        if step in shard["step"].values:
            return path, shard
        counted += shard["step"].values.tolist()
    if not counted:
        raise FileNotFoundError(f"{run}: expected counts/<shard>.zarr in this folder, but there is none")
    nearest = min(counted, key=lambda other: abs(other - step))
    raise ValueError(f"--step: expected a counted step of {run} (nearest: {nearest}), but got {step}")


def check_settings(network: dict[str, Any], batch_size: int) -> None:
    """Refuse a run that this script would count otherwise than the project, as it is no difference of the counts."""
    if network["name"] not in HAS_SHORTCUTS or network["activation"] != "relu":
        expected = f"expected one of {', '.join(HAS_SHORTCUTS)} with relu"
        raise ValueError(f"network: {expected}, but got {network['name']} with {network['activation']}")
    if batch_size != BATCH_SIZE:
        raise ValueError(f"counting.batch_size: expected {BATCH_SIZE}, but got {batch_size}")


def recount(run: Path, step: int) -> bool:
    """Counts every layer of the run's network at `step` and prints how it compares; whether all agree."""
    path, shard = find_shard(run, step)
    weights = xr.open_zarr(run / "weights.zarr")
    check_settings(weights.attrs["network"], shard.attrs["batch_size"])
    training = shard.attrs["training"]
    images = load(DataSpec.from_config({k: v for k, v in training["data"].items() if k != "fingerprint"})).train
    layers = keys_by_layer(build(weights.attrs["network"], stored_state(weights, step)), images)

    names, index = shard["layer_name"].values.tolist(), shard["step"].values.tolist().index(step)
    print(f"{run}, step {step}: {len(layers)} layers over {len(images):,} images, {len(names)} layers in {path.name}")
    print(f"{'layer':<5} {'layer_name':<26} {'positions':>11} {'recounted':>11} {'stored':>11}")
    agree = len(layers) == len(names)
    for layer, name in enumerate(names[: len(layers)]):
        keys, counts = np.unique(layers[layer], return_counts=True)
        stored_keys, stored = stored_counts(path, layer, index)
        same = np.array_equal(keys, stored_keys) and np.array_equal(counts, stored)
        agree &= same
        row = f"{layer:<5} {name:<26} {counts.sum():>11,} {len(keys):>11,} {len(stored_keys):>11,}"
        print(f"{row} {'agree' if same else 'DIFFER'}", flush=True)
    return agree


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's results folder, which holds weights.zarr and counts")
    parser.add_argument("--step", type=int, default=0, help="a counted step (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="of torch, as in the counting job (default 1)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3 specification")
    started = time.perf_counter()
    try:
        agree = recount(arguments.run, arguments.step)
    except (OSError, ValueError) as error:
        print(f"recount: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{'All layers agree' if agree else 'The counts DIFFER'}; {time.perf_counter() - started:.0f} s")
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
