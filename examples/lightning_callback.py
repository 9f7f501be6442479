"""A Lightning callback that records the activation patterns of the module while it trains.

    trainer = lightning.Trainer(callbacks=[RecordPatterns(images, "counts.zarr", every=100)])

Lightning asks of a callback only that it has these methods; where Lightning is installed this one is a real `Callback`.
"""

from typing import Any

import torch
from torch import nn

import reluscope

try:
    from lightning.pytorch import Callback
except ImportError:  # the methods are all there is to it
    Callback = object  # type: ignore[assignment, misc]


class RecordPatterns(Callback):  # type: ignore[misc]
    """Records every `every`-th step, the first and the last, on the first process only.

    Args:
        images: what is counted, float tensor [n, ...]: the training images without augmentation.
        path: the store, ending in .zarr.
        every: steps from one record to the next.
        settings: further arguments of `reluscope.PatternRecorder`.
    """

    def __init__(self, images: torch.Tensor, path: str, every: int = 1, **settings: Any) -> None:
        self.images, self.path, self.every, self.settings = images, path, every, settings
        self.recorder: reluscope.PatternRecorder | None = None
        self.epoch = 0.0

    def on_train_start(self, trainer: Any, pl_module: nn.Module) -> None:
        if trainer.is_global_zero:
            self.recorder = reluscope.PatternRecorder(pl_module, self.images, self.path, **self.settings)
            self.recorder.rewind(trainer.global_step)  # what a stopped training did from here on is done again
            self.epoch = float(trainer.current_epoch)
            self._record(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: nn.Module, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.epoch = trainer.current_epoch + (batch_idx + 1) / trainer.num_training_batches
        if trainer.global_step % self.every == 0:  # the same step again while gradients are accumulated
            self._record(trainer)

    def on_save_checkpoint(self, trainer: Any, pl_module: nn.Module, checkpoint: dict[str, Any]) -> None:
        if self.recorder:
            self.recorder.save()  # so that the recording never lags behind a checkpoint

    def on_train_end(self, trainer: Any, pl_module: nn.Module) -> None:
        if self.recorder:
            self._record(trainer)
            self.recorder.close()

    def on_exception(self, trainer: Any, pl_module: nn.Module, exception: BaseException) -> None:
        if self.recorder:
            self.recorder.close(finish=False)  # it goes on with the next training

    def _record(self, trainer: Any) -> None:
        step = trainer.global_step
        if self.recorder and (self.recorder.last_step is None or step > self.recorder.last_step):
            self.recorder.record(step, epoch=self.epoch)
