"""The settings' names and types: a dataclass for every group of conf/, where the values stand."""

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

PREPROCESSINGS = ("notebook", "ink")
MONITORS = tuple(f"val/{name}" for name in ("loss", "acc", "acc_nocase", "top3"))


@dataclass
class DataConfig:
    """What every data set has.

    Attributes:
        name: What the table of runs calls it.
        preprocessing: How a picture becomes an array: one of `PREPROCESSINGS`.
        height: Of an array, in pixels, at least 1.
        width: Of an array, in pixels, at least 1.
        batch_size: Pictures in a training batch, at least 1.
        cache: Folder in which arrays are kept.
    """

    name: str
    preprocessing: str
    height: int
    width: int
    batch_size: int
    cache: str


@dataclass
class FolderConfig(DataConfig):
    """A folder of pictures with a table, or with a folder for every class.

    Attributes:
        root: The folder.
        csv: Name of the table in it; None: the only one there, or else a folder a class.
        image_column: Column of the table that holds the files.
        label_column: Column that holds the classes.
        writer_column: Column that says who wrote, if the table has it.
        max_pixels: Pictures with more are refused, 1 to 89,478,485 (Pillow's own limit).
    """

    root: str
    csv: str | None
    image_column: str
    label_column: str
    writer_column: str
    max_pixels: int


@dataclass
class SyntheticConfig(DataConfig):
    """The built-in pen.

    Attributes:
        writers: People who draw every character once, 1 to 999.
        seed: Seed of the pen, at least 0.
    """

    writers: int
    seed: int


@dataclass
class EmnistConfig(DataConfig):
    """EMNIST as torchvision reads it.

    Attributes:
        root: Folder that holds, or is to hold, `EMNIST/raw`.
        variant: `byclass` (62 classes) or `balanced` (47: small letters that look like their
            capitals are joined with them).
        part: `train`, `test`, or `all`.
        download: Fetch it where it is missing.
    """

    root: str
    variant: str
    part: str
    download: bool


@dataclass
class SplitConfig:
    """What every split has.

    Attributes:
        name: What the table of runs calls it.
        seed: Seed of the shuffle, at least 0.
        val_size: Share of the training pictures (of the training writers for `writer`) that is
            cut off for validation, 0 to below 1.
        val_is_test: Validate on the test split; nothing may then be chosen by validation.
        writers: Only what these wrote takes part, such as `1-44` or `3,7`; None: everything.
    """

    name: str
    seed: int
    val_size: float
    val_is_test: bool
    writers: str | None


@dataclass
class StratifiedConfig(SplitConfig):
    """A random share of every class is tested; `test_size` is that share, above 0, below 1."""

    test_size: float


@dataclass
class FoldConfig(SplitConfig):
    """What cuts into folds: `fold` (from 0) of `folds` (at least 2) is tested."""

    folds: int
    fold: int


@dataclass
class KFoldConfig(FoldConfig):
    """Stratified folds over the pictures."""


@dataclass
class WriterConfig(FoldConfig):
    """Folds over the writers: nobody is on both sides."""


@dataclass
class LockboxConfig(SplitConfig):
    """What `test_writers` wrote is tested, such as `45-55` or `3,7`."""

    test_writers: str


@dataclass
class AugmentConfig:
    """How far training pictures are changed at most, at random; 0: not at all.

    Attributes:
        name: What the settings call it.
        rotate: Degrees to either side, up to 180.
        scale: Natural logarithm of the factor by which ink grows or shrinks, below 1.
        stretch: Likewise, of its width over its height.
        shear: Slant to either side, a share of the height, below 1.
        shift: Share of the picture's height to either side, below 1.
        bend: Standard deviation by which points stray, a share of the height, below 1.
        pen: Pixels on either side by which lines grow or shrink, up to 1.
        drawn: Writers of the built-in pen, up to 999, who add to the training pictures: for each
            real one an epoch sees `drawn_share` pictures of theirs, mixed in.
        drawn_share: Above 0, up to 10.
    """

    name: str
    rotate: float
    scale: float
    stretch: float
    shear: float
    shift: float
    bend: float
    pen: float
    drawn: int
    drawn_share: float


@dataclass
class ModelConfig:
    """What every network has.

    Attributes:
        name: What the table of runs calls it.
        lr: Learning rate, above 0.
    """

    name: str
    lr: float


@dataclass
class MLPConfig(ModelConfig):
    """One hidden layer of `hidden` sigmoid units, at least 1."""

    hidden: int


@dataclass
class CNNConfig(ModelConfig):
    """Two convolutional blocks.

    Attributes:
        width: Times the notebook's 32, 64 and 512 channels and units, 1/32 to 16.
        conv_dropout: Share of values dropped behind each block, 0 to below 1.
        dense_dropout: Share of values dropped before the last layer, 0 to below 1.
    """

    width: float
    conv_dropout: float
    dense_dropout: float


