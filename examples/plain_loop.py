"""Record the activation patterns of a network in a plain PyTorch loop, and draw their entropy.

    python plain_loop.py

Stopped and started again, it goes on from its last checkpoint, and so does the recording. Once it has finished, delete
counts.zarr and checkpoint.pt to record anew.
"""

from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import reluscope

EPOCHS = 4
CHECKPOINT = Path("checkpoint.pt")


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images[:1000, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[:1000])
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(32 * 16, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(images, labels), batch_size=100, shuffle=True)
    first_epoch = 0
    if CHECKPOINT.exists():
        state = torch.load(CHECKPOINT)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        first_epoch = state["epoch"]

    step = first_epoch * len(loader)
    with reluscope.PatternRecorder(network, images, "counts.zarr") as recorder:
        recorder.rewind(step)  # what a stopped training did after its checkpoint is done again
        recorder.record(step, epoch=first_epoch)
        for epoch in range(first_epoch, EPOCHS):
            for inputs, targets in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(inputs), targets).backward()
                optimizer.step()
                step += 1
                if step % 5 == 0:
                    recorder.record(step, epoch=step / len(loader))
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1}
            recorder.save()  # before the checkpoint, so that it never lags behind
            torch.save(state, CHECKPOINT)

    counts = reluscope.open_counts("counts.zarr")
    for row, step in enumerate(counts.steps):
        entropies = [reluscope.measures.entropy(counts.at(row, layer)) for layer in range(len(counts.layer_names))]
        print(f"step {step:3}: entropy", *(f"{bits:5.2f}" for bits in entropies))


if __name__ == "__main__":
    main()
