"""hwr-predict: recognize images with a trained model."""

import argparse
import csv
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hwr.errors import DataError, UserError, printable
from hwr.inference.loading import load
from hwr.inference.recognizer import BATCH, Prediction, Recognizer
from hwr.preprocessing.images import suffixes


def main() -> None:
    """Run the command hwr-predict. Exit codes: 0; 1 if an image can't be read; 2; 130; 143."""
    parser = argparse.ArgumentParser(prog="hwr-predict", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder, checkpoint, forest or ONNX file")
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="file, folder, or - for paths from stdin"
    )
    parser.add_argument("--top", type=int, default=3, metavar="N")
    parser.add_argument("--frame", choices=("auto", "as_is"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--by", metavar="METRIC", help="chooses among runs, such as val/acc")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package whose model classes RUN may use; may be repeated",
    )
    parser.add_argument(
        "--label-from-folder",
        action="store_true",
        help="an image's folder is its class; ends with the accuracy",
    )
    kind = parser.add_mutually_exclusive_group()
    for name in ("json", "csv"):
        kind.add_argument(f"--{name}", dest="kind", action="store_const", const=name)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are rejected
    try:
        sys.exit(_run(arguments))
    except UserError as error:
        print(f"hwr-predict: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # by `head`, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:  # those of images are printed one by one; this is the output's
        print(f"hwr-predict: the output can't be written: {error.strerror}", file=sys.stderr)
        os._exit(2)  # at the usual exit Python would try to write it once more


def _run(arguments: argparse.Namespace) -> int:
    if sys.stdout is None:
        raise DataError("standard output is closed")
    if sys.stdin is not None:
        sys.stdin.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    if arguments.top < 1:
        raise DataError(f"--top {arguments.top} must be at least 1")
    recognizer = load(arguments.run, arguments.device, arguments.by, arguments.trust)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if arguments.kind == "csv":
        writer.writerow(("file", "prediction", "probability"))
    broken = correct = total = 0
    for path, found in _read(recognizer, _paths(arguments.images), arguments):
        if isinstance(found, DataError):
            print(f"hwr-predict: {printable(str(found))}", file=sys.stderr)
            broken += 1
            continue
        total += 1
        if arguments.label_from_folder:
            correct += found.character == _label(path, recognizer)
        if arguments.kind == "csv":
            writer.writerow((path, found.character, f"{found.probability:.8f}"))
        elif arguments.kind == "json":
            print(json.dumps(_plain(path, found), ensure_ascii=False))
        else:
            cells = [f"{printable(name)} {share:.1%}" for name, share in found.top]
            best = printable(found.character)
            print(f"{printable(str(path))}\t{best}\t{found.probability:.1%}\t{'  '.join(cells)}")
        sys.stdout.flush() if not total % BATCH else None
    if arguments.label_from_folder and total:
        print(f"accuracy {correct / total:.4f} of {total:,} images", file=sys.stderr)
    sys.stdout.flush()
    return 1 if broken else 0


def _label(path: Path, recognizer: Recognizer) -> str:
    """Return the class that the image's folder names."""
    label = path.resolve().parent.name
    if label not in recognizer.charset.names:
        raise DataError(f"{path}: its folder {label!r} is not a class of this model")
    return label


def _plain(path: Path, found: Prediction) -> dict[str, Any]:
    return {
        "file": str(path),
        "prediction": found.character,
        "probability": round(found.probability, 8),
        "top": {name: round(share, 8) for name, share in found.top},
    }


def _paths(names: Iterable[str]) -> Iterator[Path]:
    """Yield images: files as named, those in folders by name, and those that stdin names."""
    for name in names:
        if name == "-":
            lines = (line.rstrip("\r\n") for line in sys.stdin or ())
            yield from _paths(line for line in lines if line.strip() not in ("", "-"))
        elif os.path.isdir(name):  # pathlib raises where a name is too long
            found = sorted(
                path
                for path in Path(name).rglob("*")
                if path.suffix.lower() in suffixes() and path.is_file()
            )
            yield from found or [Path(name)]  # for its error
        else:
            yield Path(name)


def _read(
    recognizer: Recognizer, paths: Iterator[Path], arguments: argparse.Namespace
) -> Iterator[tuple[Path, Prediction | DataError]]:
    """Yield the prediction for each image, in order, batch by batch."""
    ours, theirs = tee(paths)
    arrays = zip(ours, recognizer.prepared(theirs, arguments.frame), strict=True)
    with _bar() as advance:
        while batch := list(islice(arrays, BATCH)):
            valid = [array for _, array in batch if not isinstance(array, DataError)]
            scores = [recognizer.scores(np.stack(valid))] if valid else []
            rows = (row for part in scores for row in recognizer.predictions(part, arguments.top))
            for path, array in batch:
                yield path, array if isinstance(array, DataError) else next(rows)
            advance(len(batch))


@contextmanager
def _bar() -> Iterator[Callable[[int], Any]]:
    """Show a progress bar on long work, if standard error is a terminal and tqdm is installed."""
    if not sys.stderr.isatty() or find_spec("tqdm") is None:
        yield lambda count: None
        return
    from tqdm import tqdm

    with tqdm(unit="image", delay=1) as bar:
        yield bar.update
