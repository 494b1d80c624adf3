"""What settings may be: ranges, and what contradicts what, a sentence each."""

import math
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import combinations
from typing import Any

from hwr.errors import MOST_PIXELS
from hwr.schema import (
    MONITORS,
    PREPROCESSINGS,
    CNNConfig,
    DataConfig,
    EmnistConfig,
    EvaluateConfig,
    FoldConfig,
    FolderConfig,
    ForestConfig,
    GlyphNetConfig,
    LockboxConfig,
    MLPConfig,
    RunConfig,
    StratifiedConfig,
    SyntheticConfig,
    TrainConfig,
)

MAX_PIXELS = 89_478_485
"""From here on Pillow itself takes a picture for an attack on the memory."""


def problems(config: Any) -> Iterator[str]:
    """What is out of range or contradictory, a sentence each."""
    yield from _too_large(config)
    if getattr(config, "ckpt", None) == "":
        yield "ckpt= is empty; it must name a checkpoint, or be left out"
    if hasattr(config, "data"):
        yield from _data_problems(config.data)
    match config:
        case TrainConfig():
            yield from _split_problems(config)
            yield from _training_problems(config)
        case ForestConfig():
            yield from _split_problems(config)
            if not 1 <= config.n_estimators <= 100_000:
                yield f"n_estimators={config.n_estimators} must lie between 1 and 100000"
            if config.n_jobs < 1 and config.n_jobs != -1:
                yield f"n_jobs={config.n_jobs} must be at least 1, or -1 for all processor cores"
        case EvaluateConfig():
            yield from _writer_problems("writers", config.writers)
            if config.context not in (None, "writer"):
                yield f"context={config.context} must be null or writer"


def _too_large(config: Any, prefix: str = "") -> Iterator[str]:
    """Whole numbers that no machine could do anything with."""
    for name, value in vars(config).items():
        if is_dataclass(value):
            yield from _too_large(value, f"{prefix}{name}.")
        elif isinstance(value, int) and abs(value) >= 2**32:
            yield f"{prefix}{name}={value} must lie between {1 - 2**32} and {2**32 - 1}"


def _data_problems(data: DataConfig) -> Iterator[str]:
    for name in ("root", "cache"):
        if getattr(data, name, None) == "":
            yield f"data.{name}= is empty; it must name a folder, or be left out"
    if data.preprocessing not in PREPROCESSINGS:
        yield f"data.preprocessing={data.preprocessing} must be one of {', '.join(PREPROCESSINGS)}"
    for name in ("height", "width", "batch_size"):
        if getattr(data, name) < 1:
            yield f"data.{name}={getattr(data, name)} must be at least 1"
    if data.height * data.width > MOST_PIXELS:
        size = f"data.height={data.height} data.width={data.width}"
        yield f"{size} is more than the {MOST_PIXELS:,} pixels that an array may have"
    if isinstance(data, FolderConfig):
        if not 1 <= data.max_pixels <= MAX_PIXELS:
            yield f"data.max_pixels={data.max_pixels} must lie between 1 and {MAX_PIXELS}"
        names = ("image_column", "label_column", "writer_column")
        for one, other in combinations(names, 2):
            if getattr(data, one) == getattr(data, other):
                yield f"data.{one}={getattr(data, one)} and data.{other} must be two columns"
    if isinstance(data, EmnistConfig):
        if data.variant not in ("byclass", "balanced"):
            yield f"data.variant={data.variant} must be byclass or balanced"
        if data.part not in ("train", "test", "all"):
            yield f"data.part={data.part} must be train, test or all"
    if isinstance(data, SyntheticConfig):
        if not 1 <= data.writers <= 999:
            yield f"data.writers={data.writers} must lie between 1 and 999"
        if data.seed < 0:
            yield f"data.seed={data.seed} must be at least 0"


def _split_problems(config: RunConfig) -> Iterator[str]:
    split = config.split
    if not 0 <= config.seed < 2**32:
        yield f"seed={config.seed} must lie between 0 and {2**32 - 1}"
    if not 0 <= split.seed < 2**32:
        yield f"split.seed={split.seed} must lie between 0 and {2**32 - 1}"
    if isinstance(split, StratifiedConfig) and not 0 < split.test_size < 1:
        yield f"split.test_size={split.test_size} must lie above 0 and below 1"
    if isinstance(split, FoldConfig):
        if split.folds < 2:
            yield f"split.folds={split.folds} must be at least 2"
        if not 0 <= split.fold < split.folds:
            yield f"split.fold={split.fold} must lie between 0 and {split.folds - 1}"
    yield from _writer_problems("split.writers", split.writers)
    if isinstance(split, LockboxConfig):
        yield from _writer_problems("split.test_writers", split.test_writers)
    if not 0 <= split.val_size < 1:
        yield f"split.val_size={split.val_size} must lie between 0 and below 1"
    if split.val_is_test and split.val_size > 0:
        yield (
            f"split.val_is_test=true leaves nothing to cut, but split.val_size={split.val_size}; "
            "set one of them to false or 0"
        )


def _writer_problems(key: str, writers: str | None) -> Iterator[str]:
    if writers is not None and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", writers):
        yield f"{key}={writers} must be numbers and ranges, such as 1-44 or 3,7"


