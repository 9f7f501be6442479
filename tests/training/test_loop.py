"""Same seed, same bits; a killed training ends with the bytes of one never killed; what was trained is dumped."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from reluscope import stores
from reluscope.checkpoints import open_weights
from reluscope.checkpoints import writer as writer_module
from reluscope.data import load
from reluscope.data.spec import DataSpec
from reluscope.networks import build_network
from reluscope.training import loop
from reluscope.training.methods import method_from_config
from reluscope.training.spec import TrainingSpec

DATA = DataSpec.from_config({"name": "digits", "images": 100, "test_images": 50})


def spec(method: str = "stepwise", network: str = "resnet8", every: int = 1, seed: int = 0, **numbers) -> TrainingSpec:
    numbers = {"epochs": 3, "batch_size": 40, **numbers}
    return TrainingSpec({"name": network}, DATA, method_from_config(method, numbers), seed, every)


def train(training: TrainingSpec, folder: Path):
    loop.train(training, folder / "weights.partial", folder / "weights.zarr")
    return open_weights(folder / "weights.zarr")


def state(store, training: TrainingSpec, step: int) -> dict[str, torch.Tensor]:
    network = build_network(in_channels=1, num_classes=10, **training.network)
    store.load_into(network, step)
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_steps_are_sgd_updates(tmp_path: Path) -> None:
    """Three updates repeated by hand: the dumped loss, gradients of the augmented batch, momentum and weight decay."""
    training = spec(epochs=1, weight_decay=0.01, milestones=[])
    store = train(training, tmp_path)
    images = load(DATA).train
    network = build_network(in_channels=1, num_classes=10, name="resnet8").to(memory_format=torch.channels_last)
    store.load_into(network, 0)
    network.train()
    momentum = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for step, index in loop._batches(training, training.timeline(), 0, torch.device("cpu")):
        logits = network(loop._augmented(images, index, training, step))
        loss = functional.cross_entropy(logits, images.labels[index])
        assert store.scalar("train_loss")[step] == pytest.approx(loss.item(), rel=1e-5)
        right = (logits.argmax(1) == images.labels[index]).float().mean()
        assert store.scalar("train_accuracy")[step] == pytest.approx(float(right))
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, p in network.named_parameters():
                momentum[name] = 0.9 * momentum[name] + p.grad + 0.01 * p
                p -= 0.1 * momentum[name]
        for name, tensor in state(store, training, step).items():
            torch.testing.assert_close(tensor, network.state_dict()[name], rtol=1e-4, atol=1e-5)
    assert [len(index) for _, index in loop._batches(training, training.timeline(), 0, torch.device("cpu"))] == [
        40,
        40,
        20,
    ]


def test_step_0_is_the_untouched_initialisation(tmp_path: Path) -> None:
    training = spec(seed=5)
    store = train(training, tmp_path)
    network = loop.initial_network(training, load(DATA))
    for name, tensor in state(store, training, 0).items():
        assert torch.equal(tensor, network.state_dict()[name])
    assert np.isnan(store.scalar("train_loss")[0])


def test_every_image_is_seen_once_an_epoch_in_a_new_order() -> None:
    training = spec(epochs=2)
    orders = [index for _, index in loop._batches(training, training.timeline(), 0, torch.device("cpu"))]
    first, second = torch.cat(orders[:3]), torch.cat(orders[3:])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not torch.equal(first, second)


def test_seeds_have_streams_of_their_own(tmp_path: Path) -> None:
    one, other = train(spec(seed=0), tmp_path / "0"), train(spec(seed=1), tmp_path / "1")
    assert not torch.equal(
        state(one, spec(), 0)["stage1.block0.conv1.weight"], state(other, spec(), 0)["stage1.block0.conv1.weight"]
    )
    seeds = {loop._seed(s, stream, c) for s in range(3) for stream in loop._STREAMS for c in range(3)}
    assert len(seeds) == 27


def test_augmentation_is_drawn_from_seed_and_step_alone() -> None:
    """Each image is one of the nine crops of its black-bordered original; another step or seed draws others."""
    images, index = load(DATA).train, torch.arange(40)
    originals = np.pad(images.images.numpy()[:40], ((0, 0), (0, 0), (1, 1), (1, 1)))
    crops = np.stack([originals[:, :, y : y + 8, x : x + 8] for y in range(3) for x in range(3)])  # [crop, n, 1, 8, 8]

    def drawn(seed: int, step: int) -> list[int]:
        torch.manual_seed(torch.seed())  # the global generator must not matter
        batch = loop._augmented(images, index, spec(seed=seed), step)
        pixels = (batch * images.std.view(1, -1, 1, 1) + images.mean.view(1, -1, 1, 1)).mul(255).round().numpy()
        matches = (crops == pixels).all(axis=(2, 3, 4))  # [crop, n]
        assert matches.any(axis=0).all()
        return matches.argmax(axis=0).tolist()

    assert len(set(drawn(0, 1))) > 5
    assert drawn(0, 1) == drawn(0, 1)
    assert drawn(0, 1) != drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)


def test_two_trainings_agree_byte_for_byte(tmp_path: Path, bytes_below) -> None:
    torch.rand(7)  # the global generator's state must not matter
    train(spec("cyclic"), tmp_path / "one")
    train(spec("cyclic"), tmp_path / "two")
    assert bytes_below(tmp_path / "one") == bytes_below(tmp_path / "two")


def test_thinned_dumps_are_the_same_states(tmp_path: Path) -> None:
    full, thin = train(spec(), tmp_path / "full"), train(spec(every=4), tmp_path / "thin")
    assert thin.steps.tolist() == [0, 4, 8, 9]
    for step in thin.steps.tolist():
        ours, theirs = state(thin, spec(), step), state(full, spec(), step)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert thin.evaluated_steps.tolist() == [3, 6, 9]  # each epoch's end, dumped or not
    assert thin.test_accuracy.tolist() == full.test_accuracy.tolist()


def test_test_accuracy_is_taken_each_epoch_with_running_statistics(tmp_path: Path) -> None:
    store = train(spec(), tmp_path)
    assert store.evaluated_steps.tolist() == [3, 6, 9]
    network = build_network(in_channels=1, num_classes=10, name="resnet8").to(memory_format=torch.channels_last).eval()
    store.load_into(network, 9)
    test = load(DATA).test
    with torch.no_grad():
        right = (network(test[0:50]).argmax(1) == test.labels).float().mean()
    assert store.test_accuracy[-1] == pytest.approx(float(right))


def test_learning_rates_are_noted(tmp_path: Path) -> None:
    store = train(spec(epochs=4), tmp_path)
    assert store.scalar("learning_rate")[1:].round(9).tolist() == [0.1] * 6 + [0.01] * 3 + [0.001] * 3


def test_batch_norm_momentum_is_the_methods(tmp_path: Path) -> None:
    """With momentum 1 the running mean is the last batch's mean alone."""
    training = spec(epochs=1, batch_norm_momentum=1.0)
    store = train(training, tmp_path)
    network = build_network(in_channels=1, num_classes=10, name="resnet8").to(memory_format=torch.channels_last)
    store.load_into(network, 2)
    *_, (step, index) = loop._batches(training, training.timeline(), 0, torch.device("cpu"))
    seen = []
    network.stage1.block0.bn1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    network(loop._augmented(load(DATA).train, index, training, step))
    torch.testing.assert_close(
        state(store, training, 3)["stage1.block0.bn1.running_mean"], seen[0], rtol=1e-4, atol=1e-5
    )


