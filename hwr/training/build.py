"""Build data module and model from the settings."""

import sys
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import nn

from hwr.callbacks import SaveCard
from hwr.config.compose import plain
from hwr.config.instantiate import instantiate, words
from hwr.data import CharacterDataModule
from hwr.errors import ConfigError, RunError
from hwr.files import expand_user
from hwr.inference import checkpoint
from hwr.inference.loading import model_file
from hwr.models.pretrained import load_pretrained_backbone
from hwr.training.module import CARD, CharacterClassifier, fill
from hwr.training.networks import CNN, MLP, GlyphNet

MODULES = {kind.target: kind for kind in (MLP, CNN, GlyphNet)}


def build_data(config: DictConfig) -> Any:
    """Build the data module: the user's own, or hwr's around a dataset.

    Raises:
        ConfigError: The node can't be instantiated.
        DataError: The dataset is missing, broken, or cannot be split as asked.
    """
    data: LightningDataModule
    if issubclass(_class(config.data, "data"), LightningDataModule):
        data = instantiate(config.data, "data")
        for name in ("train_dataloader", "test_dataloader"):
            if not is_overridden(name, data):
                raise ConfigError(f"data: {type(data).__name__} needs a method {name}")
    else:
        data = CharacterDataModule(
            config.data,
            config.split,
            augment=config.augment,
            seed=config.seed,
            writer_batches=config.model.get("_target_") == GlyphNet.target,
        )
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    if not hasattr(data, "charset"):
        raise ConfigError(f"data: {type(data).__name__} needs an attribute charset (hwr.Charset)")
    return data


def build_model(
    config: DictConfig, data: Any, about: dict[str, Any]
) -> tuple[LightningModule, list[Callback]]:
    """Build the network and wrap it; a LightningModule is used as it is.

    Args:
        config: The settings.
        data: The data module.
        about: Description of the training, for the checkpoint.

    Returns:
        The LightningModule, and the callbacks that it needs.

    Raises:
        ConfigError: The node can't be instantiated.
        RunError: `init_from` has no weights that fit.
    """
    node, kind = plain(config.model), _class(config.model, "model")
    channels, height, width = next(iter(data.test_dataloader()))[0].shape[1:]
    arguments: dict[str, Any] = {
        "charset": list(data.charset.names),
        "optimizer": plain(config.optimizer),
        "scheduler": plain(config.scheduler),
        "height": height,
        "width": width,
        "channels": channels,
        "preprocessing": getattr(data, "preprocessing", "notebook"),
        "label_smoothing": config.label_smoothing,
        "about": about,
    }
    shape = {"num_classes": len(data.charset), "in_channels": channels}
    shape |= {"height": height, "width": width}
    own_module = issubclass(kind, LightningModule)
    offered = shape | arguments if own_module else shape
    given = {k: v for k, v in fill(kind, offered).items() if k not in node}
    callbacks: list[Callback] = []
    if node["_target_"] in MODULES:
        model: LightningModule = MODULES[node["_target_"]](model=node, **arguments)
        if not (config.ckpt_path or config.init_from):
            load_pretrained_backbone(model)
    elif own_module:
        model = instantiate(node, "model", **given)
        node |= given
        node |= dict.fromkeys({"optimizer", "scheduler"} & node.keys())  # inference needs none
        arguments["image_statistics"] = None
        if isinstance(data, CharacterDataModule):
            arguments["image_statistics"] = data.image_statistics()
        card = {name: arguments[name] for name in CARD}
        callbacks.append(SaveCard({**card, "model": node, "state_dict_prefix": ""}))
    elif issubclass(kind, nn.Module):
        network = instantiate(node, "model", **given)
        model = CharacterClassifier(model=node, network=network, **arguments)
    else:
        raise ConfigError(f"model._target_={node['_target_']} must be an nn.Module")
    if config.init_from and not config.ckpt_path:
        _load_weights(model, config.init_from)
    if config.compile:
        (model.model if isinstance(model, CharacterClassifier) else model).compile()
    return model, callbacks


def _class(node: DictConfig, key: str) -> type:
    try:
        return get_class(node._target_)
    except Exception as error:  # importing a user's module may raise anything
        raise ConfigError(f"{key}._target_: {words(error)}") from error


def _load_weights(model: LightningModule, path: str) -> None:
    """Load the weights of another run, except those of another shape."""
    saved = checkpoint.read(model_file(expand_user(path)))["state_dict"]
    own = model.state_dict()
    fits = {name: w for name, w in saved.items() if name in own and w.shape == own[name].shape}
    if not fits:
        raise RunError(f"init_from={path} has no weights that fit this model")
    model.load_state_dict(fits, strict=False)
    if left_out := sorted(saved.keys() - fits.keys()):
        print(f"init_from: left out {', '.join(left_out)}", file=sys.stderr)
