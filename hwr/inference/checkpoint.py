"""Read checkpoints safely, and build the models in them without Lightning."""

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwr.errors import RunError
from hwr.inference import trust as trusted

PIXELS = 2**18
"""Pixels that a network takes at a time, tta copies included."""


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
                raise ValueError("it is compressed, which checkpoints aren't")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle protocol
            checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not (isinstance(checkpoint["state_dict"], dict) and isinstance(checkpoint["hwr"], dict)):
            raise TypeError("it has no weights or no description")
    except KeyError as error:
        raise RunError(
            f"{path} is not a checkpoint of hwr-train: it has no entry {error}"
        ) from None
    except Exception as error:  # zipfile and torch raise many kinds for broken and hostile files
        raise RunError(f"{path} is not a checkpoint of hwr-train") from error
    return checkpoint


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
        saved = checkpoint["state_dict"].items()
        weights = {k.removeprefix(prefix): weight for k, weight in saved if k.startswith(prefix)}
        is_ours = trusted.is_ours(node)
        with torch.device("meta" if is_ours else "cpu"):  # settings may ask for too much memory
            model = trusted.build(node, trust)
        model.load_state_dict(weights, assign=is_ours)
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
    except Exception as error:  # wrong settings make the constructors raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path} does not fit its own settings: {reason}") from error
    return model.float().eval()  # the weights may have another precision


@torch.inference_mode()
def logits(model: nn.Module, image: Tensor) -> Tensor:
    """Return logits (N, classes) of any number of images (N, C, H, W), in parts."""
    pixels = image.shape[1:].numel() * (1 + getattr(model, "tta", 0))
    parts = torch.split(image, max(1, PIXELS // pixels))
    return torch.cat([model(part) for part in parts])
