"""Settings composed by Hydra from conf/, and checked across fields before anything is imported."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hwr.errors import ConfigError
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
    MLPConfig,
    RunConfig,
    StratifiedConfig,
    SyntheticConfig,
    TrainConfig,
    TrainerConfig,
)

MAX_PIXELS = 89_478_485
"""From here on Pillow itself takes a picture for an attack on the memory."""

# Hydra 1.3 asks which defaults are meant; 1.4 warns of the question.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}


def config_dir() -> Path:
    """The folder conf/: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def compose(overrides: Sequence[str] = (), config_name: str = "train") -> Any:
    """The settings as a command would see them.

    Args:
        overrides: As on the command line, such as `["experiment=notebook_cnn", "seed=1"]`.
        config_name: `"train"`, `"forest"`, `"evaluate"` or `"fetch"`.

    Returns:
        A `TrainConfig`, `ForestConfig`, `EvaluateConfig` or `FetchConfig`.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of range, or contradictory.
    """
    with hydra_ready():
        return resolve(composed(overrides, config_name))


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra, set up to compose from conf/ any number of times."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        yield


def composed(
    overrides: Sequence[str], config_name: str = "train", with_hydra: bool = False
) -> DictConfig:
    """The settings as Hydra composes them, with its own beneath `hydra` if asked for.

    Raises:
        ConfigError: A setting or a choice is unknown, or of the wrong type.
    """
    try:
        return hydra_compose(config_name, list(overrides), return_hydra_config=with_hydra)
    except Exception as error:  # Hydra raises many kinds; all of them come from the settings
        raise ConfigError(_sentence(error, config_name)) from error


def _sentence(error: Exception, config_name: str) -> str:
    """What Hydra says in several lines, as one sentence that names the key."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        there = ", ".join(error.options)
        more = "; others come with pip install 'hwr[sweep]'" if group.startswith("hydra/") else ""
        return f"no {group}={name}, there are {there}{nearest(name, error.options)}{more}"
    text = str(error)
    if missing := re.match(r"Could not override '([^']+)'", text):
        key = missing[1]
        return f"no such setting: {key}{_hint(key, hydra_compose(config_name))}"
    where = ""
    if isinstance(error.__cause__, OmegaConfBaseException):
        where = text.partition("Error merging override ")[2] or text
        where, text = f"{where.splitlines()[0]}: ", str(error.__cause__)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    noise = "See https|(reference|object)_type=" + ("|full_key: " if where else "|full_key:$")
    text = "; ".join(line for line in lines if not re.match(noise, line))
    override = getattr(error, "override", None)  # of Hydra's parser, which names no key
    return f"{override}: {text}" if override and override not in text else where + text


def resolve(composed: DictConfig) -> Any:
    """The typed settings behind a composed config.

    Raises:
        ConfigError: A key is unknown, or a value is out of range or contradicts another.
    """
    unknown = sorted(_unknown(composed))
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(unknown)}{_hint(unknown[0], composed)}")
    try:
        config: Any = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        if "missing mandatory value" in str(error):
            raise ConfigError(f"{error.full_key}= is needed") from error
        lines = [line.strip() for line in str(error).splitlines()[:2]]
        raise ConfigError("; ".join(lines)) from error
    for problem in _problems(config):
        raise ConfigError(problem)
    return config


def plain(config: Any) -> Any:
    """Typed settings as nested dicts of plain values, those added with `+` included."""
    if is_dataclass(config):
        return {name: plain(value) for name, value in vars(config).items()}
    return config


def _unknown(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys that slipped past the schema with `+`, those for Lightning's Trainer aside."""
    kind = OmegaConf.get_type(node)
    if kind is TrainerConfig:
        return
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    for key in map(str, node):
        if key not in known:
            yield f"{prefix}{key}"
        elif isinstance(child := node._get_node(key), DictConfig):
            yield from _unknown(child, f"{prefix}{key}.")


def _problems(config: Any) -> Iterator[str]:
    """What is out of range or contradictory, a sentence each."""
    if hasattr(config, "data"):
        yield from _data_problems(config.data)
    match config:
        case TrainConfig():
            yield from _split_problems(config)
            yield from _training_problems(config)
        case ForestConfig():
            yield from _split_problems(config)
            if config.n_estimators < 1:
                yield f"n_estimators={config.n_estimators} must be at least 1"
            if config.n_jobs < 1 and config.n_jobs != -1:
                yield f"n_jobs={config.n_jobs} must be at least 1, or -1 for all processor cores"
        case EvaluateConfig() if config.writers is not None:
            if not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", config.writers):
                yield f"writers={config.writers} must be numbers and ranges, such as 1-44 or 3,7"


def _data_problems(data: DataConfig) -> Iterator[str]:
    if data.preprocessing not in PREPROCESSINGS:
        yield f"data.preprocessing={data.preprocessing} must be one of {', '.join(PREPROCESSINGS)}"
    for name in ("height", "width", "batch_size"):
        if getattr(data, name) < 1:
            yield f"data.{name}={getattr(data, name)} must be at least 1"
    if isinstance(data, FolderConfig) and not 1 <= data.max_pixels <= MAX_PIXELS:
        yield f"data.max_pixels={data.max_pixels} must lie between 1 and {MAX_PIXELS}"
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
    if not 0 <= split.val_size < 1:
        yield f"split.val_size={split.val_size} must lie between 0 and below 1"
    if split.val_is_test and split.val_size > 0:
        yield (
            f"split.val_is_test=true leaves nothing to cut, but split.val_size={split.val_size}; "
            "set one of them to false or 0"
        )


def _training_problems(config: TrainConfig) -> Iterator[str]:
    model = config.model
    if not (model.lr > 0 and math.isfinite(model.lr)):
        yield f"model.lr={model.lr} must be above 0 and finite"
    match model:
        case MLPConfig() if model.hidden < 1:
            yield f"model.hidden={model.hidden} must be at least 1"
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
    if config.trainer.max_epochs < 1:
        yield f"trainer.max_epochs={config.trainer.max_epochs} must be at least 1"
    yield from _process_problems(config)
    yield from _choice_problems(config)


def _process_problems(config: TrainConfig) -> Iterator[str]:
    trainer, batch_size = config.trainer, config.data.batch_size
    for name in ("devices", "num_nodes"):
        if getattr(trainer, name) < 1:
            yield f"trainer.{name}={getattr(trainer, name)} must be at least 1"
    if trainer.strategy not in ("auto", "ddp"):
        yield f"trainer.strategy={trainer.strategy} must be auto or ddp"
    processes = trainer.devices * trainer.num_nodes
    if processes > 1 and batch_size % processes:
        yield (
            f"data.batch_size={batch_size} must be a multiple of the {processes} processes "
            f"(trainer.devices={trainer.devices} trainer.num_nodes={trainer.num_nodes})"
        )


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


def nearest(key: str, known: Iterable[str], prefix: str = "") -> str:
    """`; did you mean …?` with the known name nearest to this one, or nothing."""
    near = difflib.get_close_matches(key, list(known), 1, cutoff=0.75)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _hint(key: str, composed: DictConfig) -> str:
    known = [
        name for name in [*_keys(composed), "experiment"] if not f"{name}.".startswith(f"{key}.")
    ]
    last = key.rpartition(".")[2]
    return nearest(key, [name for name in known if name.rpartition(".")[2] == last] or known)


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if isinstance(child := node._get_node(key), DictConfig):
            yield from _keys(child, f"{prefix}{key}.")
