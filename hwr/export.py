"""hwr-export: a network as an ONNX file that needs no torch to read pictures."""

import argparse
import io
import json
import sys
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from hwr.errors import RunError, UserError, printable, sentence
from hwr.files import whole
from hwr.loading import load
from hwr.onnxfile import onnx_runtime
from hwr.stopping import unstopped

CHECKED = 256
"""Pictures on which the file is compared with the network."""
APART = 1e-5
"""How far their probabilities may lie apart."""


def main() -> None:
    """The command hwr-export."""
    parser = argparse.ArgumentParser(prog="hwr-export", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder or checkpoint")
    parser.add_argument("--format", choices=("onnx",), default="onnx")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: model.onnx beside it")
    arguments = parser.parse_args()
    try:
        file = (
            arguments.out
            or (Path(arguments.run) if Path(arguments.run).is_dir() else Path(arguments.run).parent)
            / "model.onnx"
        )
        apart = export(Path(arguments.run), file)
        print(
            f"{printable(str(file))}: probabilities at most {apart:.1g} apart on {CHECKED} pictures"
        )
    except (UserError, OSError) as error:
        print(f"hwr-export: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def export(run: Path, file: Path) -> float:
    """Write a network as ONNX: input `image` (N, 1, H, W) from 0 to 1, output `probability` (N, C).

    The number of pictures is free. What a recogniser needs to know lies in the file's metadata.
    The file is written only if it gives the network's probabilities.

    Args:
        run: A run folder or a checkpoint.
        file: Where to.

    Returns:
        The largest difference of a probability on random pictures.

    Raises:
        RunError: It is a forest, the packages are missing, or the probabilities differ.
    """
    recognizer = load(run)
    try:
        with unstopped():  # compiled modules make an ImportError of a stop
            import onnx
            import torch

            onnxruntime = onnx_runtime()
    except ImportError as error:
        raise RunError(f"exporting needs {error.name}: pip install 'hwr[onnx]'") from error
    if not isinstance(recognizer.model, torch.nn.Module):
        raise RunError(f"{run} is no network; only networks are exported")
    network = torch.nn.Sequential(recognizer.model, torch.nn.Softmax(1)).cpu().eval()
    height, width = recognizer.size
    random = np.random.default_rng(0)
    image = random.random((CHECKED, 1, height, width), np.float32)
    image[::2] = np.where(image[::2] < 0.1, 0, 1)  # black on white, as pictures are
    with whole(file) as beside:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # onnxscript 0.6 tells all
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.from_numpy(image[:2]),),
                str(beside),
                input_names=["image"],
                output_names=["probability"],
                # Torch 2.7 checks that no multiple of an unbounded number could be its largest.
                dynamic_shapes=({0: torch.export.Dim("pictures", max=2**30)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(str(beside))
        card = {
            "alphabet": list(recognizer.alphabet.names),
            "size": [height, width],
            "preprocessing": recognizer.preprocessing,
            "frame": recognizer.frame and vars(recognizer.frame),
            "about": recognizer.about,
        }
        onnx.helper.set_model_props(model, {"hwr": json.dumps(card)})
        beside.write_bytes(model.SerializeToString())
        try:
            session = onnxruntime.InferenceSession(
                beside.read_bytes(), providers=["CPUExecutionProvider"]
            )
            (found,) = session.run(None, {"image": image})
        except Exception as error:  # onnxruntime has kinds of its own, without a common one
            why = str(error).splitlines()[0]
            raise RunError(f"onnxruntime can't run the ONNX file; it is not kept: {why}") from error
        expected = recognizer._scores(image)
        apart = float(np.abs(found - expected).max())
        if not apart < APART:
            raise RunError(f"the ONNX file's probabilities are {apart:.1g} apart; it is not kept")
    return apart
