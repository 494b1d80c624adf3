"""Build the model that a file describes, from trusted classes only.

A file may name any class as `_target_`. Ours are listed here; others must be subclasses of
`nn.Module` that are defined in a package which the caller trusts. Nothing else is imported or
called.
"""

import importlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from hwr.errors import RunError

MODELS = {
    path: name
    for name in ("MLP", "CNN", "GlyphNet")
    for path in (f"hwr.models.{name}", f"hwr.models.{name.lower()}.{name}")
}
"""Models of hwr by the paths that a file may name them by."""
IGNORED = ("_target_", "_convert_", "_recursive_")
"""Keys of Hydra that are not arguments."""


def build(node: dict[str, Any], trust: Sequence[str] = ()) -> nn.Module:
    """Build the model of a `_target_` node, and of the nodes in it.

    All names are checked before the first class is imported, all classes before one is built.

    Args:
        node: A class as `_target_`, and its arguments.
        trust: Packages whose classes may be built, such as `["my_pkg"]`.

    Raises:
        RunError: A class isn't trusted, or isn't there.
    """
    targets = list(_targets(node))
    for target in targets:
        _check(target, trust)
    classes = {target: resolve(target, trust) for target in targets}

    def built(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [built(item) for item in value]
        if not isinstance(value, dict):
            return value
        arguments = {key: built(item) for key, item in value.items() if key not in IGNORED}
        return classes[value["_target_"]](**arguments) if "_target_" in value else arguments

    model: nn.Module = built(node)
    return model


def resolve(target: Any, trust: Sequence[str] = ()) -> type[nn.Module]:
    """Import the class that a `_target_` names.

    Args:
        target: Path of the class, such as `my_pkg.models.ResNet`.
        trust: Packages whose classes may be imported. Names are compared part by part, so
            `my_pkg` isn't `my_pkg_evil`, and a class must be defined in the package, not only
            imported there.

    Raises:
        RunError: The class isn't trusted, or isn't there, or is no subclass of `nn.Module`.
    """
    _check(target, trust)
    module, _, name = target.rpartition(".")
    if target in MODELS:
        module = "hwr.models"
    try:
        model_class = getattr(importlib.import_module(module), name)
    except Exception as error:  # a module may raise anything when it is imported
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{target} cannot be imported: {reason}") from error
    if not (isinstance(model_class, type) and issubclass(model_class, nn.Module)):
        raise RunError(f"{target} is not a class of models (a subclass of nn.Module)")
    if target not in MODELS and not _within(model_class.__module__, trust):
        raise RunError(
            f"{target} is defined in {model_class.__module__}, outside of the trusted packages"
        )
    return model_class


def is_ours(node: dict[str, Any]) -> bool:
    """Return whether a node is a model of hwr without other nodes in it."""
    return set(_targets(node)) <= MODELS.keys()


def _targets(value: Any) -> Iterator[Any]:
    """Yield the targets of all nodes in a value.

    Raises:
        RunError: A node has keys of Hydra that change what is called.
    """
    if isinstance(value, list | tuple):
        for item in value:
            yield from _targets(item)
    elif isinstance(value, dict):
        if "_target_" in value:
            yield value["_target_"]
        for key, item in value.items():
            if key in IGNORED:
                continue
            if str(key).startswith("_") and str(key).endswith("_"):
                raise RunError(f"{key} is not allowed in a file's description of a model")
            yield from _targets(item)


def _check(target: Any, trust: Sequence[str]) -> None:
    """Raise if a target isn't trusted by its name; nothing is imported."""
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise RunError(f"_target_={target!r} must be the path of a class, such as my_pkg.ResNet")
    if target in MODELS or _within(target, trust):
        return
    if parts[0] == "hwr":
        raise RunError(f"{target} is not one of the models that a file may name")
    raise RunError(
        f"{target} is a class of the package {parts[0]}, which can run any code; if you trust it, "
        f'load it with trust=["{parts[0]}"] (commands: trust=[{parts[0]}] or --trust {parts[0]})'
    )


def _within(path: str, trust: Sequence[str]) -> bool:
    """Return whether a path lies in a trusted package, compared by whole parts."""
    packages = [trust] if isinstance(trust, str) else trust
    return any(f"{path}.".startswith(f"{package}.") for package in packages if package)
