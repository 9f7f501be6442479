"""Networks and checkpoints of others, from saved state_dicts to heatmaps: by the workflow and by the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from clone import Clone
from numpy.typing import NDArray
from torch import Tensor, nn

from reluscope import build_network, cli, open_counts
from reluscope.counts import CountsStore
from reluscope.data import load
from reluscope.data.spec import DataSpec

BATCH = 8

MODULE = """
from torch import nn

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 20, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, tokens):
        return self.layers(tokens).mean(1)
"""

NETWORKS = {
    "resnet18": ("torchvision.models:resnet18", {"num_classes": 10}, "images.npz", (0, 10)),
    "vgg11_bn": ("torchvision.models:vgg11_bn", {"num_classes": 10}, "images.npz", (10,)),  # half a gigabyte a file
    "encoder": ("own_encoder:Encoder", {}, "tokens.npz", (0, 10)),
}

CONFIG = """
study: own
data: {name: arrays, path: images.npz}
counting: {batch_size: 8}
runs:
  resnet18:
    network: {import: "torchvision.models:resnet18", arguments: {num_classes: 10}}
    checkpoints: {files: resnet18}
  vgg11_bn:
    network: {import: "torchvision.models:vgg11_bn", arguments: {num_classes: 10}}
    checkpoints: {files: vgg11_bn}
  encoder:
    network: {import: "own_encoder:Encoder"}
    checkpoints: {files: encoder}
    data: {name: arrays, path: tokens.npz}
figures:
  f: {runs: [resnet18, vgg11_bn, encoder], measures: [entropy, distinct_patterns]}
"""


@contextmanager
def preactivations(network: nn.Module) -> Iterator[list[Tensor]]:
    """What enters each ReLU of a forward pass, as plain hooks see it; in an encoder what a first linear layer gives."""
    seen: list[Tensor] = []
    relus = [m for m in network.modules() if isinstance(m, nn.ReLU)]
    linears = [m.linear1 for m in network.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    handles = [m.register_forward_pre_hook(lambda module, given: seen.append(given[0].clone())) for m in relus]
    handles += [m.register_forward_hook(lambda module, given, result: seen.append(result.clone())) for m in linears]
    yield seen
    for handle in handles:
        handle.remove()


def patterns_of(network: nn.Module, images: Tensor) -> list[NDArray[np.bool_]]:
    """The bits of each layer at each position, [positions, channels]."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    by_batch = []
    for start in range(0, len(images), BATCH):
        with torch.no_grad(), preactivations(network) as seen:
            network(images[start : start + BATCH])
        channels_last = [x.movedim(1, -1) if x.ndim == 4 else x for x in seen]
        by_batch.append([(x.reshape(-1, x.shape[-1]) > 0).numpy() for x in channels_last])
    return [np.concatenate(layer) for layer in zip(*by_batch, strict=True)]


def assert_counts(store: CountsStore, network: nn.Module, images: Tensor, index: int) -> None:
    """Each layer's counts are those of its distinct rows; whole patterns are compared where a key holds them."""
    expected = patterns_of(network, images)
    assert len(store.layer_names) == len(expected)
    for layer, bits in enumerate(expected):
        found = store.at(index, layer)
        rows, counts = np.unique(bits, axis=0, return_counts=True)
        assert sorted(found.counts.tolist()) == sorted(counts.tolist())
        if bits.shape[1] <= 64:
            keys = (rows.astype(np.uint64) << np.arange(bits.shape[1], dtype=np.uint64)).sum(axis=1)
            assert dict(zip(found.keys.tolist(), found.counts.tolist(), strict=True)) == dict(
                zip(keys.tolist(), counts.tolist(), strict=True)
            )


@pytest.mark.slow
def test_saved_networks_become_heatmaps(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = Clone(repository, tmp_path)
    clone.configure(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_encoder.py").write_text(MODULE)
    random = np.random.default_rng(0)
    np.savez("images.npz", images=random.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8))
    np.savez("tokens.npz", images=random.normal(size=(20, 7, 12)).astype(np.float32))
    for name, (path, arguments, _, steps) in NETWORKS.items():
        Path(name).mkdir()
        for step in steps:
            torch.manual_seed(step)
            torch.save(build_network(path, arguments=arguments).state_dict(), f"{name}/step{step}.pt")

    clone.run()
    assert (tmp_path / "results/figures/f.png").is_file()
    for name, (path, arguments, data, steps) in NETWORKS.items():
        given = [f"--argument={key}={value}" for key, value in arguments.items()]
        count = ["count", "--network", path, *given, "--data", data, f"--batch-size={BATCH}", "--threads=1"]
        assert cli.main([*count, f"--output={name}.zarr", name]) == 0
        assert cli.main(["measure", f"{name}.zarr", "--measure", "entropy", f"--output={name}-entropy.zarr"]) == 0
        store, network = open_counts(f"{name}.zarr"), build_network(path, arguments=arguments)
        images = load(DataSpec.from_config({"name": "arrays", "path": data})).train[:]
        by_workflow = open_counts(*(tmp_path / "results/runs" / name / "counts").iterdir())
        assert store.steps.tolist() == by_workflow.steps.tolist() == list(steps)
        for index, step in enumerate(steps):
            network.load_state_dict(torch.load(f"{name}/step{step}.pt", weights_only=True))
            assert_counts(store, network, images, index)
            for layer in range(len(store.layer_names)):
                one, other = store.at(index, layer), by_workflow.at(index, layer)
                np.testing.assert_array_equal(one.keys, other.keys)
                np.testing.assert_array_equal(one.counts, other.counts)
    stores = [f"{name}-entropy.zarr" for name in NETWORKS]
    assert cli.main(["plot", *stores, "--output", "entropy.png", "--time", "step"]) == 0
    assert (tmp_path / "entropy.png").is_file()
