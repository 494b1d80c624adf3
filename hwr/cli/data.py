"""hwr-data: draw a dataset, fetch or verify the real one, show any."""

import argparse
import os
import sys
import warnings
from pathlib import Path

from PIL import Image

from hwr.config.compose import compose, plain
from hwr.data.cache import in_threads
from hwr.errors import UserError, printable, sentence
from hwr.files import atomic_folder


def main() -> None:
    """Run the command hwr-data. Exit codes: 0; 1 where verify finds a difference; 2; 130; 143."""
    parser = argparse.ArgumentParser(prog="hwr-data", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)

    action = actions.add_parser("draw", help="draw a synthetic dataset and write it to disk")
    action.add_argument("folder", type=Path, metavar="FOLDER")
    action.add_argument("--writers", type=int, default=55, metavar="N")
    action.add_argument("--seed", type=int, default=0, metavar="S")

    action = actions.add_parser("fetch", help="fetch the real dataset and verify it")
    action.add_argument("folder", type=Path, metavar="FOLDER")
    action.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        help="kaggle, chars74k, an address, or an archive or folder that you have; "
        "without it Kaggle if kagglehub is installed, else Chars74K",
    )
    action.add_argument("settings", nargs="*", metavar="SETTING", help="such as url=ADDRESS")

    action = actions.add_parser("verify", help="compare the real dataset with its checksums")
    action.add_argument("folder", type=Path, metavar="FOLDER")

    action = actions.add_parser(
        "show", help="print what is in a dataset, and write an overview of its images"
    )
    action.add_argument(
        "settings",
        nargs="*",
        metavar="FOLDER|SETTING",
        help="a folder, or settings such as data=synthetic data.writers=9",
    )
    action.add_argument("--out", type=Path, metavar="FOLDER", help="default: outputs/show/NAME")

    arguments, behind = parser.parse_known_args()
    if arguments.action in ("fetch", "show"):  # argparse takes only the first of several groups
        arguments.settings += [word for word in behind if word[:1] != "-"]
        behind = [word for word in behind if word[:1] == "-"]
    if behind:
        parser.error(f"unrecognized arguments: {' '.join(behind)}")
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are rejected
    try:
        sys.exit(_run(arguments))
    except BrokenPipeError:  # of `head`, say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (UserError, OSError) as error:
        print(f"hwr-data: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def _run(arguments: argparse.Namespace) -> int:
    match arguments.action:
        case "draw":
            draw(arguments.folder, arguments.writers, arguments.seed)
        case "fetch":
            from hwr.data import fetch

            config = compose(arguments.settings, "fetch")
            fetch.fetch(arguments.folder, arguments.source, config.url, config.kaggle)
        case "verify":
            from hwr.data import fetch

            wrong = fetch.verify(arguments.folder)
            if not wrong:
                print(f"complete: {len(fetch.manifest()):,} images as published")
                return 0
            print("\n".join(map(printable, wrong[:20])))
            folder = printable(str(arguments.folder))
            print(f"{folder} is not the real dataset; differences: {len(wrong):,}")
            return 1
        case "show":
            from hwr.reporting.dataset import show  # brings matplotlib

            folders = [item for item in arguments.settings if "=" not in item]
            settings = [item for item in arguments.settings if "=" in item]
            if len(folders) > 1:
                raise UserError(f"one folder at a time, not {' and '.join(folders)}")
            node = plain(compose(["data=folder", *settings] if folders else settings).data)
            name = node.get("name", "data")
            if folders:
                node["root"], name = folders[0], Path(folders[0]).resolve().name
            print(show(node, arguments.out or Path("outputs/show") / name))
    return 0


def draw(folder: Path, writers: int, seed: int) -> None:
    """Write a synthetic dataset in the form of the real one.

    Args:
        folder: Must not exist, or be empty.
        writers: Writers who draw every character once, 1 to 999.
        seed: Seed of the drawing, at least 0.

    Raises:
        ConfigError: A number is out of range.
        DataError: The folder holds something.
    """
    compose(["data=synthetic", f"data.writers={writers}", f"data.seed={seed}"])
    from hwr.data import synthetic  # brings torch

    samples = synthetic.list_samples(writers)
    with atomic_folder(folder) as temporary:
        (temporary / "Img").mkdir()

        def write(writer: int) -> None:
            images = synthetic.draw_images(writer, seed)
            for image, (file, *_) in zip(images, samples[writer - 1 :: writers], strict=True):
                image.save(temporary / file, compress_level=1)

        in_threads(write, range(1, writers + 1), "drawing", "writer")
        rows = "".join(f"{file},{label}\n" for file, label, _ in samples)
        (temporary / "english.csv").write_text(f"image,label\n{rows}", encoding="utf-8")
    print(f"{len(samples):,} images of {writers} writers are in {printable(str(folder))}{os.sep}")
