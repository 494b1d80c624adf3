"""An ONNX file of hwr-export, read with onnxruntime and without torch."""

import importlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hwr.errors import RunError
from hwr.inked import MANY, MEASURED, Array, ending, inked
from hwr.stopping import unstopped

FEW = 16
"""Pictures that onnxruntime is given at a time: of more, the maps would not stay in the cache."""
PIXELS = 2**20
"""Of so many at a time it is looked up where ink is."""
MOST_BYTES, MOST_SECONDS = 4 * 2**30, 60
"""What an ONNX file may take for so many pictures: it can hold any program."""

Scores = Callable[[Array], Array]


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

    @cache
    def halves() -> tuple[Any, Any, Sequence[int], Sequence[int]] | None:
        try:
            if (found := _halves(onnx, onnx.ModelProto.FromString(content))) is None:
                return None
            return _session(onnxruntime, found[0]), _session(onnxruntime, found[1]), *found[2:]
        except Exception:  # no memory, say: whole pictures need less
            return None

    return session, card, _scores(path, onnxruntime, session, halves)


def _scores(
    path: Path,
    onnxruntime: Any,
    session: Any,
    halves: Callable[[], tuple[Any, Any, Sequence[int], Sequence[int]] | None],
) -> Scores:
    """What a file does, in bounded time; `halves` is asked only when there are pictures enough."""

    def scores(image: Array) -> Array:
        run = onnxruntime.RunOptions()
        over, started, found = threading.Event(), time.monotonic(), []

        def watch() -> None:  # one thread for all batches: of its own, each would cost a tenth more
            while not over.wait(max(0.0, started + MOST_SECONDS - time.monotonic())):
                if time.monotonic() >= started + MOST_SECONDS:
                    run.terminate = True
                    return

        threading.Thread(target=watch, daemon=True).start()

        def call(work: Any, given: Array) -> Array:
            nonlocal started
            started = time.monotonic()
            (one,) = work.run(None, {"image": given}, run)
            if len(one) != len(given):
                raise ValueError(f"it tells of {len(one)}")
            return np.asarray(one)

        try:
            for part in _split(image, max(FEW, PIXELS // math.prod(image.shape[1:]))):
                work, given = session, part
                if MEASURED and len(part) >= MANY and (told := halves()):
                    first, rest, pads, cell = told
                    maps = inked(part, partial(call, first), pads, cell, FEW)
                    work, given = (session, part) if maps is None else (rest, maps)
                found += [call(work, few) for few in _split(given, FEW)]
        except Exception as error:
            why = str(error).splitlines()[0]
            raise RunError(f"{path} can't read {len(image)} pictures: {why}") from error
        finally:
            over.set()
        return np.concatenate(found)

    return scores


def onnx_runtime() -> Any:
    """The module onnxruntime, which since 1.29 tells its makers of each model that it loads.

    Whoever wants that sets ORT_DISABLE_TELEMETRY=0, or imports it first.

    Raises:
        ImportError: It is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _split(given: Array, most: int) -> list[Array]:
    return np.array_split(given, max(1, -(-len(given) // most)))


def _session(onnxruntime: Any, content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print is told by the exception
    _bound_memory(onnxruntime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    # Between two calls, one session's waiting threads would be in the way of another's.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=["ConstantFolding"],  # would compute before anything is bounded
        enable_fallback=0,  # would print what goes wrong, and try the same again
    )


def _halves(onnx: Any, model: Any) -> tuple[bytes, bytes, Sequence[int], Sequence[int]] | None:
    """A file of the CNN in two: the stage that `hwr.inked` asks for, and what remains.

    Returns:
        Both as ONNX files of channels-last maps, and `inked`'s `pads` and `cell`; None if the file
        begins with something else.
    """
    helper, stage, rest = onnx.helper, model.graph.node[:4], model.graph.node[4:]
    told: list[Any] = [
        {one.name: helper.get_attribute_value(one) for one in node.attribute} for node in stage
    ]
    if [node.op_type for node in stage] != ["Conv", "Relu", "Conv", "MaxPool"]:
        return None
    pads, kernel = (told[0].get(name) for name in ("pads", "kernel_shape"))
    cell = told[3].get("kernel_shape")
    usual = {"auto_pad": b"NOTSET", "dilations": [1, 1]}
    convolution = usual | {"group": 1, "strides": [1, 1], "pads": pads, "kernel_shape": kernel}
    pooling = usual | {"ceil_mode": 0, "storage_order": 0, "pads": [0] * 4}
    pooling |= {"strides": cell, "kernel_shape": cell}
    if told != [convolution, {}, convolution, pooling]:
        return None
    weights = {weight.name: weight for weight in model.graph.initializer}
    top, left, bottom, right = pads
    names = ["image", *(node.output[0] for node in stage)]
    later = {one.name for one in model.graph.output}.union(*(node.input for node in rest))
    if (
        [top + bottom + 1, left + right + 1] != kernel
        or [node.input[0] for node in stage] != names[:4]
        or later.intersection(names[:4])
        or len(model.graph.output) > 1
        or (kernel_of := stage[0].input[1]) not in weights
    ):
        return None
    sides = left, right, top, bottom
    told_where = onnx.numpy_helper.from_array(
        ending(onnx.numpy_helper.to_array(weights[kernel_of]), sides), kernel_of
    )
    bare = convolution | {"pads": [0] * 4}
    begin = [
        helper.make_node("Transpose", ["image"], ["boxes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["boxes", *stage[0].input[1:]], names[1:2], **bare),
        stage[1],
        helper.make_node("Conv", stage[2].input, names[3:4], **bare),
        stage[3],
        helper.make_node("Transpose", names[4:], ["maps"], perm=[0, 2, 3, 1]),
    ]
    end = [helper.make_node("Transpose", ["image"], names[4:], perm=[0, 3, 1, 2]), *rest]

    def half(nodes: list[Any], output: str, given: dict[str, Any]) -> bytes:
        used = {name for node in nodes for name in node.input}
        sheets = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [*"nhwc"])
        said = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
        held = [weight for name, weight in given.items() if name in used]
        graph = helper.make_graph(nodes, "half", [sheets], [said], held)
        opsets, version = model.opset_import, model.ir_version
        made = helper.make_model(graph, opset_imports=opsets, ir_version=version)
        return bytes(made.SerializeToString())

    first = half(begin, "maps", weights | {told_where.name: told_where})
    return first, half(end, model.graph.output[0].name, weights), sides, cell


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
