"""Test a fitted network with Lightning's own loops, in one process."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ProgressBar
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset

from hwr.charset import Charset
from hwr.errors import RunError
from hwr.inference import writer_context
from hwr.reporting import metrics
from hwr.runs import run_folder
from hwr.training.module import CharacterClassifier


def single_process(trainer: Trainer) -> Trainer:
    """Return a trainer of one process, so that each test image counts once.

    The others have ended their part when the fit is over.
    """
    if trainer.world_size == 1:
        return trainer
    torch.distributed.destroy_process_group()
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return Trainer(
        accelerator="cpu" if trainer.strategy.root_device.type == "cpu" else "auto",
        devices=1,
        precision=trainer.precision,
        logger=trainer.loggers,
        callbacks=[c for c in callbacks if not isinstance(c, Checkpoint | ProgressBar)],
        default_root_dir=trainer.default_root_dir,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def test(
    trainer: Trainer, model: LightningModule, data: Any, ckpt_path: str | None
) -> dict[str, float]:
    """Test with the weights of the best epoch, or of the last one.

    Args:
        trainer: Of one process.
        model: The LightningModule.
        data: The data module.
        ckpt_path: Checkpoint of the best epoch; its validation metrics are measured again.

    Returns:
        What was logged.

    Raises:
        RunError: The test loss is NaN or infinite.
    """
    found: dict[str, Tensor] = {}
    if ckpt_path:
        trainer.validate(
            model, datamodule=data, ckpt_path=ckpt_path, weights_only=True, verbose=False
        )
        found |= trainer.callback_metrics
    if has_step(model, "test_step") and trainer.limit_test_batches != 0:
        trainer.test(model, datamodule=data, verbose=False)
        found |= trainer.callback_metrics
    values = {name: float(value) for name, value in found.items()}
    if not math.isfinite(values.get("test/loss", 0.0)):
        raise RunError(
            f"test/loss is {values['test/loss']}: the weights have grown too large; "
            "a lower optimizer.lr may help"
        )
    return values


def has_step(model: LightningModule, name: str) -> bool:
    """Return whether a LightningModule has a step of its own."""
    return getattr(type(model), name) is not getattr(LightningModule, name)


class Images(IterableDataset[Any]):
    """The images of a data loader's batches, for a `predict_step` that calls `forward` on them."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return (batch[0] for batch in self.loader)


def predict(trainer: Trainer, model: LightningModule, data: Any) -> tuple[Tensor, Tensor]:
    """Predict the test images that were tested.

    Returns:
        Logits, shape (N, C), empty where the model gives none, and labels, shape (N,).
    """
    loader: Any = data.test_dataloader()
    batches = tested_batches(trainer, loader)
    label = [batch[1] for batch, _ in zip(loader, range(batches), strict=False)]
    given = (
        loader if has_step(model, "predict_step") else DataLoader(Images(loader), batch_size=None)
    )
    found = trainer.predict(model, dataloaders=given) or []
    logits = [one for one in found[:batches] if isinstance(one, Tensor) and one.ndim == 2]
    if not label or len(logits) != len(label):
        return torch.empty(0, len(data.charset)), torch.empty(0, dtype=torch.long)
    return torch.cat(logits).float().cpu(), torch.cat(label)


def tested_batches(trainer: Trainer, loader: Any) -> int:
    """Return how many batches the test was limited to."""
    limit, count = trainer.limit_test_batches, len(loader)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return min(count, int(trainer.fast_dev_run))  # type: ignore[attr-defined]
    return int(limit * count) if isinstance(limit, float) else min(count, int(limit))


def is_partial(trainer: Trainer, data: Any) -> bool:
    """Return whether the test was limited or skipped, so that the run is not ranked."""
    loader: Any = data.test_dataloader()
    fast: Any = trainer.fast_dev_run  # type: ignore[attr-defined]
    return bool(fast) or tested_batches(trainer, loader) < len(loader)


def measured(logits: Tensor, label: Tensor, charset: Charset) -> dict[str, float]:
    """Compute the test metrics from logits (N, C) and labels (N,); none without logits."""
    if not len(logits) or logits.shape[1] != len(charset):
        return {}
    found = metrics.evaluate(functional.log_softmax(logits, dim=1), label, charset)
    return {f"test/{name}": value for name, value in found.items()}


def rows(
    data: Any, logits: Tensor, label: Tensor
) -> tuple[list[run_folder.Prediction], NDArray[np.int64] | None]:
    """Build the rows of `predictions.csv`, and tell who wrote each test image, if that is known."""
    count = len(logits)
    scores = functional.log_softmax(logits, dim=1)
    files, groups = [str(number) for number in range(count)], None
    if hasattr(data, "parts"):
        test = data.parts.test[:count]
        files = [data.dataset.files[row] for row in test]
        groups = None if data.dataset.writers is None else data.dataset.writers[test]
    return run_folder.rows_of(files, label.numpy(), scores, data.charset), groups


@torch.inference_mode()
def with_writer_context(model: CharacterClassifier, data: Any) -> dict[str, float]:
    """Measure accuracies with writer context, where the writers are known."""
    dataset, test = data.dataset, data.parts.test
    if dataset.writers is None:
        return {}
    network: Any = model.model.cpu().float().eval()
    images = torch.cat([batch[0] for batch in data.test_dataloader()])
    known = dataset.labels[test].numpy(), dataset.writers[test], dataset.charset
    found = writer_context.metrics(network, writer_context.embed(network, images), *known)
    return {f"test/{name}": value for name, value in found.items()}
