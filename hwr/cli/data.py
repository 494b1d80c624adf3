"""Draw a dataset, fetch or verify the real one, show any."""

import argparse
import os
import warnings
from pathlib import Path

from PIL import Image

from hwr.cli.commands import argument_parser
from hwr.config.compose import compose, plain
from hwr.data.cache import in_threads
from hwr.errors import UserError, sanitize
from hwr.files import atomic_folder, expand_user


def _parse() -> argparse.Namespace:
    parser = argument_parser("hwr-data", __doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("draw", help="draw a synthetic dataset and write it to disk")
    action.add_argument("folder", type=expand_user, metavar="FOLDER")
    action.add_argument("--writers", type=int, default=55, metavar="N")
    action.add_argument("--seed", type=int, default=0, metavar="S")
    action = actions.add_parser("fetch", help="fetch the real dataset and verify it")
    action.add_argument("folder", type=expand_user, metavar="FOLDER")
    action.add_argument(
        "--from",
        dest="source",
        type=os.path.expanduser,
        metavar="SOURCE",
        help="kaggle, chars74k, a URL, or an archive or folder that you have; "
        "default: kaggle if kagglehub is installed, else chars74k",
    )
    action = actions.add_parser("verify", help="compare the real dataset with its checksums")
    action.add_argument("folder", type=expand_user, metavar="FOLDER")
    action = actions.add_parser(
        "show", help="print what is in a dataset, and write an overview of its images"
    )
    action.add_argument(
        "settings",
        nargs="*",
        metavar="FOLDER|SETTING",
        help="a folder, or settings such as data=synthetic data.writers=9",
    )
    action.add_argument(
        "--out", type=expand_user, metavar="FOLDER", help="default: outputs/show/NAME"
    )
    return parser.parse_args()


def main() -> int:
    """Run hwr-data; return 1 if `verify` finds a difference."""
    arguments = _parse()
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such images are rejected
    match arguments.action:
        case "draw":
            draw(arguments.folder, arguments.writers, arguments.seed)
        case "fetch":
            from hwr.data import fetch

            fetch.fetch(arguments.folder, arguments.source)
        case "verify":
            return verify(arguments.folder)
        case "show":
            show(arguments.settings, arguments.out)
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
    print(f"{len(samples):,} images of {writers} writers are in {sanitize(str(folder))}{os.sep}")


def verify(folder: Path) -> int:
    """Print how a folder differs from the real dataset; return 1 if it does."""
    from hwr.data import fetch

    if wrong := fetch.verify(folder):
        print("\n".join(map(sanitize, wrong[:20])))
        name = sanitize(str(folder))
        print(f"{name} is not the real dataset; differences: {len(wrong):,}")
        return 1
    print(f"complete: {len(fetch.manifest()):,} images as published")
    return 0


def show(words: list[str], out: Path | None) -> None:
    """Print what is in a dataset and write an overview of it.

    Args:
        words: A folder, settings, or both.
        out: Where to write; None: a folder in outputs/show.

    Raises:
        UserError: There are several folders, or the dataset can't be read.
    """
    from hwr.reporting import dataset  # brings matplotlib

    folders = [word for word in words if "=" not in word or os.path.isdir(word)]
    if len(folders) > 1:
        raise UserError(f"one folder at a time, not {' and '.join(folders)}")
    settings = [word for word in words if word not in folders]
    node = plain(compose(["data=folder", *settings] if folders else settings).data)
    name = node.get("name", "data")
    if folders:
        node["root"], name = folders[0], expand_user(folders[0]).resolve().name
    print(dataset.show(node, out or Path("outputs/show") / name))
