"""Checkpoints: safely opened, and turned into the network that they hold."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from hwr.errors import RunError
from hwr.models.base import CharacterClassifier
from hwr.models.cnn import CNN
from hwr.models.mlp import MLP

NETWORKS: dict[str, type[CharacterClassifier]] = {"cnn": CNN, "mlp": MLP}


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint of hwr-train holds; nothing in it is executed.

    Raises:
        RunError: It is missing, or no checkpoint of hwr-train.
    """
    if not path.is_file():
        raise RunError(f"no checkpoint {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pickle's protocol; what matters is refused
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if found["model"] in NETWORKS and {"hyper_parameters", "state_dict"} <= found.keys():
            return found
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError):
        pass
    raise RunError(f"{path} is no checkpoint of hwr-train")


def find(path: Path) -> Path:
    """The checkpoint of a run folder's reported epoch; a path to a file stays as it is.

    Raises:
        RunError: The folder holds no checkpoint.
    """
    if not path.is_dir():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    raise RunError(f"{path} holds no checkpoint (checkpoints/last.ckpt)")


def load(path: Path) -> CharacterClassifier:
    """The network of a checkpoint or run folder, ready to read.

    Raises:
        RunError: There is no checkpoint, or its weights don't fit.
    """
    path = find(path)
    found = read(path)
    try:
        model = NETWORKS[found["model"]](**found["hyper_parameters"])
        model.load_state_dict(found["state_dict"])
    except (TypeError, RuntimeError, ValueError) as error:
        raise RunError(f"{path} does not fit its own settings") from error
    return model.eval()
