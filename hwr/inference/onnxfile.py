"""Load ONNX files of hwr-export with ONNX Runtime, without torch."""

import importlib
import json
import math
import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import RunError
from hwr.inference.recognizer import Scores

PIXELS, IMAGES = 2**18, 16
"""A batch: so many pixels, but no fewer images."""
MAX_BYTES, MAX_SECONDS = 4 * 2**30, 60
"""Memory of all sessions, and time of a batch: an ONNX file can hold any program."""


def load_onnx(path: Path) -> tuple[Any, dict[str, Any], Scores]:
    """Load an ONNX file.

    Returns:
        The session, the metadata, and a function from images (N, C, H, W) to probabilities, which
        raises RunError where the model can't be run.

    Raises:
        RunError: It is no such file, holds more than hwr-export writes, or a package is missing.
    """
    try:
        onnx, onnxruntime = importlib.import_module("onnx"), onnx_runtime()
    except ImportError as error:
        raise RunError(f"{path} needs {error.name}: pip install 'hwr[onnx]'") from error
    content = path.read_bytes()
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf's errors have no common class
        raise RunError(f"{path} is not an ONNX file") from error
    if _is_unsafe(onnx, model):
        raise RunError(f"{path} holds loops, functions or weights elsewhere; it is not run")
    try:
        session = _session(onnxruntime, content)
        card = json.loads(session.get_modelmeta().custom_metadata_map["hwr"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise RunError(f"{path} is not an ONNX file of hwr-export") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        options = onnxruntime.RunOptions()
        with _Timeout(options) as timeout:
            batches = []
            size = max(IMAGES, PIXELS // math.prod(image.shape[1:]))
            for part in np.array_split(image, max(1, -(-len(image) // size))):
                timeout.restart()
                try:
                    (probability,) = session.run(None, {"image": part}, options)
                    if len(probability) != len(part):
                        raise ValueError(f"it gives {len(probability)} predictions")
                except Exception as error:
                    why = str(error).splitlines()[0]
                    raise RunError(f"{path} can't predict {len(part)} images: {why}") from error
                batches.append(probability)
        return np.concatenate(batches)

    return session, card, scores


class _Timeout:
    """Stop the runs of a session that take longer than `MAX_SECONDS` each."""

    def __init__(self, options: Any) -> None:
        self._options, self._done = options, threading.Event()
        self.restart()

    def restart(self) -> None:
        self._deadline = time.monotonic() + MAX_SECONDS

    def __enter__(self) -> "_Timeout":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(max(0.0, self._deadline - time.monotonic())):
            if time.monotonic() >= self._deadline:
                self._options.terminate = True
                return


def onnx_runtime() -> Any:
    """Import onnxruntime, which since 1.29 sends telemetry about each model that it loads.

    Set ORT_DISABLE_TELEMETRY=0, or import onnxruntime first, to allow that.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _session(onnxruntime: Any, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # the exceptions say what would be printed
    _limit_memory(onnxruntime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Waiting threads would take the CPU from others: a third more time on a busy machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],  # it would compute before anything is limited
        enable_fallback=0,  # it would print what goes wrong, and try the same again
    )


def _is_unsafe(onnx: Any, model: Any) -> bool:
    """Tell whether a model holds what hwr-export never writes: subgraphs, or other files."""
    kinds = onnx.AttributeProto
    known = {kinds.FLOAT, kinds.INT, kinds.STRING, kinds.TENSOR}
    known |= {kinds.FLOATS, kinds.INTS, kinds.STRINGS}
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    tensors = [*model.graph.initializer, *(attribute.t for attribute in attributes)]
    return bool(
        model.functions
        or model.graph.sparse_initializer  # onnxruntime would make them dense, of any size
        or any(attribute.type not in known for attribute in attributes)
        or any(one.external_data or one.data_location for one in tensors)
    )


@cache
def _limit_memory(onnxruntime: Any) -> None:
    """Limit all sessions of the process together to `MAX_BYTES`."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    with suppress(Exception):  # somebody else in the process has set a limit
        config = onnxruntime.OrtArenaCfg({"max_mem": MAX_BYTES})
        onnxruntime.create_and_register_allocator(memory, config)
