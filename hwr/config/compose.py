"""Settings composed by Hydra from conf/, checked before anything heavy is imported."""

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

from hwr.config.checks import problems
from hwr.config.schema import TrainerConfig
from hwr.errors import ConfigError

# Hydra 1.3 asks which defaults are meant; 1.4 warns of the question.
VERSION_BASE: dict[str, Any] = {"version_base": "1.3"} if hydra.__version__ < "1.4" else {}


def monitor_mode(monitor: str | None) -> str:
    """Return `min` for a loss, `max` for any other metric."""
    return "min" if monitor and monitor.endswith("loss") else "max"


OmegaConf.register_new_resolver("monitor_mode", monitor_mode, replace=True)


def config_dir() -> Path:
    """Find the folder conf/: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    return package / "conf" if (package / "conf").is_dir() else package.parent / "conf"


def compose(overrides: Sequence[str] = (), config_name: str = "train") -> DictConfig:
    """Compose the settings as a command sees them.

    Args:
        overrides: As on the command line, such as `["experiment=notebook_cnn", "seed=1"]`.
        config_name: `"train"`, `"forest"`, `"evaluate"` or `"fetch"`.

    Returns:
        The settings; typed where a node is of hwr.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of range, or contradictory.
    """
    with hydra_ready():
        config = composed(overrides, config_name)
    check(config)
    return config


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Initialize Hydra to compose from conf/ any number of times."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        yield


def composed(
    overrides: Sequence[str], config_name: str = "train", with_hydra: bool = False
) -> DictConfig:
    """Compose unchecked settings, with Hydra's own beneath `hydra` if asked for.

    Raises:
        ConfigError: A setting or a choice is unknown, or of the wrong type.
    """
    try:
        return hydra_compose(config_name, list(overrides), return_hydra_config=with_hydra)
    except Exception as error:  # Hydra raises many kinds; all of them come from the settings
        raise ConfigError(no_choice(overrides) or sentence(error, config_name)) from error


def check(config: DictConfig) -> None:
    """Reject settings that are unknown, of the wrong type, out of range, or contradictory.

    Raises:
        ConfigError: One sentence that names the first of them.
    """
    config = config.copy()
    if "output_dir" in config:
        config.output_dir = "."  # Hydra knows it only when the run starts
    unknown = sorted(_unknown(config))
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(unknown)}{_hint(unknown[0], config)}")
    try:
        kind: Any = OmegaConf.get_type(config)
        removed = {field.name for field in fields(kind)} - config.keys()
        for missing in sorted(OmegaConf.missing_keys(config) | removed):
            raise ConfigError(f"{missing}= is needed")
        for problem in problems(config):
            raise ConfigError(problem)
    except OmegaConfBaseException as error:
        lines = [line.strip() for line in str(error).splitlines()[:2]]
        raise ConfigError("; ".join(lines)) from error


def plain(config: Any) -> Any:
    """Convert settings to nested dicts and lists of plain values, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def sentence(error: Exception, config_name: str) -> str:
    """Say in one sentence what Hydra or OmegaConf says in several lines, and name the key."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        there = ", ".join(error.options)
        more = "; others come with pip install 'hwr[sweep]'" if group.startswith("hydra/") else ""
        return f"no {group}={name}, there are {there}{nearest(name, error.options)}{more}"
    text = str(error)
    if absent := re.match(r"In '[^']*': Could not load '([^']+)/([^'/]+)'", text):
        choices = GlobalHydra.instance().config_loader().get_group_options(absent[1])
        there = ", ".join(choices)
        return f"no {absent[1]}={absent[2]}, there are {there}{nearest(absent[2], choices)}"
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


def nearest(key: str, known: Iterable[str], prefix: str = "") -> str:
    """Return `; did you mean …?` with the known name nearest to a key, or nothing."""
    near = difflib.get_close_matches(key, list(known), 1, cutoff=0.75)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def no_choice(overrides: Sequence[str]) -> str | None:
    """Name the first group that is given something else than a name or a list of names."""
    loader = GlobalHydra.instance().config_loader()
    with suppress(HydraException):  # not to be parsed: Hydra has said so
        for override in OverridesParser.create(loader).parse_overrides(list(overrides)):
            choices = loader.get_group_options(override.key_or_group)
            if not choices or override.is_delete() or override.is_sweep_override():
                continue
            value: Any = override.value()
            if not all(isinstance(x, str) for x in (value if isinstance(value, list) else [value])):
                return f"{override.input_line} must be one of {', '.join(choices)}"
    return None


def _unknown(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """List keys that were added with `+` to nodes of hwr, those for Lightning's Trainer aside."""
    kind = OmegaConf.get_type(node)
    if kind is TrainerConfig:
        return
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else None
    for key in map(str, node):
        if known is not None and key not in known:
            yield f"{prefix}{key}"
        elif isinstance(child := node._get_node(key), DictConfig) and not child._is_none():
            yield from _unknown(child, f"{prefix}{key}.")


def _hint(key: str, config: DictConfig) -> str:
    known = [
        name for name in [*_keys(config), "experiment"] if not f"{name}.".startswith(f"{key}.")
    ]
    last = key.rpartition(".")[2]
    return nearest(key, [name for name in known if name.rpartition(".")[2] == last] or known)


def _keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, node):
        yield f"{prefix}{key}"
        if isinstance(child := node._get_node(key), DictConfig) and not child._is_none():
            yield from _keys(child, f"{prefix}{key}.")
