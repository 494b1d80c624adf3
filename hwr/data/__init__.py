"""Datasets, splits, augmentation and the data module.

Names are imported when they are used, so that `import hwr.data` brings neither torch nor Lightning.
"""

import importlib
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwr.data.augment import Augment as Augment
    from hwr.data.datamodule import CharacterDataModule as CharacterDataModule
    from hwr.data.dataset import CharacterDataset as CharacterDataset
    from hwr.data.emnist import EmnistDataset as EmnistDataset
    from hwr.data.folder import FolderDataset as FolderDataset
    from hwr.data.splits import BaseSplit as BaseSplit
    from hwr.data.splits import HeldOutWritersSplit as HeldOutWritersSplit
    from hwr.data.splits import KFoldSplit as KFoldSplit
    from hwr.data.splits import Split as Split
    from hwr.data.splits import StratifiedSplit as StratifiedSplit
    from hwr.data.splits import WriterSplit as WriterSplit
    from hwr.data.synthetic import SyntheticDataset as SyntheticDataset

_HOMES = {
    "Augment": "augment",
    "BaseSplit": "splits",
    "CharacterDataModule": "datamodule",
    "CharacterDataset": "dataset",
    "EmnistDataset": "emnist",
    "FolderDataset": "folder",
    "HeldOutWritersSplit": "splits",
    "KFoldSplit": "splits",
    "Split": "splits",
    "StratifiedSplit": "splits",
    "SyntheticDataset": "synthetic",
    "WriterSplit": "splits",
}
LOADER_SETTINGS = (
    *("batch_size", "num_workers", "pin_memory", "persistent_workers"),
    "train_transform",
)
"""Settings of a data node that the data module takes; the others are arguments of its dataset."""
__all__ = sorted([*_HOMES, "LOADER_SETTINGS", "instantiated", "load_dataset", "load_split"])


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"hwr.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hwr.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]


def load_dataset(data: Any) -> "CharacterDataset":
    """Load the dataset that a node of settings names, without its loader settings.

    Args:
        data: A mapping with `_target_`, or a dataset. Any Dataset of (image, label[, writer]) is
            read into a CharacterDataset.

    Raises:
        ConfigError: The node can't be instantiated.
        DataError: The dataset is missing or broken; the message names every wrong row.
    """
    from hwr.data.dataset import CharacterDataset

    name = None
    if isinstance(data, Mapping):
        name = data.get("name")
        data = instantiated(data, "data", without=LOADER_SETTINGS)
    if isinstance(data, CharacterDataset):
        return data
    return CharacterDataset.from_dataset(data, name)


def load_split(split: Any) -> "BaseSplit":
    """Instantiate a split from a node of settings.

    Raises:
        ConfigError: The node can't be instantiated.
    """
    loaded: BaseSplit = instantiated(split, "split")
    return loaded


def instantiated(node: Any, key: str, without: tuple[str, ...] = ()) -> Any:
    """Instantiate a node of settings; anything else is returned as it is.

    Args:
        node: A mapping with `_target_`, or an object.
        key: Where the node stands in the settings.
        without: Keys that are no arguments of its target.

    Raises:
        ConfigError: It can't be instantiated; errors of hwr are raised as they are.
    """
    if not isinstance(node, Mapping):
        return node
    from hydra.utils import instantiate

    from hwr.config.compose import plain
    from hwr.config.instantiate import call, words
    from hwr.errors import ConfigError

    arguments = {name: value for name, value in plain(node).items() if name not in without}
    # Hydra would read resolved text, such as the name of a folder, as settings once more.
    text = {name: v for name, v in arguments.items() if isinstance(v, str) and "${" in v}
    try:
        rest = {name: value for name, value in arguments.items() if name not in text}
        build = instantiate(rest, _partial_=True, _convert_="all")
        takes = inspect.signature(build.func).parameters
        if "name" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            build.keywords.pop("name", None)  # ours: what the dataset is called in metrics
    except Exception as error:
        raise ConfigError(f"{key}: {words(error)}") from error
    return build if arguments.get("_partial_") else call(build, key, **text)
