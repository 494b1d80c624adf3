"""Compose settings from conf/ with Hydra, and check them before anything heavy is imported."""

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hwr.config.checks import check, nearest, unknown_setting
from hwr.config.overrides import quote_text
from hwr.errors import ConfigError

_LOCK = threading.RLock()
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
        config_name: `"train"`, `"forest"` or `"evaluate"`.

    Returns:
        The settings; typed where a node is of hwr.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of range, or contradictory.
    """
    with initialize_hydra():
        config = compose_unchecked(quote_text(overrides), config_name)
    check(config)
    return config


@contextmanager
def initialize_hydra() -> Iterator[None]:
    """Initialize Hydra to compose from conf/ any number of times, one thread at a time.

    A program's own Hydra is the same afterwards.
    """
    with _LOCK:
        program, base = GlobalHydra.instance().hydra, version.getbase()
        GlobalHydra.instance().clear()
        try:
            with initialize_config_dir(str(config_dir()), **VERSION_BASE):
                yield
        finally:
            GlobalHydra.instance().hydra = program
            if program and base != version.getbase():
                version.setbase(str(base))


def compose_unchecked(
    overrides: Sequence[str], config_name: str = "train", with_hydra: bool = False
) -> DictConfig:
    """Compose unchecked settings, with Hydra's own beneath `hydra` if asked for.

    Raises:
        ConfigError: A setting or a choice is unknown, or of the wrong type.
    """
    try:
        return hydra_compose(config_name, list(overrides), return_hydra_config=with_hydra)
    except Exception as error:  # Hydra raises many kinds; all of them come from the settings
        raise ConfigError(shorten_error(error, config_name, overrides)) from error


def plain(config: Any) -> Any:
    """Convert settings to nested dicts and lists of plain values, interpolations resolved."""
    return OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config


def shorten_error(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """Shorten an error of Hydra or OmegaConf from several lines to one sentence with the key."""
    text = str(error)
    if absent := re.match(r"In '[^']*': Could not (?:find|load) '([^']+)/([^'/]+)'", text):
        group, name = absent.groups()
        choices = GlobalHydra.instance().config_loader().get_group_options(group)
        return f"no {group}={name}, there are {', '.join(choices)}{nearest(name, choices)}"
    if unknown := re.match(r"Could not override '([^']+)'", text):
        return unknown_setting(unknown[1], hydra_compose(config_name))
    if isinstance(error.__cause__, OmegaConfBaseException):
        line = text.partition("\n")[0].removeprefix("Error merging override ")
        text = f"{line}: {error.__cause__}"
    noise = r"See https|(reference|object)_type=|full_key:|Error when parsing index"
    lines = (line.strip() for line in text.splitlines())
    text = "; ".join(line for line in lines if line and not re.match(noise, line))
    keys = (override.lstrip("+~").partition("=")[0] for override in overrides)
    named = any(key in text for key in keys)  # Hydra's parser names none
    return text if named else f"{' '.join(overrides)}: {text}"
