"""Instantiate nodes of settings, with one sentence about what is wrong with them."""

from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate as hydra_instantiate

from hwr.errors import ConfigError, UserError


def instantiate(node: Mapping[str, Any], key: str, *args: Any, **kwargs: Any) -> Any:
    """Instantiate a node.

    Args:
        node: A mapping with `_target_`.
        key: Where it stands in the settings.
        args: Positional arguments that can't stand in settings.
        kwargs: Keyword arguments likewise.

    Raises:
        ConfigError: It can't be instantiated; errors of hwr and of the system are raised as they
            are.
    """
    try:
        build = hydra_instantiate(node, _partial_=True, _convert_="all")
    except Exception as error:
        raise ConfigError(f"{key}: {words(error)}") from error
    return call(build, key, *args, **kwargs)


def call(target: Callable[..., Any], key: str, *args: Any, **kwargs: Any) -> Any:
    """Call a class or function that the settings name at `key`, with `instantiate`'s errors."""
    try:
        return target(*args, **kwargs)
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a constructor raises comes from the settings
        raise ConfigError(f"{key}: {words(error)}") from error


def words(error: BaseException) -> str:
    """Return an exception's message in one line, or its cause's where Hydra hides that."""
    if "Error locating target" in str(error) and error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__
