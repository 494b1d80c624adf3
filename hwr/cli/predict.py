"""Recognize images with a trained model."""

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from hwr.charset import clean_label
from hwr.cli.commands import add_trust, argument_parser
from hwr.errors import DataError, sanitize
from hwr.inference.loading import load
from hwr.inference.recognizer import BATCH, Prediction, Recognizer
from hwr.preprocessing.decode import image_files


def _parse() -> argparse.Namespace:
    parser = argument_parser("hwr-predict", __doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, checkpoint, forest or ONNX file")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="file, folder, or - for paths from stdin"
    )
    parser.add_argument("--top", type=int, default=3, metavar="N")
    parser.add_argument("--normalize", choices=("auto", "as_is"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--by", metavar="METRIC", help="chooses among runs, such as val/acc")
    add_trust(parser)
    parser.add_argument(
        "--label-from-folder",
        action="store_true",
        help="an image's folder is its class; ends with the accuracy",
    )
    formats = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name)
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top {arguments.top} must be at least 1")
    return arguments


def main() -> int:
    """Run hwr-predict; return 1 if an image can't be read."""
    arguments = _parse()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are rejected
    recognizer = load(arguments.run, arguments.device, arguments.by, arguments.trust)
    if arguments.format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(("file", "prediction", "probability"))
    failed = correct = total = 0
    for path, result in _predict(recognizer, _paths(arguments.images), arguments):
        if isinstance(result, DataError):
            print(f"hwr-predict: {sanitize(str(result))}", file=sys.stderr)
            failed += 1
            continue
        _print(path, result, arguments.format)
        total += 1
        if arguments.label_from_folder:
            label = clean_label(Path(os.path.abspath(path)).parent.name)
            if label not in map(clean_label, recognizer.charset.names):
                raise DataError(f"{path}: its folder {label!r} is not a class of this model")
            correct += clean_label(result.character) == label
    if arguments.label_from_folder and total:
        print(f"accuracy {correct / total:.4f} of {total:,} images", file=sys.stderr)
    return 1 if failed else 0


def _paths(names: Iterable[str]) -> Iterator[Path]:
    """Yield images: files as named, those in folders by name, and those that stdin names."""
    for name in map(os.path.expanduser, names):
        if name == "-":
            if b"\0" in sys.stdin.buffer.peek():  # type: ignore[union-attr]
                raise DataError(
                    "standard input holds no text, but - reads paths from it, one in a line; "
                    "to predict an image, use: hwr-predict RUN /dev/stdin < IMAGE"
                )
            yield from _paths(line.strip() for line in sys.stdin if line.strip() not in ("", "-"))
        elif os.path.isdir(name):  # pathlib raises if a name is too long
            yield from image_files(Path(name))[0] or [Path(name)]  # for the error if it has none
        else:
            yield Path(name)


def _predict(
    recognizer: Recognizer, paths: Iterator[Path], arguments: argparse.Namespace
) -> Iterator[tuple[Path, Prediction | DataError]]:
    """Yield the prediction for each image, or why there is none, in order, batch by batch."""
    while batch := list(islice(paths, BATCH)):
        arrays = list(recognizer.prepared(batch, arguments.normalize))
        valid = [array for array in arrays if not isinstance(array, DataError)]
        scores = recognizer.scores(np.stack(valid)) if valid else np.empty((0, 1), np.float32)
        predictions = recognizer.predictions(scores, arguments.top)
        for path, array in zip(batch, arrays, strict=True):
            yield path, array if isinstance(array, DataError) else next(predictions)
        sys.stdout.flush()


def _print(path: Path, prediction: Prediction, output: str | None) -> None:
    character, probability, top = prediction.character, prediction.probability, prediction.top
    if output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow((path, character, f"{probability:.8f}"))
    elif output == "json":
        rounded = {name: round(share, 8) for name, share in top}
        row = {"file": str(path), "prediction": character, "probability": round(probability, 8)}
        print(json.dumps(row | {"top": rounded}, ensure_ascii=False))
    else:
        cells = "  ".join(f"{sanitize(name)} {share:.1%}" for name, share in top)
        print(f"{sanitize(str(path))}\t{sanitize(character)}\t{probability:.1%}\t{cells}")
