"""Plot what a model learned, for every logger that takes images and for the run folder."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor, nn

from hwr.charset import Charset
from hwr.reporting import figures, results
from hwr.reporting.loggers import log_image


class Plots(Callback):
    """Draw learning curves, confusion matrix, errors and more when the test ends.

    Works with any LightningModule whose `test_step` returns `{"logits": (B, C), "label": (B,)}`,
    and any batches `(image, label, ...)` with images (B, 1 or 3, H, W); otherwise it does nothing.
    Class names come from the `charset` of the data module or the LightningModule, if there is one.

    The plots go to TensorBoard, W&B and MLflow, where the trainer has these loggers, and into PNG
    files. TensorBoard also gets embeddings (`features(image)` of the network, else the logits),
    a precision-recall curve, and a table.

    Args:
        folder: Where the PNG files go; None: the trainer's `default_root_dir`.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.history: dict[int, dict[str, float]] = {}
        """Epoch, from 1, to its metrics."""
        self._epoch = 0
        self._outputs: list[tuple[Tensor, ...]] = []

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the metrics of all epochs."""
        self._record(trainer)
        checkpoint["plots"] = self.history

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore the metrics of earlier epochs; those of later ones stay."""
        self.history = {**checkpoint.get("plots", {}), **self.history}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch before: a module may log metrics after `on_train_epoch_end` of this."""
        self._record(trainer)
        self._epoch = trainer.current_epoch + 1
        if len(self.history) == 1:
            tags = [tag[4:] for tag in self.history[1] if tag.startswith("val/")]
            charts = {tag: ["Multiline", [f"^(train|val)/{tag}$"]] for tag in tags}
            for logger in _tensorboards(trainer):
                logger.experiment.add_custom_scalars({"training and validation": charts})

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the last epoch."""
        self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        """Keep the metrics of training and validation as they are now."""
        metrics = trainer.callback_metrics.items()
        values = {k: float(value) for k, value in metrics if k.startswith(("train/", "val/"))}
        if self._epoch:
            self.history[self._epoch] = values

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch of the run as it reaches the model."""
        if trainer.global_step == batch_idx == 0 and trainer.is_global_zero and _has_images(batch):
            names = _charset(trainer, pl_module, int(batch[1].max()) + 1).names
            captions = [names[label] for label in batch[1].tolist()]
            plot = figures.grid("A training batch", _to_uint8(batch[0]).numpy(), captions)
            for logger in trainer.loggers:
                log_image(logger, "train/batch", plot, trainer.global_step)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep images, labels, logits and embeddings."""
        if not _has_images(batch) or not isinstance(outputs, dict) or "logits" not in outputs:
            return
        logits = embedding = outputs["logits"].float().cpu()
        features = getattr(_network(pl_module), "features", None)
        if callable(features) and _tensorboards(trainer):
            embedding = features(batch[0]).float().cpu()
            embedding = embedding.flatten(2).mean(dim=2) if embedding.ndim > 2 else embedding
        if batch_idx == 0:
            self._outputs.clear()
        self._outputs.append((_to_uint8(batch[0]), outputs["label"].cpu(), logits, embedding))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write everything."""
        if not self._outputs or not trainer.is_global_zero:
            return
        image, label, logits, embedding = map(torch.cat, zip(*self._outputs, strict=True))
        self._outputs.clear()
        probability = logits.softmax(dim=1).nan_to_num().numpy()
        charset = _charset(trainer, pl_module, logits.shape[1])
        result = figures.TestResult(image.numpy(), label.numpy(), probability, charset)
        plots = results.draw(result, type(_network(pl_module)).__name__)
        if self.history:
            test = {name: float(value) for name, value in trainer.callback_metrics.items()}
            plots["test/curves"] = figures.curves(self.history, test)
        results.save(plots, Path(self.folder or trainer.default_root_dir))
        for logger in trainer.loggers:
            for tag, plot in plots.items():
                log_image(logger, tag, plot, trainer.global_step)
        for logger in _tensorboards(trainer):
            results.write_test(logger.experiment, result, embedding.numpy(), trainer.global_step)


def _tensorboards(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def _network(module: LightningModule) -> nn.Module:
    """Return the network inside of a LightningModule, or the module itself."""
    network = getattr(module, "model", None)
    return network if isinstance(network, nn.Module) else module


def _charset(trainer: Trainer, module: LightningModule, classes: int) -> Charset:
    """Return the classes of the data or of the model; numbers if neither has any."""
    for owner in (getattr(trainer, "datamodule", None), module):
        names = getattr(owner, "charset", ())
        if len(names) >= classes:
            return names if isinstance(names, Charset) else Charset(tuple(map(str, names)))
    return Charset(tuple(map(str, range(classes))))


def _has_images(batch: Any) -> bool:
    """Return whether a batch begins with images (B, 1 or 3, H, W) and labels (B,)."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        return False
    image, label = batch[:2]
    are_tensors = isinstance(image, Tensor) and isinstance(label, Tensor)
    return are_tensors and (image.ndim, label.ndim) == (4, 1) and image.shape[1] in (1, 3)


def _to_uint8(image: Tensor) -> Tensor:
    """Convert images to uint8 on the CPU; those that a transform normalized are rescaled."""
    image = image.detach().float().cpu()
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return ((image - low) * (255 / (high - low))).round().byte()
