"""The LightningModule around any network that classifies characters."""

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from hydra.utils import get_object
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from hwr import models
from hwr.charset import Charset
from hwr.config.instantiate import instantiate, words
from hwr.errors import ConfigError, RunError
from hwr.inference import checkpoint, trust
from hwr.reporting import metrics
from hwr.reporting.loggers import logged_metrics

CARD = (*("charset", "height", "width", "channels", "preprocessing", "image_statistics", "about"),)
"""Hyper-parameters that a checkpoint repeats under `hwr`, where a Recognizer reads them."""
SAFE_MODULES = (
    *("torch.optim", "torch.optim.lr_scheduler"),
    *("hwr.training.optimizers", "hwr.training.schedulers"),
)
"""Modules whose optimizers and schedulers a checkpoint may name."""


def fill(function: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Select the values that the signature of a class or function names."""
    names = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if name in names}


class CharacterClassifier(LightningModule):
    """Train and test a network from images (N, channels, H, W) from 0 to 1 to logits (N, C).

    Logs `train/`, `val/` and `test/` metrics once an epoch: `loss`, `acc` and the others of
    `hwr.reporting.metrics.collection`. All hyper-parameters are plain values, so that checkpoints
    load with weights only.

    Args:
        charset: Class names in label order, C of them, or a Charset.
        model: Node of the network: `_target_` and arguments. `num_classes`, `in_channels`,
            `height` and `width` are filled in where its signature names them.
        network: The network itself, where `model` names a class that isn't of hwr.
        optimizer: Node of the optimizer; `params` is filled in. None: the default of the class.
        scheduler: Node of the learning-rate scheduler, with Lightning's `interval`, `frequency`
            and `monitor`; `total_steps` is filled in where its signature names it. None: constant.
        height: Of an image, in pixels.
        width: Of an image, in pixels.
        channels: 1 for gray, 3 for color.
        preprocessing: How an image file becomes an array: `notebook` or `ink`.
        image_statistics: What the training images look like (`ImageStatistics`), plain values;
            None: measured before the fit where the data module has `image_statistics()`.
        label_smoothing: Share of the target that is spread over all classes, 0 to below 1.
        about: What else the checkpoint says of the training, plain values.

    Raises:
        RunError: `model` names another network than that of this class, or none that is trusted.
    """

    target: ClassVar[str | None] = None
    default_optimizer: ClassVar[dict[str, Any]] = {"_target_": "torch.optim.AdamW", "lr": 1e-3}

    def __init__(
        self,
        charset: Charset | Sequence[str],
        model: Mapping[str, Any] | None = None,
        network: nn.Module | None = None,
        optimizer: Mapping[str, Any] | None = None,
        scheduler: Mapping[str, Any] | None = None,
        *,
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        preprocessing: str = "notebook",
        image_statistics: Mapping[str, Any] | None = None,
        label_smoothing: float = 0.0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if "lightning.pytorch" in sys.modules:
            warnings.warn(
                "hwr needs the Trainer of pytorch_lightning; that of lightning rejects its models",
                stacklevel=2,
            )
        self.charset = charset if isinstance(charset, Charset) else Charset(tuple(charset))
        shape = {"num_classes": len(self.charset), "in_channels": channels}
        shape |= {"height": height, "width": width}
        node = {**({"_target_": self.target} if self.target else {}), **(model or {})}
        if self.target and node["_target_"] != self.target:
            raise RunError(f"{type(self).__name__} is not for {node['_target_']}")
        kind = trust.resolve(node["_target_"]) if network is None else type(network)
        node = fill(kind, shape) | node
        self.save_hyperparameters(
            {
                "charset": list(self.charset.names),
                "model": node,
                "optimizer": dict(self.default_optimizer if optimizer is None else optimizer),
                "scheduler": dict(scheduler or {}),
                "height": height,
                "width": width,
                "channels": channels,
                "preprocessing": preprocessing,
                "image_statistics": image_statistics,
                "label_smoothing": label_smoothing,
                "about": dict(about or {}),
            },
            logger=False,
        )
        self.model: Any = trust.build(node) if network is None else network
        collection = metrics.collection(self.charset)
        self.train_metrics, self.val_metrics = collection.clone(), collection.clone()
        self._train_outputs: list[tuple[Tensor, Tensor]] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def on_fit_start(self) -> None:
        """Measure the training images, which inference brings other images to."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.hparams["image_statistics"] is None and hasattr(data, "image_statistics"):
            recenter = not isinstance(self.model, models.GlyphNet)  # it finds the ink itself
            self.hparams["image_statistics"] = data.image_statistics(recenter)

    def forward(self, image: Tensor) -> Tensor:
        """Compute logits (N, C) of images (N, channels, H, W)."""
        return self.model(image)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Compute the loss of a batch of images and labels."""
        image, label = batch[:2]
        logits = self(image)
        self._train_outputs.append((logits.detach(), label))
        return self.loss(logits, label)

    def loss(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the mean cross-entropy."""
        smoothing: float = self.hparams["label_smoothing"]
        return functional.cross_entropy(logits, label, label_smoothing=smoothing)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Compute the logits of a batch."""
        image, label = batch[:2]
        self._outputs.append((self(image), label))

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Compute the logits of a batch."""
        image, label = batch[:2]
        logits = self(image)
        self._outputs.append((logits, label))
        return {"logits": logits, "label": label}

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Compute logits (N, C) of a batch of images, or of images and labels."""
        return self(batch if isinstance(batch, Tensor) else batch[0])

    # Metrics are computed once an epoch over all its logits: the same values as after every
    # batch, for a fraction of the time that updates after each step of a small network take.

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Log the training metrics after the last batch, dropout on, as Keras does.

        Callbacks see them in their `on_train_epoch_end`.
        """
        if self.trainer.is_last_batch:
            self._log_metrics("train", self.train_metrics, self._train_outputs)

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of an epoch that `max_steps` has cut off."""
        if self._train_outputs:
            self._log_metrics("train", self.train_metrics, self._train_outputs)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("val", self.val_metrics, self._outputs)

    def on_test_epoch_end(self) -> None:
        """Log the test metrics, with calibration error and areas under curves.

        With several processes they are the mean over the processes; hwr-train tests in one.
        """
        logits, label = (torch.cat(parts).cpu() for parts in zip(*self._outputs, strict=True))
        self._outputs.clear()
        log_probability = functional.log_softmax(logits.float(), dim=1)
        values = metrics.evaluate(log_probability, label, self.charset)
        self.log_dict({f"test/{name}": value for name, value in values.items()}, sync_dist=True)

    def _log_metrics(
        self, stage: str, collection: MetricCollection, outputs: list[tuple[Tensor, Tensor]]
    ) -> None:
        logits, label = (torch.cat(parts) for parts in zip(*outputs, strict=True))
        outputs.clear()
        collection.update(logits.float(), label)
        values = metrics.drop_undefined(collection.compute())  # of all processes
        collection.reset()
        once: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": 1}
        for name, value in values.items():
            on_bar = name in ("loss", "acc")
            self.log(f"{stage}/{name}", value, prog_bar=on_bar, sync_dist=True, **once)

    def configure_optimizers(self) -> Any:
        """Instantiate optimizer and scheduler from their nodes."""
        node = self.hparams["optimizer"]
        params: Any = self.parameters()
        if hasattr(self.model, "parameter_groups"):
            params = self.model.parameter_groups(node.get("lr"))
        optimizer: Optimizer = instantiate(node, "optimizer", params)
        node = dict(self.hparams["scheduler"])
        if not node:
            return optimizer
        settings = {k: node.pop(k) for k in ("interval", "frequency", "monitor") if k in node}
        try:
            target = get_object(node["_target_"])
        except Exception as error:  # importing a user's module may raise anything
            raise ConfigError(f"scheduler._target_: {words(error)}") from error
        if "total_steps" in inspect.signature(target).parameters:
            node.setdefault("total_steps", int(self.trainer.estimated_stepping_batches))
        settings["scheduler"] = instantiate(node, "scheduler", optimizer)
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a Recognizer needs, and the metrics of the epoch."""
        checkpoint["hwr"] = {
            **{name: self.hparams[name] for name in ("model", *CARD)},
            "state_dict_prefix": "model.",
            "metrics": logged_metrics(self.trainer),
        }

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **settings: Any) -> Self:
        """Load as every LightningModule does, and trust nothing that the file names.

        Raises:
            RunError: The file names an optimizer or scheduler that is neither torch's nor of hwr;
                give your own, such as `optimizer={"_target_": …}`.
        """
        checkpoint.read(Path(checkpoint_path))
        model = super().load_from_checkpoint(checkpoint_path, *args, **settings)
        for name in ("optimizer", "scheduler"):  # of the model: a file has them in several places
            node = dict(model.hparams[name])
            target = str(node.pop("_target_", "torch.optim."))
            safe = target.rpartition(".")[0] in SAFE_MODULES and _is_plain(node)
            if not safe and name not in settings:
                raise RunError(
                    f"{checkpoint_path} names the {name} {target}, which isn't torch's or hwr's "
                    f"own; give {name}= yourself"
                )
        return model


def _is_plain(value: Any) -> bool:
    """Tell whether settings name nothing that Hydra would call, import or resolve."""
    if isinstance(value, Mapping):
        return all(not str(key).startswith("_") and _is_plain(v) for key, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return not (isinstance(value, str) and "${" in value)
