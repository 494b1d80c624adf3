"""Checkpoints: safely opened, and turned into the network that they hold, without Lightning."""

import inspect
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from hwr.errors import RunError
from hwr.networks import NETWORKS
from hwr.networks.base import Network


def read(path: Path) -> dict[str, Any]:
    """What a checkpoint of hwr-train holds; nothing in it is executed.

    Raises:
        RunError: It is missing, or no checkpoint of hwr-train.
    """
    if not path.is_file():
        raise RunError(f"no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise RunError(f"{path} is compressed, which no checkpoint is; it is not opened")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a pickle's protocol; what matters is refused
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if found["model"] in NETWORKS and {"hyper_parameters", "state_dict"} <= found.keys():
            return found
    except RunError:
        raise
    except Exception:  # whatever a broken or hostile file makes zipfile and torch raise
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


def network(path: Path, found: dict[str, Any]) -> Network:
    """The network of what `read` found in a checkpoint, ready to read: images to logits.

    Raises:
        RunError: Its weights don't fit its settings.
    """
    try:
        settings = found["hyper_parameters"]
        kind = NETWORKS[found["model"]]
        own = inspect.signature(kind).parameters.keys() & settings.keys()
        weights = {
            name.removeprefix("network."): weight
            for name, weight in found["state_dict"].items()
            if name.startswith("network.")
        }
        if sum(weight.nbytes for weight in weights.values()) > path.stat().st_size:
            raise ValueError("weights that repeat a few bytes")
        with torch.device("meta"):  # settings may ask for more memory than there are weights
            model = kind(
                classes=len(settings["alphabet"]), **{name: settings[name] for name in own}
            )
        model.load_state_dict(weights, assign=True)
    except Exception as error:  # settings of the wrong kind fail in as many ways
        raise RunError(f"{path} does not fit its own settings") from error
    return model.float().eval()  # a file may hold weights of another precision
