"""Datasets, splits, augmentation and the data module.

Names are imported when they are used, so that `import hwr.data` brings neither torch nor Lightning.
"""

import importlib
import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwr.data.augment import Augment as Augment
    from hwr.data.datamodule import CharacterDataModule as CharacterDataModule
    from hwr.data.dataset import CharacterDataset as CharacterDataset
    from hwr.data.emnist import EmnistDataset as EmnistDataset
    from hwr.data.folder.dataset import FolderDataset as FolderDataset
    from hwr.data.splits import BaseSplit as BaseSplit
    from hwr.data.splits import HeldOutWritersSplit as HeldOutWritersSplit
    from hwr.data.splits import KFoldSplit as KFoldSplit
    from hwr.data.splits import Split as Split
    from hwr.data.splits import StratifiedSplit as StratifiedSplit
    from hwr.data.splits import WriterSplit as WriterSplit
    from hwr.data.synthetic import SyntheticDataset as SyntheticDataset
    from hwr.data.unipen import UnipenDataset as UnipenDataset

_MODULES = {
    "Augment": "augment",
    "BaseSplit": "splits",
    "CharacterDataModule": "datamodule",
    "CharacterDataset": "dataset",
    "EmnistDataset": "emnist",
    "FolderDataset": "folder.dataset",
    "HeldOutWritersSplit": "splits",
    "KFoldSplit": "splits",
    "Split": "splits",
    "StratifiedSplit": "splits",
    "SyntheticDataset": "synthetic",
    "UnipenDataset": "unipen",
    "WriterSplit": "splits",
}
LOADER_SETTINGS = (
    *("batch_size", "num_workers", "pin_memory", "persistent_workers"),
    "train_transform",
)
"""Settings of a data node that the data module takes; the others are arguments of its dataset."""
__all__ = sorted([*_MODULES, "LOADER_SETTINGS", "instantiate_node", "load_dataset", "load_split"])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"hwr.data.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'hwr.data' has no attribute {name!r}")


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

    name = data.get("name") if isinstance(data, Mapping) else None
    dataset = instantiate_node(data, "data", without=LOADER_SETTINGS)
    if isinstance(dataset, CharacterDataset):
        return dataset
    return CharacterDataset.from_dataset(dataset, name)


def load_split(split: Any) -> "BaseSplit":
    """Instantiate a split from a node of settings; a split is returned as it is.

    Raises:
        ConfigError: The node can't be instantiated.
    """
    loaded: BaseSplit = instantiate_node(split, "split")
    return loaded


def instantiate_node(node: Any, key: str, without: tuple[str, ...] = ()) -> Any:
    """Instantiate a node of settings; anything else is returned as it is.

    Args:
        node: A mapping with `_target_`, or an object.
        key: Where the node stands in the settings.
        without: Keys that are no arguments of its target.

    Raises:
        ConfigError: It can't be instantiated.
    """
    if not isinstance(node, Mapping):
        return node
    from hydra.utils import get_object

    from hwr.config.compose import plain
    from hwr.config.instantiate import instantiate

    arguments = {name: value for name, value in plain(node).items() if name not in without}
    with suppress(Exception):  # instantiate says what is wrong with the target
        if "name" not in inspect.signature(get_object(arguments["_target_"])).parameters:
            arguments.pop("name", None)  # ours: what the dataset is called in metrics
    return instantiate(arguments, key)