def test_an_interrupted_training_ends_with_the_same_bytes(tmp_path: Path, bytes_below, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "BLOCK_STEPS", 4)
    train(spec("fixup", "fixup_resnet8"), tmp_path / "whole")
    append, calls = writer_module.WeightsWriter.append, []

    def dying(self, *arguments) -> None:
        calls.append(1)
        if len(calls) in (3, 7, 8):
            raise KeyboardInterrupt
        append(self, *arguments)

    monkeypatch.setattr(writer_module.WeightsWriter, "append", dying)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train(spec("fixup", "fixup_resnet8"), tmp_path / "killed")
    train(spec("fixup", "fixup_resnet8"), tmp_path / "killed")
    assert bytes_below(tmp_path / "killed") == bytes_below(tmp_path / "whole")


def test_a_loss_that_is_not_finite_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(
        FloatingPointError, match=r"step \d+: the loss is (nan|inf); lower .*learning_rate \(now 1e\+30\)"
    ):
        train(spec(learning_rate=1e30), tmp_path)


def test_changed_settings_do_not_continue_old_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    monkeypatch.setattr(loop, "_run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(spec(), tmp_path)
    with pytest.raises(stores.StoreError, match="unfinished training with seed: 0, but now it is 1"):
        train(dataclasses.replace(spec(), seed=1), tmp_path)


def test_a_training_on_another_machine_stops_and_loses_nothing_until_it_is_told_to_go_on(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    """As a Slurm retry on another node does; what is saved stays, and its first steps are the first machine's."""
    monkeypatch.setattr(writer_module, "SAVE_SECONDS", -1.0)
    whole = train(spec(), tmp_path / "whole")
    append, calls = writer_module.WeightsWriter.append, []

    def dying(self, *arguments) -> None:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        append(self, *arguments)

    monkeypatch.setattr(writer_module.WeightsWriter, "append", dying)
    with pytest.raises(KeyboardInterrupt):
        train(spec(), tmp_path)
    monkeypatch.setattr(loop, "machine", lambda _: {"device": "cpu", "threads": 7})
    for _ in range(4):
        with pytest.raises(stores.StoreError, match=r"threads: 1, but now it is 7.*--config resume_elsewhere=true"):
            train(spec(), tmp_path)
    loop.train(spec(), tmp_path / "weights.partial", tmp_path / "weights.zarr", resume_elsewhere=True)
    assert "continues after step 4" in capsys.readouterr().out
    store = open_weights(tmp_path / "weights.zarr")
    assert (store.attributes["threads"], len(store.attributes["resumed"])) == (1, 1)
    assert {name: store.attributes["resumed"][0][name] for name in ("step", "threads")} == {"step": 4, "threads": 7}
    for step in whole.steps.tolist():  # on the same processor, after all
        one, other = state(whole, spec(), step), state(store, spec(), step)
        assert all(torch.equal(one[name], other[name]) for name in one)
