"""Load ONNX files of hwr-export with ONNX Runtime, without torch."""

import importlib
import json
import os
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from hwr.errors import RunError


class OnnxModel:
    """Compute probabilities (N, classes) of images (N, C, H, W) by ONNX Runtime.

    Its session ends at a fork, since the child would lack the session's threads; both processes
    open another one when they need it.

    Args:
        content: Of the ONNX file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.session: Any = open_session(content)
        MODELS.add(self)

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of images."""
        session = self.session = self.session or open_session(self.content)
        return np.asarray(session.run(None, {"image": image})[0])


MODELS: WeakSet[OnnxModel] = WeakSet()


def _close_sessions() -> None:
    for model in MODELS:
        model.session = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_close_sessions)


def load_onnx(path: Path) -> tuple[OnnxModel, dict[str, Any]]:
    """Load an ONNX file and its metadata.

    Raises:
        RunError: It is no such file.
        ImportError: onnxruntime is missing.
    """
    try:
        model = OnnxModel(path.read_bytes())
        return model, json.loads(model.session.get_modelmeta().custom_metadata_map["hwr"])
    except ImportError:
        raise
    except Exception as error:  # onnxruntime's errors have no common class
        raise RunError(f"{path} is not an ONNX file of hwr-export") from error


def open_session(content: bytes) -> Any:
    """Open a session of ONNX Runtime on the CPU.

    Raises:
        Exception: It is no model; onnxruntime's errors have no common class.
        ImportError: onnxruntime is missing.
    """
    # Since 1.29 onnxruntime sends telemetry about each model that it loads.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exceptions say what would be printed
    # Without a folder, weights would be read from files in the current one.
    # Waiting threads would take the CPU from others: a third more time on a busy machine.
    folder = "session.model_external_initializers_file_folder_path"
    options.add_session_config_entry(folder, os.devnull)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
