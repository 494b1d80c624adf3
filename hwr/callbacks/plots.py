"""Plot what a model learned, for every logger that takes images and for the run folder."""

import contextlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from hwr.charset import Charset
from hwr.reporting import figures, grids
from hwr.reporting.loggers import log_image
from hwr.reporting.results import MAX_POINTS, TestResult, draw, save, write_events


class Plots(Callback):
    """Draw learning curves, confusion matrix, errors and more when the test ends.

    Works with any LightningModule whose `test_step` returns `{"logits": (B, C), "label": (B,)}`,
    and any batches `(image, label, ...)` with images (B, 1 or 3, H, W); otherwise it does nothing.
    Class names come from the `charset` of the data module or the LightningModule, if there is one.

    The plots go to TensorBoard, W&B and MLflow, where the trainer has these loggers; the confusion
    matrix, the errors, the reliability diagram and the learning curves also become PNG files.
    TensorBoard also gets the graph, embeddings (`features(image)` of the network, else the logits),
    precision-recall curves, and tables.

    Args:
        folder: Where the PNG files go; None: the trainer's `default_root_dir`.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self.history: dict[int, dict[str, float]] = {}
        """Epoch, from 1, to its metrics."""
        self._epoch = 0
        self._has_batch = False
        self._example: Tensor | None = None
        self._outputs: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the metrics of all epochs."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the metrics of earlier epochs.

        An older checkpoint that is loaded for the test takes no later epochs away.
        """
        self.history = {**state_dict["history"], **self.history}

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the metrics of the epoch that has just ended."""
        self._record(trainer, "train/")
        checkpoint["callbacks"][self.state_key] = self.state_dict()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the epoch before: a module may log metrics after `on_train_epoch_end` of this."""
        self._record(trainer, "train/")
        self._epoch = trainer.current_epoch + 1

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the last epoch."""
        self._record(trainer, "train/")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the validation metrics, and let TensorBoard show them beside those of training."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._record(trainer, "val/")
        if len(self.history) == 1:
            tags = [tag.removeprefix("val/") for tag in self.history[self._epoch]]
            charts = {tag: ["Multiline", [f"^(train|val)/{tag}$"]] for tag in tags}
            for logger in _tensorboards(trainer):
                logger.experiment.add_custom_scalars({"training and validation": charts})

    def _record(self, trainer: Trainer, prefix: str) -> None:
        """Keep the metrics of the current epoch whose names begin with a prefix."""
        if self._epoch:
            metrics = trainer.callback_metrics.items()
            values = {name: float(value) for name, value in metrics if name.startswith(prefix)}
            self.history.setdefault(self._epoch, {}).update(values)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the first batch as it reaches the model."""
        if self._has_batch or not trainer.is_global_zero:
            return
        self._has_batch = True
        if parts := _images_and_labels(batch):
            images, label = _to_uint8(parts[0]).numpy(), parts[1].cpu().numpy()
            charset = _charset(trainer, pl_module, int(label.max()) + 1)
            png = grids.batch(images, label, charset, trainer.current_epoch + 1)
            for logger in trainer.loggers:
                log_image(logger, "train/batch", png, trainer.global_step)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._outputs.clear()

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
        parts = _images_and_labels(batch)
        if not parts or not isinstance(outputs, dict) or not {"logits", "label"} <= outputs.keys():
            return
        logits: Tensor = outputs["logits"].detach().float().cpu()
        features, embedding = getattr(_network(pl_module), "features", None), logits
        if callable(features) and _tensorboards(trainer):
            embedding = features(parts[0]).float().cpu()
            if embedding.ndim > 2:  # the feature maps of a network of torchvision
                embedding = embedding.flatten(2).mean(dim=2)
        self._example = parts[0][:1]
        self._outputs.append((_to_uint8(parts[0]), outputs["label"].cpu(), logits, embedding))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and write everything."""
        outputs = list(self._outputs)
        self._outputs.clear()
        if trainer.world_size > 1:
            ranks: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(ranks, outputs)
            outputs = [batch for rank in ranks for batch in rank]
        if not outputs or not trainer.is_global_zero:
            return
        images, label, logits, embedding = (
            torch.cat(parts).numpy() for parts in zip(*outputs, strict=True)
        )
        probability = torch.from_numpy(logits).softmax(dim=1).nan_to_num().numpy()
        charset = _charset(trainer, pl_module, logits.shape[1])
        result = TestResult(images, label, probability, charset)
        network = _network(pl_module)
        plots = draw(result, type(network).__name__)
        if self.history:
            test = {name: float(value) for name, value in trainer.callback_metrics.items()}
            plots["test/curves"] = figures.curves(self.history, test)
        weight = _first_filters(network, images.shape[1:])
        if weight is not None:
            plots["weights/first_layer"] = grids.filters(weight)
        save(plots, Path(self.folder or trainer.default_root_dir))
        for logger in trainer.loggers:
            for tag, png in plots.items():
                log_image(logger, tag, png, trainer.global_step)
        for tensorboard in _tensorboards(trainer):
            writer = tensorboard.experiment
            write_events(writer, result, embedding[:MAX_POINTS], trainer.global_step)
            _write_graph(writer, network, self._example)


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


def _images_and_labels(batch: Any) -> tuple[Tensor, Tensor] | None:
    """Return images (B, 1 or 3, H, W) and labels (B,) of a batch; None if it is another."""
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        image, label = batch[:2]
        if isinstance(image, Tensor) and isinstance(label, Tensor):
            fits = image.ndim == 4 and image.shape[1] in (1, 3) and label.ndim == 1
            return (image, label) if fits and not label.is_floating_point() else None
    return None


def _to_uint8(image: Tensor) -> Tensor:
    """Convert images to uint8 on the CPU; those that a transform normalized are rescaled."""
    image = image.detach().cpu()
    if image.dtype == torch.uint8:
        return image
    image = image.float()
    low, high = min(0.0, float(image.min())), max(1.0, float(image.max()))
    return ((image - low) * (255 / (high - low))).round().byte()


def _first_filters(network: nn.Module, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
    """Return the weights of the first layer as images (K, 1 or 3, h, w), if it sees images."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight = layer.weight.detach().float().cpu()
            if weight.ndim == 2:
                fits = weight.shape[1] == np.prod(shape)
                return weight.reshape(-1, *shape).numpy() if fits else None
            return weight.numpy() if weight.shape[1] in (1, 3) else None
    return None


def _write_graph(writer: Any, network: nn.Module, example: Tensor | None) -> None:
    """Write the operations of a network; one that cannot be traced has no graph."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(None),
        contextlib.suppress(Exception),
    ):
        warnings.simplefilter("ignore")  # what the tracer tells of itself
        writer.add_graph(network, example)
