"""Export a network to an ONNX file, which needs no torch for inference."""

import io
import json
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hwr.errors import RunError
from hwr.files import atomic_write
from hwr.inference.loading import load
from hwr.inference.onnxfile import open_session
from hwr.inference.recognizer import Recognizer

CHECKED = 256
"""Images on which the file is compared with the network."""
TOLERANCE = 1e-5
"""Largest difference of a probability."""


def export(run: Path, file: Path, trust: Sequence[str] = ()) -> float:
    """Write a network as an ONNX file with any batch size.

    Its input `image` (N, C, H, W) has values from 0 to 1, its output `probability` has shape
    (N, classes). The metadata holds what a recognizer needs. The file is written only if it gives
    the network's probabilities.

    Args:
        run: A run folder or a checkpoint.
        file: Where to write it.
        trust: Packages whose model classes the checkpoint may use.

    Returns:
        The largest difference of a probability on random images.

    Raises:
        RunError: It is a forest, a package is missing, or the probabilities differ.
    """
    recognizer = load(run, trust=trust)
    try:
        import onnx
        import torch
    except ImportError as error:
        raise RunError(f"exporting needs {error.name}: pip install 'hwr[onnx]'") from error
    if not isinstance(recognizer.model, torch.nn.Module):
        raise RunError(f"{run} is not a network; only networks are exported")
    network = torch.nn.Sequential(recognizer.model, torch.nn.Softmax(1)).eval()
    random = np.random.default_rng(0)
    image = random.random((CHECKED, recognizer.channels, *recognizer.size), np.float32)
    image[::2] = np.where(image[::2] < 0.1, 0, 1)  # black on white
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # onnxscript 0.6 prints
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (torch.from_numpy(image[:2]),),
            input_names=["image"],
            output_names=["probability"],
            # Torch 2.7 checks that no multiple of an unbounded number could be its largest.
            dynamic_shapes=({0: torch.export.Dim("images", max=2**30)},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, {"hwr": json.dumps(_card(recognizer))})
    content = model.SerializeToString()
    (probability,) = open_session(content).run(None, {"image": image})
    with torch.inference_mode():
        expected = network(torch.from_numpy(image)).numpy()
    difference = float(np.abs(probability - expected).max())
    if not difference < TOLERANCE:
        raise RunError(
            f"{file} is not written: its probabilities differ from the network's by "
            f"{difference:.1g}, more than {TOLERANCE}"
        )
    with atomic_write(file) as temporary:
        temporary.write_bytes(content)
    return difference


def _card(recognizer: Recognizer) -> dict[str, Any]:
    """Return what `load` needs to know of a model."""
    preprocessor = recognizer.preprocessor
    return {
        "charset": list(recognizer.charset.names),
        "height": preprocessor.height,
        "width": preprocessor.width,
        "channels": preprocessor.channels,
        "preprocessing": preprocessor.name,
        "image_statistics": preprocessor.statistics and asdict(preprocessor.statistics),
        "about": recognizer.about,
    }
