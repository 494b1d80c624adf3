"""Settings composed by Hydra from conf/, typed and checked before anything heavy is imported."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hwr.checks import problems
from hwr.errors import ConfigError
from hwr.schema import TrainerConfig

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
        raise ConfigError(_no_choice(overrides) or _sentence(error, config_name)) from error


def _no_choice(overrides: Sequence[str]) -> str | None:
    """What is wrong with the first group that is given something else than a name."""
    loader = GlobalHydra.instance().config_loader()
    with suppress(HydraException):  # not to be parsed: Hydra has said so
        for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
            named = override.is_delete() or override.is_sweep_override()
            choices = loader.get_group_options(override.key_or_group)
            if choices and not named and not isinstance(override.value(), str):
                return f"{override.input_line} must be one of {', '.join(choices)}"
    return None


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
    override = getattr(error, "override", None)  # of Hydra's parser, which names no key
    noise = "See https|(reference|object)_type=" + ("|full_key: " if where else "|full_key:$")
    noise += "|Error when parsing index" if override else ""
    text = "; ".join(line for line in lines if not re.match(noise, line))
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
        if gone := re.search(r"missing .* argument.*: '(\w+)'", str(error)):
            raise ConfigError(f"{gone[1]}= is needed") from error  # deleted with ~
        lines = [line.strip() for line in str(error).splitlines()[:2]]
        raise ConfigError("; ".join(lines)) from error
    for problem in problems(config):
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
