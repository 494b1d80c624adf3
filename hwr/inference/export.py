"""Export a network to an ONNX file, which needs no torch for inference."""

import io
import json
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from hwr.errors import RunError
from hwr.files import atomic_write
from hwr.inference.loading import load
from hwr.inference.onnxfile import onnx_runtime

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

        onnxruntime = onnx_runtime()
    except ImportError as error:
        raise RunError(f"exporting needs {error.name}: pip install 'hwr[onnx]'") from error
    if not isinstance(recognizer.model, torch.nn.Module):
        raise RunError(f"{run} is not a network; only networks are exported")
    network = torch.nn.Sequential(recognizer.model, torch.nn.Softmax(1)).eval()
    height, width = recognizer.size
    random = np.random.default_rng(0)
    image = random.random((CHECKED, recognizer.channels, height, width), np.float32)
    image[::2] = np.where(image[::2] < 0.1, 0, 1)  # black on white
    with atomic_write(file) as temporary:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # onnxscript 0.6 prints
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.from_numpy(image[:2]),),
                str(temporary),
                input_names=["image"],
                output_names=["probability"],
                # Torch 2.7 checks that no multiple of an unbounded number could be its largest.
                dynamic_shapes=({0: torch.export.Dim("images", max=2**30)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(str(temporary))
        card = {
            "charset": list(recognizer.charset.names),
            "height": height,
            "width": width,
            "channels": recognizer.channels,
            "preprocessing": recognizer.preprocessing,
            "frame": recognizer.frame and vars(recognizer.frame),
            "about": recognizer.about,
        }
        onnx.helper.set_model_props(model, {"hwr": json.dumps(card)})
        temporary.write_bytes(model.SerializeToString())
        try:
            session = onnxruntime.InferenceSession(
                temporary.read_bytes(), providers=["CPUExecutionProvider"]
            )
            (found,) = session.run(None, {"image": image})
        except Exception as error:  # onnxruntime's errors have no common class
            why = str(error).splitlines()[0]
            raise RunError(f"onnxruntime can't run the ONNX file; it is not kept: {why}") from error
        difference = float(np.abs(found - recognizer._scores(image)).max())
        if not difference < TOLERANCE:
            raise RunError(f"the ONNX file's probabilities differ by {difference:.1g}; not kept")
    return difference
