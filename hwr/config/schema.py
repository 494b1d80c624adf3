"""Types and ranges of the settings: a dataclass for every group of conf/, where the values stand.

A field's metadata says what is allowed: `ge`, `gt`, `le`, `lt` for numbers, `choices`, `text` for
text that must not be empty, `pattern`, and a `hint` for what is out of range. `hwr.config.checks`
reads them. A user's own node needs no schema.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

PREPROCESSINGS = ("notebook", "ink")
WRITERS = r"\d+(-\d+)?(,\d+(-\d+)?)*"
SEED = 2**32 - 1


def setting(default: Any = MISSING, **limits: Any) -> Any:
    """Declare a setting, mandatory without a default, with what it may be."""
    return field(default=default, metadata=limits)


@dataclass
class Node:
    """A node that Hydra instantiates."""

    _target_: str = MISSING


@dataclass
class DataConfig(Node):
    """Settings that every dataset has: how an image becomes an array, and how batches are made."""

    name: str = setting(text=True)
    preprocessing: str = setting(choices=PREPROCESSINGS)
    height: int = setting(ge=1, le=2000)
    width: int = setting(ge=1, le=2000)
    channels: int = setting(choices=(1, 3))
    cache: str = setting(text=True)
    batch_size: int = setting(ge=1)
    num_workers: int = setting(ge=0, le=1024)
    pin_memory: bool = MISSING
    persistent_workers: bool = MISSING
    train_transform: Any = None


@dataclass
class FolderConfig(DataConfig):
    """A folder of images with a table, or with a folder for every class."""

    root: str = setting(text=True)
    csv: str | None = MISSING
    image_column: str = MISSING
    label_column: str = MISSING
    writer_column: str = MISSING
    max_pixels: int = setting(ge=1, le=89_478_485)  # from here on Pillow itself sees an attack


@dataclass
class SyntheticConfig(DataConfig):
    """Images that the program draws."""

    writers: int = setting(ge=1, le=999)
    seed: int = setting(ge=0, le=SEED)


@dataclass
class UnipenConfig(DataConfig):
    """UNIPEN from its own files."""

    root: str = setting(text=True)
    seed: int = setting(ge=0, le=SEED)


@dataclass
class EmnistConfig(DataConfig):
    """EMNIST as torchvision reads it."""

    root: str = setting(text=True)
    variant: str = setting(choices=("byclass", "balanced"))
    part: str = setting(choices=("train", "test", "all"))
    download: bool = MISSING


@dataclass
class SplitConfig(Node):
    """Settings that every split has."""

    seed: int = setting(ge=0, le=SEED)
    val_size: float = setting(ge=0, lt=1)
    val_is_test: bool = MISSING
    writers: str | None = setting(pattern=WRITERS, example="1-44 or 3,7")


@dataclass
class StratifiedConfig(SplitConfig):
    """A random share of every class is tested."""

    test_size: float = setting(gt=0, lt=1, hint="hwr-evaluate tests images of another folder")


@dataclass
class FoldConfig(SplitConfig):
    """Fold number `fold` of `folds` is tested."""

    folds: int = setting(ge=2, le=SEED)
    fold: int = setting(ge=0, le=SEED)


@dataclass
class LockboxConfig(SplitConfig):
    """Images of `test_writers` are tested."""

    test_writers: str = setting(pattern=WRITERS, example="45-55 or 3,7")


@dataclass
class AugmentConfig(Node):
    """Limits of the random changes of training images; 0 switches a change off."""

    rotate: float = setting(0.0, ge=0, le=180)
    scale: float = setting(0.0, ge=0, lt=1)
    aspect_ratio: float = setting(0.0, ge=0, lt=1)
    shear: float = setting(0.0, ge=0, lt=1)
    translate: float = setting(0.0, ge=0, lt=1)
    elastic: float = setting(0.0, ge=0, lt=1)
    stroke_width: float = setting(0.0, ge=0, le=1)
    synthetic_writers: int = setting(0, ge=0, le=999)
    synthetic_share: float = setting(1.0, gt=0, le=10)


@dataclass
class MLPConfig(Node):
    """The notebook's MLP."""

    hidden: int = setting(ge=1, le=65_536)


@dataclass
class CNNConfig(Node):
    """The notebook's CNN."""

    width_mult: float = setting(ge=1 / 32, le=16)
    conv_dropout: float = setting(ge=0, lt=1)
    dense_dropout: float = setting(ge=0, lt=1)


@dataclass
class GlyphNetConfig(Node):
    """GlyphNet."""

    width_mult: float = setting(ge=1 / 8, le=8)
    dropout: float = setting(ge=0, lt=1)
    temperature: float = setting(ge=0.05, le=20)
    tta: int = setting(ge=0, le=4)
    backbone: str = setting(choices=("residual", "lcnet"))
    backbone_lr_mult: float = setting(ge=0, le=10)


@dataclass
class TrainerConfig(Node):
    """Arguments of Lightning's Trainer; others are added with `+trainer.NAME=VALUE`."""

    max_epochs: int = setting(ge=1)
    accelerator: str = MISSING
    devices: int = setting(ge=1)
    num_nodes: int = setting(ge=1)
    strategy: str = MISSING
    precision: Any = MISSING
    deterministic: Any = MISSING
    log_every_n_steps: int = setting(ge=1)
    num_sanity_val_steps: int = setting(ge=-1)
    enable_model_summary: bool = MISSING


@dataclass
class TrainConfig:
    """Settings of hwr-train."""

    data: Any = MISSING
    split: Any = MISSING
    augment: Any = MISSING
    optimizer: Any = MISSING
    scheduler: Any = MISSING
    model: Any = MISSING
    trainer: Any = MISSING
    callbacks: Any = MISSING
    logger: Any = MISSING
    seed: int = setting(ge=0, le=SEED)
    monitor: str | None = MISSING
    optimized_metric: str | None = MISSING
    label_smoothing: float = setting(ge=0, lt=1)
    compile: bool = MISSING
    init_from: str | None = setting(text=True)
    ckpt_path: str | None = setting(text=True)
    output_dir: str | None = MISSING  # Hydra knows it only when a run starts


@dataclass
class ForestConfig:
    """Settings of hwr-forest."""

    data: Any = MISSING
    split: Any = MISSING
    seed: int = setting(ge=0, le=SEED)
    n_estimators: int = setting(ge=1, le=100_000)
    n_jobs: int = setting(ge=-1, le=1024)
    plots: bool = MISSING
    output_dir: str | None = MISSING  # Hydra knows it only when a run starts


@dataclass
class EvaluateConfig:
    """Settings of hwr-evaluate."""

    data: Any = MISSING
    ckpt_path: str = setting(text=True)
    writers: str | None = setting(pattern=WRITERS, example="1-44 or 3,7")
    context: str | None = setting(choices=("writer",))
    trust: list[str] = MISSING
    output_dir: str | None = MISSING  # Hydra knows it only when a run starts


_NODES = (
    *(TrainConfig, ForestConfig, EvaluateConfig, TrainerConfig, AugmentConfig),
    *(FolderConfig, SyntheticConfig, UnipenConfig, EmnistConfig),
    *(StratifiedConfig, FoldConfig, LockboxConfig),
    *(MLPConfig, CNNConfig, GlyphNetConfig),
)
for _node in _NODES:
    # Beneath hydra/, so that help and errors don't offer the schemas as choices.
    _name = _node.__name__.removesuffix("Config").lower()
    ConfigStore.instance().store(group="hydra/schema", name=_name, node=_node)
