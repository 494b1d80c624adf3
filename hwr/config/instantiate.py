"""Instantiate a node of settings, and say in one sentence what is wrong with it."""

from collections.abc import Callable, Mapping
from typing import Any

from hydra.utils import instantiate as hydra_instantiate

from hwr.errors import ConfigError, UserError


def instantiate(node: Mapping[str, Any], key: str, *arguments: Any, **given: Any) -> Any:
    """Instantiate a node, with arguments that can't stand in settings.

    Args:
        node: A mapping with `_target_`.
        key: Where it stands in the settings.
        arguments: Passed on to its target.
        given: Likewise, by name.

    Raises:
        ConfigError: It can't be instantiated; errors of hwr are raised as they are.
    """
    try:
        build = hydra_instantiate(node, _partial_=True, _convert_="all")
    except Exception as error:
        raise ConfigError(f"{key}: {words(error)}") from error
    return call(build, key, *arguments, **given)


def call(target: Callable[..., Any], key: str, *arguments: Any, **given: Any) -> Any:
    """Call a class or function that the settings name.

    Args:
        target: What is called.
        key: Where its node stands in the settings.
        arguments: Its arguments.
        given: Likewise, by name.

    Raises:
        ConfigError: It raised; errors of hwr and of the system are raised as they are.
    """
    try:
        return target(*arguments, **given)
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever a constructor raises comes from the settings
        raise ConfigError(f"{key}: {words(error)}") from error


def words(error: BaseException) -> str:
    """Say in one line what an exception says, and its cause where Hydra hides it."""
    cause = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if "Error locating target" in text and cause is not None:
        return " ".join(str(cause).split())
    return text
