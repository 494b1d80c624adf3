"""Load ONNX files of hwr-export with ONNX Runtime, without torch."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

from hwr.errors import RunError


def load_onnx(path: Path) -> tuple[Any, dict[str, Any]]:
    """Load a session and its metadata from an ONNX file.

    Raises:
        RunError: It is no such file.
        ImportError: onnxruntime is missing.
    """
    try:
        session = open_session(path.read_bytes())
        return session, json.loads(session.get_modelmeta().custom_metadata_map["hwr"])
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
