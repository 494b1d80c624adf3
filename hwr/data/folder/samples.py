"""List the samples of a folder: its images, their labels and writers."""

import os
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

import pandas as pd

from hwr.charset import appearance, clean_label
from hwr.config.checks import WAYS_OUT
from hwr.data.folder.table import is_outside, locate, read_table
from hwr.errors import DataError, sanitize
from hwr.files import expand_user
from hwr.preprocessing.decode import image_files

WRITER = r"(?:^|/)img\d{3}-(\d{3})\.\w+$"
"""Names of images that tell their writer: imgCCC-WWW.png."""
PARTS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
"""Names of folders, in lower case, that hold a part of a dataset."""
WAYS_IN = {
    "set data.root to the folder of {}": (".csv", ".tsv"),
    "save {} as CSV (UTF-8)": (".xlsx", ".xls", ".ods", ".numbers"),
    "unpack {}": (".zip", ".tar", ".gz", ".tgz", ".rar", ".7z"),
}
"""What to do with files where neither table nor class folders are."""
SORT = "sort the images into such folders, or list them in a table of columns image and label"


def read_samples(
    root: str | Path,
    csv: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    writer_column: str = "writer",
) -> pd.DataFrame:
    """List the images of a folder, from its table or from one folder for every class.

    Images of a table may lie where it says, under `Img/` or `img/`, in the only subfolder, or
    directly in the folder; their suffix and the case of names may differ. Images in subfolders of
    a class folder belong to its class. What is left out is printed to standard error.

    Args:
        root: Folder of the dataset.
        csv: Table in it; None: the only one there, or else a folder for every class.
        image_column: Column of the files.
        label_column: Column of the labels.
        writer_column: Column of the writers; it may be missing.

    Returns:
        Columns `file`, `label`, `writer` (if they are known), `path`, `row` (`row N: ` of a table)
        and `error` (empty if there is none), sorted by file name, since splits are drawn in this
        order.

    Raises:
        DataError: Folder or table is missing, unreadable or empty, or labels look the same.
    """
    folder = expand_user(root)
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: {WAYS_OUT}")
    images, others = ([], []) if csv else image_files(folder)
    tables = [file for file in others if file.parent == folder and _is_table(file)]
    if len(tables) > 1:
        names = ", ".join(file.name for file in tables)
        raise DataError(f"{folder} holds several tables, {names}; choose one with data.csv=")
    if csv or tables:
        columns = {image_column: "file", label_column: "label", writer_column: "writer"}
        samples = read_table(folder / csv if csv else tables[0], columns)
        located = locate(str(folder), samples["file"])
    else:
        samples = _list_class_folders(folder, images, others)
        located = [(file, folder / file) for file in samples["file"]]
    files = [file for file, _ in located]
    labels = _clean_labels(folder, samples)
    changes = {"file": files, "label": labels, "path": [path for _, path in located]}
    # Text columns could not hold the names of files that are not UTF-8.
    samples = pd.DataFrame(samples.to_dict("list") | changes, dtype=object)
    writers = samples["file"].str.extract(WRITER)[0]
    if "writer" not in samples and writers.notna().all():
        samples["writer"] = writers
    order = sorted(range(len(files)), key=lambda k: (os.path.basename(files[k]), files[k]))
    samples = samples.assign(error=_errors(samples)).iloc[order]
    unlisted = sorted({*images} - {*samples["path"]})
    if tables and unlisted and not any(samples["error"]):
        _note(
            f"{tables[0]} gives the labels, not the folders; {len(unlisted):,} of {len(images):,} "
            f"images are not in it and left out, such as {unlisted[0].relative_to(folder)}"
        )
    return samples


def _note(text: str) -> None:
    print(f"hwr: {sanitize(text)}", file=sys.stderr)


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in (".csv", ".tsv")


def _clean_labels(root: Path, samples: pd.DataFrame) -> list[str]:
    """Return the labels without blanks around them; reject labels that look the same."""
    first = samples.drop_duplicates("label")
    rows = dict(zip(first["label"], first["row"], strict=True))
    cleaned = {label: clean_label(label) for label in rows}
    for label in rows:
        if cleaned[label] not in ("", unicodedata.normalize("NFC", label)):
            _note(f"{root}: blanks around labels are ignored, as in {rows[label]}{label!a}")
            break
    alike: dict[str, dict[str, str]] = defaultdict(dict)
    for label, row in rows.items():
        alike[appearance(cleaned[label])][cleaned[label]] = f"{row}{cleaned[label]!a}"
    for names in alike.values():
        if len(names) > 1:
            raise DataError(
                f"{root}: labels look the same but differ, {' and '.join(names.values())}; write "
                "them alike"
            )
    return [cleaned[label] for label in samples["label"]]


def _list_class_folders(root: Path, images: list[Path], others: list[Path]) -> pd.DataFrame:
    """List files and labels where every class has a folder of its own."""
    files = [file.relative_to(root) for file in images if file.parent != root]
    labels = {file.parts[0] for file in files}
    if files and {label.casefold() for label in labels} <= PARTS:
        raise DataError(
            f"{root} holds the parts {', '.join(sorted(labels))} of a dataset, not classes; set "
            f"data.root to one of them, which is then split, or join their class folders in one"
        )
    if files and all(len(file.parts) > 2 for file in files):
        raise DataError(
            f"{root} has images in folders of folders only, such as {files[0]}, so that the "
            f"classes are unclear; set data.root={images[0].parent.parent}, or move the class "
            f"folders directly into {root}"
        )
    if len(labels) < 2:
        ways = [
            way.format(file.relative_to(root))
            for way, kinds in WAYS_IN.items()
            for file in others
            if file.suffix.lower() in kinds
        ]
        raise DataError(
            f"{root} holds neither a table (*.csv) nor folders of images named like the classes, "
            f"at least two: {(ways or [SORT if images else WAYS_OUT])[0]}"
        )
    left_out = [file for file in images if file.parent == root] + others
    groups = {file.parent: file for file in reversed(left_out)}
    names = [str(file.relative_to(root)) for file in groups.values()]
    filled = labels | {file.relative_to(root).parts[0] for file in left_out}
    names += [f"{x.name}/" for x in root.iterdir() if x.is_dir() and x.name not in filled]
    if names := sorted(name for name in names if name[0] != "."):
        more = f" and {len(names) - 10} more folders" if len(names) > 10 else ""
        _note(f"{root}: left out as no images of a class: {', '.join(names[:10])}{more}")
    rows = [(file.as_posix(), file.parts[0], "") for file in files]
    return pd.DataFrame(rows, columns=["file", "label", "row"], dtype=object)


def _errors(samples: pd.DataFrame) -> list[str]:
    """Say what is wrong with each row; nothing where it is right."""
    errors = []
    earlier: set[Path] = set()
    columns = (samples[name] for name in ("file", "label", "path", "row"))
    for file, label, path, row in zip(*columns, strict=True):
        if not file:
            error = "no file name"
        elif (file + label).encode(errors="replace").decode() != file + label:
            error = f"{file!a} or its label {label!a} is not UTF-8; rename it"
        elif is_outside(file):
            error = f"{file} lies outside the data folder; give a path relative to it"
        elif path is None:
            error = f"{file} is missing"
        elif path in earlier:
            error = f"{file} is listed twice"
        else:
            error = "" if label.strip() else f"{file} has no label"
        errors.append(error and row + error)
        earlier.add(path)
    return errors
