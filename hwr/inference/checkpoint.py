"""Read checkpoints safely, and build the models in them without Lightning."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwr.errors import RunError
from hwr.inference import trust as trusted


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint of hwr-train; nothing in it is executed.

    Raises:
        RunError: The file is missing, or isn't a checkpoint of hwr-train.
    """
    if not path.is_file():
        raise RunError(f"no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise RunError(f"{path} is compressed, which checkpoints aren't; it is not opened")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle protocol
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        weights = checkpoint["state_dict"]
    except RunError:
        raise
    except Exception as error:  # zipfile and torch raise many kinds for broken and hostile files
        raise RunError(f"{path} is not a checkpoint of hwr-train") from error
    if not (isinstance(weights, dict) and isinstance(checkpoint.get("hwr"), dict)):
        raise RunError(
            f"{path} is not a checkpoint of hwr-train: it has weights, but no entry 'hwr' that "
            "names model, classes and preprocessing"
        )
    found: dict[str, Any] = checkpoint
    return found


def find(folder: Path) -> Path:
    """Return the checkpoint of a run folder's reported epoch; a path of a file stays as it is.

    Raises:
        RunError: The folder holds no checkpoint.
    """
    if not folder.is_dir():
        return folder
    for name in ("best.ckpt", "last.ckpt"):
        if (folder / "checkpoints" / name).is_file():
            return folder / "checkpoints" / name
    raise RunError(f"{folder} holds no checkpoint (checkpoints/last.ckpt)")


def network(path: Path, checkpoint: dict[str, Any], trust: Sequence[str] = ()) -> nn.Module:
    """Build the model of a checkpoint, ready for inference: images (N, C, H, W) to logits.

    Args:
        path: Where the checkpoint was read from.
        checkpoint: What `read` returned.
        trust: Packages whose classes the checkpoint may use; see `hwr.inference.trust`.

    Raises:
        RunError: The weights don't fit the settings, or the model's class isn't trusted.
    """
    try:
        node, prefix = checkpoint["hwr"]["model"], checkpoint["hwr"]["state_dict_prefix"]
        weights = {
            name.removeprefix(prefix): weight
            for name, weight in checkpoint["state_dict"].items()
            if name.startswith(prefix)
        }
        if sum(getattr(one, "nbytes", 0) for one in weights.values()) > path.stat().st_size:
            raise ValueError("its weights repeat a few bytes")
        if ours := trusted.is_ours(node):
            with torch.device("meta"):  # the settings may ask for more memory than there is
                model = trusted.build(node)
        else:
            model = trusted.build(node, trust)
        model.load_state_dict(weights, assign=ours)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    except Exception as error:  # wrong settings make the constructors raise many kinds
        why = " ".join(str(error).split())[:200]
        raise RunError(f"{path} does not fit its own settings: {why}") from error
    return model.float().eval()  # the weights may have another precision
