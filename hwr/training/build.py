"""Instantiate what the settings name: data, network, callbacks, loggers, trainer."""

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import DictConfig, open_dict
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import (
    Checkpoint,
    LearningRateMonitor,
    ModelCheckpoint,
    ProgressBar,
    Timer,
)

from hwr.callbacks import AtomicCheckpointIO, NothingChosenByTest, SaveCard
from hwr.config.checks import nearest
from hwr.config.compose import plain
from hwr.config.instantiate import instantiate, words
from hwr.data import CharacterDataModule
from hwr.errors import ConfigError, RunError
from hwr.inference import checkpoint
from hwr.inference.loading import model_file
from hwr.models.pretrained import load_pretrained_backbone
from hwr.runs import run_folder
from hwr.training.module import CNN, MLP, CharacterClassifier, GlyphNet, fill

MODULES: dict[str, type[CharacterClassifier]] = {
    kind.target: kind for kind in (MLP, CNN, GlyphNet) if kind.target
}
GROUPS = ("callbacks", "logger", "default_root_dir")
"""Arguments of the Trainer that come from elsewhere than the group trainer."""


def build_data(config: DictConfig) -> LightningDataModule:
    """Instantiate the data module: the user's own, or hwr's around a dataset.

    Raises:
        ConfigError: The node can't be instantiated.
        DataError: The dataset is missing, broken, or cannot be split as asked.
    """
    kind = _class(config.data, "data")
    if issubclass(kind, LightningDataModule):
        data: LightningDataModule = instantiate(config.data, "data")
        data.prepare_data()
        data.setup("fit")
        data.setup("test")
        return data
    module = CharacterDataModule(
        config.data,
        config.split,
        augment=config.augment,
        seed=config.seed,
        writer_batches=config.model.get("_target_") == GlyphNet.target,
    )
    module.setup()
    return module


def build_model(
    config: DictConfig, data: Any, about: dict[str, Any]
) -> tuple[LightningModule, list[Callback]]:
    """Instantiate the network and wrap it; a LightningModule is used as it is.

    Args:
        config: The settings.
        data: The data module.
        about: What the checkpoint is to say of the training.

    Returns:
        The LightningModule, and the callbacks that it needs.

    Raises:
        ConfigError: The node can't be instantiated.
    """
    node, kind = plain(config.model), _class(config.model, "model")
    channels, height, width = image_shape(data)
    shape = {"in_channels": channels, "height": height, "width": width}
    ours: dict[str, Any] = {
        "optimizer": plain(config.optimizer),
        "scheduler": plain(config.scheduler),
        "height": height,
        "width": width,
        "channels": channels,
        "preprocessing": getattr(data, "preprocessing", "notebook"),
        "frame": _frame(config, data),
        "label_smoothing": config.label_smoothing,
        "about": about,
    }
    classes = {"num_classes": len(data.charset), "charset": list(data.charset.names)}
    if issubclass(kind, LightningModule):
        given = {k: v for k, v in fill(kind, classes | shape | ours).items() if k not in node}
        model: LightningModule = instantiate(config.model, "model", **given)
        return model, [SaveCard(_card(node | given, data, ours))]
    if node["_target_"] in MODULES:
        wrapped = MODULES[node["_target_"]](data.charset, node, **ours)
        if not config.ckpt_path and not config.init_from:
            load_pretrained_backbone(wrapped)
        return wrapped, []
    given = {k: v for k, v in fill(kind, classes | shape).items() if k not in node}
    network = instantiate(config.model, "model", **given)
    if not isinstance(network, torch.nn.Module):
        raise ConfigError(f"model._target_={node['_target_']} must be an nn.Module")
    return CharacterClassifier(data.charset, node, network, **ours), []


def name_of(node: DictConfig) -> str:
    """Name a model as tables do: its class in small letters."""
    return str(node._target_).rpartition(".")[2].lower()


def image_shape(data: Any) -> tuple[int, int, int]:
    """Return channels, height and width of the images of a data module."""
    image = next(iter(data.test_dataloader()))[0]
    channels, height, width = image.shape[1:]
    return int(channels), int(height), int(width)


def load_weights(model: LightningModule, path: str) -> None:
    """Begin with the weights of another run; those of another size are left out, and named.

    Raises:
        RunError: There is no checkpoint, or nothing in it fits.
    """
    file = model_file(Path(path).expanduser())
    saved = checkpoint.read(file)["state_dict"]
    own = model.state_dict()
    fits = {name: w for name, w in saved.items() if name in own and w.shape == own[name].shape}
    if not fits:
        raise RunError(f"init_from={path} has no weights that fit this model")
    model.load_state_dict(fits, strict=False)
    if left := sorted(saved.keys() - fits.keys()):
        print(f"init_from: left out {', '.join(left)}", file=sys.stderr)