@dataclass
class GlyphNetConfig(ModelConfig):
    """The network of our own; `lr` is the highest of its cycle.

    Attributes:
        width: Times the usual 32, 64, 128 and 256 channels, 1/8 to 8.
        dropout: Share of values dropped before the features, 0 to below 1.
        weight_decay: Of kernels, at least 0.
        label_smoothing: Share of the target that is spread over all classes, 0 to below 1.
        temperature: Logits are divided by it when reading, 0.05 to 20.
        views: When reading, a picture is looked at again under so many other views, 0 to 4.
        body: `own` convolutions, or `lcnet`: those of PP-OCRv6's recogniser of text lines.
        body_lr: Times `lr`, of the convolutions, 0 to 10.
    """

    width: float
    dropout: float
    weight_decay: float
    label_smoothing: float
    temperature: float
    views: int
    body: str
    body_lr: float


@dataclass
class TrainerConfig:
    """Arguments of Lightning's Trainer; others may be added with `+trainer.NAME=VALUE`.

    `devices` times `num_nodes` processes share the work, one for each device.
    """

    max_epochs: int
    accelerator: str
    devices: int
    num_nodes: int
    strategy: str
    precision: str
    deterministic: str


@dataclass
class ReportConfig:
    """What TensorBoard shows of a run beside the curves of loss and accuracies.

    Attributes:
        name: Which choice of parts this is.
        diagnostics: Curves of learning rate, gradient norm, seconds an epoch, pictures a second.
        hparams: The run as a row of the HParams table.
        text: Settings, command, environment, data, most confused pairs, figures by class.
        images: Confusion, mistakes, reliability, best and worst, a training batch, filters, curves.
        pr_curves: Precision against recall, and areas under ROC curves.
        projector: Features and pictures of the test split.
        graph: The network's operations.
        histograms: Weights and gradients after every epoch.
        files: `confusion.png`, `mistakes.png`, `reliability.png`, `curves.png` in the run folder.
    """

    name: str
    diagnostics: bool
    hparams: bool
    text: bool
    images: bool
    pr_curves: bool
    projector: bool
    graph: bool
    histograms: bool
    files: bool


@dataclass
class RunConfig:
    """What networks and forest share.

    Attributes:
        data: The data set.
        split: How it is cut into training, validation and test pictures.
        report: What TensorBoard shows of the run.
        seed: Makes a run repeatable, 0 to 2**32 - 1.
    """

    data: DataConfig
    split: SplitConfig
    report: ReportConfig
    seed: int


@dataclass
class TrainConfig(RunConfig):
    """Settings of hwr-train.

    Attributes:
        model: The network.
        augment: How training pictures are changed at random.
        trainer: How it is fitted.
        monitor: Validation figure whose best epoch is reported, one of `MONITORS`; None: the last.
        ckpt: Checkpoint to go on from.
        objective: Validation figure that a search is after, one of `MONITORS`.
    """

    model: ModelConfig
    augment: AugmentConfig
    trainer: TrainerConfig
    monitor: str | None
    ckpt: str | None
    objective: str | None


@dataclass
class ForestConfig(RunConfig):
    """Settings of hwr-forest.

    Attributes:
        n_estimators: Number of trees, at least 1.
        n_jobs: Processor cores for the fit, -1: all.
    """

    n_estimators: int
    n_jobs: int


@dataclass
class EvaluateConfig:
    """Settings of hwr-evaluate.

    Attributes:
        data: What is read; its size and preprocessing are those of the checkpoint.
        ckpt: A run folder, or a checkpoint.
        writers: Only what these wrote, such as `1-44` or `3,7`; None: everything.
        context: `writer` reads the pictures of one hand together; None: each alone.
    """

    data: DataConfig
    ckpt: str
    writers: str | None
    context: str | None


@dataclass
class FetchConfig:
    """Where hwr-data fetch finds the real set: Kaggle's name of it, and Chars74K's archive."""

    kaggle: str
    url: str


SCHEMAS: dict[str, dict[str, Any]] = {
    "": {
        **{"train": TrainConfig, "forest": ForestConfig},
        **{"evaluate": EvaluateConfig, "fetch": FetchConfig},
    },
    "data": {"folder": FolderConfig, "synthetic": SyntheticConfig, "emnist": EmnistConfig},
    "split": {
        **{"stratified": StratifiedConfig, "kfold": KFoldConfig},
        **{"writer": WriterConfig, "lockbox": LockboxConfig},
    },
    "report": {"report": ReportConfig},
    "augment": {"augment": AugmentConfig},
    "model": {"mlp": MLPConfig, "cnn": CNNConfig, "glyphnet": GlyphNetConfig},
}
for _nodes in SCHEMAS.values():
    for _name, _node in _nodes.items():
        # Beneath hydra/, so that help and errors don't offer the schemas as choices.
        ConfigStore.instance().store(group="hydra/schema", name=_name, node=_node)