def _training_problems(config: TrainConfig) -> Iterator[str]:
    model = config.model
    if not (model.lr > 0 and math.isfinite(model.lr)):
        yield f"model.lr={model.lr} must be above 0 and finite"
    match model:
        case MLPConfig() if not 1 <= model.hidden <= 65_536:
            yield f"model.hidden={model.hidden} must lie between 1 and 65536"
        case CNNConfig():
            if config.data.height < 12 or config.data.width < 16:
                yield (
                    f"data.height={config.data.height} data.width={config.data.width} is too small "
                    "for model=cnn, which takes 12 x 16 pixels or more"
                )
            if not 1 / 32 <= model.width <= 16:
                yield f"model.width={model.width} must lie between 0.03125 and 16"
            for name in ("conv_dropout", "dense_dropout"):
                if not 0 <= getattr(model, name) < 1:
                    yield f"model.{name}={getattr(model, name)} must lie between 0 and below 1"
        case GlyphNetConfig():
            yield from _glyphnet_problems(model, config.data)
    most = {"rotate": 180.0, "pen": 1.0, "drawn": 999, "drawn_share": 10}
    for name, value in vars(config.augment).items():
        if name != "name" and not 0 <= value <= most.get(name, 0.99):
            yield f"augment.{name}={value} must lie between 0 and {most.get(name, 0.99):g}"
    if not config.augment.drawn_share:
        yield "augment.drawn_share=0 must be above 0; without drawn pictures: augment.drawn=0"
    if config.trainer.max_epochs < 1:
        yield f"trainer.max_epochs={config.trainer.max_epochs} must be at least 1"
    yield from _process_problems(config)
    yield from _choice_problems(config)


def _glyphnet_problems(model: GlyphNetConfig, data: DataConfig) -> Iterator[str]:
    if data.height < 16:
        yield f"data.height={data.height} is too small for model=glyphnet, which takes 16 or more"
    if not 1 / 8 <= model.width <= 8:
        yield f"model.width={model.width} must lie between 0.125 and 8"
    if model.body not in ("own", "lcnet"):
        yield f"model.body={model.body} must be own or lcnet"
    elif model.body == "lcnet" and model.width != 1:
        yield f"model.width={model.width} is for model.body=own; lcnet has one width"
    if not 0 <= model.body_lr <= 10:
        yield f"model.body_lr={model.body_lr} must lie between 0 and 10"
    for name in ("dropout", "label_smoothing"):
        if not 0 <= getattr(model, name) < 1:
            yield f"model.{name}={getattr(model, name)} must lie between 0 and below 1"
    if not (model.weight_decay >= 0 and math.isfinite(model.weight_decay)):
        yield f"model.weight_decay={model.weight_decay} must be at least 0 and finite"
    if not 0 <= model.views <= 4:
        yield f"model.views={model.views} must lie between 0 and 4"
    if not 0.05 <= model.temperature <= 20:
        yield f"model.temperature={model.temperature} must lie between 0.05 and 20"


def _process_problems(config: TrainConfig) -> Iterator[str]:
    trainer, batch_size = config.trainer, config.data.batch_size
    for name in ("devices", "num_nodes"):
        if getattr(trainer, name) < 1:
            yield f"trainer.{name}={getattr(trainer, name)} must be at least 1"
    if trainer.deterministic.lower() not in ("true", "false", "warn"):
        yield f"trainer.deterministic={trainer.deterministic} must be true, false or warn"
    if trainer.strategy not in ("auto", "ddp"):
        yield f"trainer.strategy={trainer.strategy} must be auto or ddp"
    yield from _added_problems(vars(trainer))
    processes = trainer.devices * trainer.num_nodes
    if processes > 1 and batch_size % processes:
        yield (
            f"data.batch_size={batch_size} must be a multiple of the {processes} processes "
            f"(trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes})"
        )


def _added_problems(trainer: dict[str, Any]) -> Iterator[str]:
    """Numbers that Lightning takes without a word, and then trains on nothing, or for ever."""
    counts = ("max_steps", "limit_train_batches", "accumulate_grad_batches")
    for name in (*counts, "check_val_every_n_epoch", "val_check_interval"):
        value = trainer.get(name)
        if isinstance(value, int | float) and not value > 0 and (name, value) != ("max_steps", -1):
            yield f"trainer.{name}={value} must be above 0"
    clip = trainer.get("gradient_clip_val")
    if isinstance(clip, int | float) and not clip >= 0:
        yield f"trainer.gradient_clip_val={clip} must be at least 0"


def _choice_problems(config: TrainConfig) -> Iterator[str]:
    """What would choose an epoch, or the settings, by anything but validation pictures."""
    split = config.split
    chosen = (("monitor", config.monitor, "an epoch"), ("objective", config.objective, "settings"))
    for key, figure, what in chosen:
        if figure is None:
            continue
        if figure not in MONITORS:
            why = "; by test pictures nothing is chosen" if figure.startswith("test/") else ""
            yield f"{key}={figure} must be null or one of {', '.join(MONITORS)}{why}"
        if split.val_is_test:
            yield (
                f"{key}={figure} would choose {what} by the test split (split.val_is_test=true); "
                f"set {key}=null, or split.val_is_test=false split.val_size=0.1"
            )
        if split.val_size == 0:
            yield f"{key}={figure} needs validation pictures, but split.val_size=0; set it to 0.1"
