"""An ONNX file of hwr-export, read with onnxruntime and without torch."""

import importlib
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwr.errors import RunError
from hwr.stopping import unstopped

FEW = 16
"""Pictures that onnxruntime is given at a time: of more, the maps would not stay in the cache."""
MOST_BYTES, MOST_SECONDS = 4 * 2**30, 60
"""What an ONNX file may take for so many pictures: it can hold any program."""

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def load_onnx(path: Path) -> tuple[Any, dict[str, Any], Scores]:
    """The session of an ONNX file, its card, and what it does: images (N, 1, H, W) to (N, C).

    Raises:
        RunError: It is no such file, holds more than hwr-export writes, or a package is missing.
            The function, too, raises it.
    """
    try:
        with unstopped():  # compiled modules make an ImportError of a stop
            onnx, onnxruntime = importlib.import_module("onnx"), onnx_runtime()
    except ImportError as error:
        raise RunError(f"{path} needs {error.name}: pip install 'hwr[onnx]'") from error
    content = path.read_bytes()
    try:
        model = onnx.ModelProto.FromString(content)
    except Exception as error:  # protobuf has kinds of its own
        raise RunError(f"{path} is no ONNX file") from error
    if _does_more(onnx, model):
        raise RunError(f"{path} holds loops, functions or weights elsewhere; it is not run")
    try:
        session = _session(onnxruntime, content)
        card = json.loads(session.get_modelmeta().custom_metadata_map["hwr"])
    except Exception as error:  # onnxruntime has kinds of its own, without a common one
        raise RunError(f"{path} is no ONNX file of hwr-export") from error

    def scores(image: NDArray[np.float32]) -> NDArray[np.float32]:
        run = onnxruntime.RunOptions()
        over, started, found = threading.Event(), time.monotonic(), []

        def watch() -> None:  # one thread for all batches: of its own, each would cost a tenth more
            while not over.wait(max(0.0, started + MOST_SECONDS - time.monotonic())):
                if time.monotonic() >= started + MOST_SECONDS:
                    run.terminate = True
                    return

        threading.Thread(target=watch, daemon=True).start()
        try:
            for part in np.array_split(image, max(1, -(-len(image) // FEW))):
                started = time.monotonic()
                (one,) = session.run(None, {"image": part}, run)
                if len(one) != len(part):
                    raise ValueError(f"it tells of {len(one)}")
                found.append(one)
        except Exception as error:
            why = str(error).splitlines()[0]
            raise RunError(f"{path} can't read {len(part)} pictures: {why}") from error
        finally:
            over.set()
        return np.concatenate(found)

    return session, card, scores


def onnx_runtime() -> Any:
    """The module onnxruntime, which since 1.29 tells its makers of each model that it loads.

    Whoever wants that sets ORT_DISABLE_TELEMETRY=0, or imports it first.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _session(onnxruntime: Any, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print is told by the exception
    _bound_memory(onnxruntime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],  # would compute before anything is bounded
    )


def _does_more(onnx: Any, model: Any) -> bool:
    """Whether a model holds what none of hwr-export does: programs within it, or other files."""
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
def _bound_memory(onnxruntime: Any) -> None:
    """Let all ONNX files of the process together take no more than `MOST_BYTES`."""
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    with suppress(Exception):  # somebody else in the process has set a bound
        most = onnxruntime.OrtArenaCfg({"max_mem": MOST_BYTES})
        onnxruntime.create_and_register_allocator(memory, most)