def build_callbacks(config: DictConfig, has_logger: bool, val_is_test: bool) -> list[Callback]:
    """Instantiate the callbacks; those whose `monitor` is null are left out.

    Args:
        config: The settings.
        has_logger: The run has a logger, which LearningRateMonitor needs.
        val_is_test: The validation images are the test images: nothing may be monitored.

    Raises:
        ConfigError: A node can't be instantiated.
    """
    nodes = [
        (key, node)
        for key, node in _nodes(config.callbacks, "callbacks")
        if not ("monitor" in node and node.monitor is None)
    ]
    callbacks: list[Callback] = [instantiate(node, key) for key, node in nodes]
    if not has_logger:
        callbacks = [c for c in callbacks if not isinstance(c, LearningRateMonitor)]
    if not sys.stderr.isatty():
        callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
    best = [c for c in callbacks if isinstance(c, ModelCheckpoint) and c.monitor]
    if config.monitor and not best:
        raise ConfigError(
            f"monitor={config.monitor} needs a ModelCheckpoint that saves the best epoch, and "
            "there is none; add callbacks=default"
        )
    guards = [NothingChosenByTest()] if val_is_test else []
    return [*callbacks, *guards, Timer(verbose=False)]


def build_loggers(config: DictConfig) -> list[Any]:
    """Instantiate the loggers.

    Raises:
        ConfigError: A node can't be instantiated, or its package is missing.
    """
    return [instantiate(node, key) for key, node in _nodes(config.logger, "logger")]


def build_trainer(
    config: DictConfig, callbacks: list[Callback], loggers: list[Any], validates: bool
) -> Trainer:
    """Instantiate Lightning's Trainer with all settings of the group.

    Args:
        config: The settings.
        callbacks: All of them.
        loggers: All of them.
        validates: There are validation images.

    Raises:
        ConfigError: The Trainer does not know a setting, or rejects its value.
    """
    for name in config.trainer:
        if name in GROUPS:
            raise ConfigError(f"trainer.{name} is set by the groups callbacks and logger")
        if name != "_target_" and not fill(Trainer, {str(name): None}):
            known = fill(Trainer, dict.fromkeys(Trainer.__init__.__annotations__))
            hint = nearest(str(name), known, "trainer.")
            raise ConfigError(f"Lightning's Trainer has no setting {name}{hint}")
    _quiet(bool(config.trainer.get("profiler")))
    flags = {"true": True, "false": False}
    deterministic = config.trainer.deterministic
    given: dict[str, Any] = {
        "callbacks": callbacks,
        "logger": loggers or False,
        "default_root_dir": config.output_dir,
        "plugins": [AtomicCheckpointIO()],
        "deterministic": flags.get(str(deterministic).lower(), deterministic),
    }
    bars = any(isinstance(c, ProgressBar) for c in callbacks)
    saves = any(isinstance(c, Checkpoint) for c in callbacks)
    defaults: dict[str, Any] = {"enable_progress_bar": bars, "enable_checkpointing": saves}
    if not validates:
        defaults["limit_val_batches"] = 0
    given |= {name: value for name, value in defaults.items() if name not in config.trainer}
    trainer: Trainer = instantiate(config.trainer, "trainer", **given)
    return trainer


def _frame(config: DictConfig, data: Any) -> dict[str, Any] | None:
    """Measure how ink lies in the training images of a data module of hwr."""
    if not hasattr(data, "parts"):
        return None
    return run_folder.frame_of(
        data.dataset, data.parts.train, config.model._target_ == GlyphNet.target
    )


def _nodes(group: Any, name: str) -> Iterator[tuple[str, DictConfig]]:
    """List the nodes of a group that holds one node, several by name, or both."""
    if not group:
        return
    children = {
        f"{name}.{key}": node
        for key, node in group.items_ex(resolve=False)
        if isinstance(node, DictConfig) and "_target_" in node
    }
    if "_target_" in group:
        own = group.copy()  # which keeps its parent, for interpolations
        with open_dict(own):
            for key in children:
                del own[key.removeprefix(f"{name}.")]
        yield name, own
    yield from children.items()


def _class(node: DictConfig, key: str) -> type:
    try:
        return get_class(node._target_)
    except Exception as error:
        raise ConfigError(f"{key}._target_: {words(error)}") from error


def _card(node: dict[str, Any], data: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Build what a checkpoint of a user's own LightningModule tells a Recognizer.

    Optimizers and schedulers are left out: inference needs none.
    """
    partial = {k for k, v in node.items() if isinstance(v, dict) and v.get("_partial_")}
    unused = partial | (node.keys() & {"optimizer", "scheduler"})
    names = ("height", "width", "channels", "preprocessing", "frame", "about")
    return {
        "model": node | dict.fromkeys(unused),
        "state_dict_prefix": "",
        "charset": list(data.charset.names),
        **{name: ours[name] for name in names},
    }


def _quiet(profiles: bool) -> None:
    """Leave out what Lightning says of itself; a profiler's table is among it."""
    level = logging.INFO if profiles else logging.WARNING
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    warnings.filterwarnings("ignore", ".*does not have many workers")
    warnings.filterwarnings("ignore", ".*with models that have no learning rate schedulers")
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", "The dirpath has changed")
    warnings.filterwarnings("ignore", "You requested to overfit")
    warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
    warnings.filterwarnings("ignore", "The number of training batches")  # hwr logs once an epoch
