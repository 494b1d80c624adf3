"""A dataset of image files: with a table of labels, or with one folder for every class."""

import codecs
import csv
import os
import posixpath
import re
import sys
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hwr.charset import appearance, clean_label
from hwr.config.checks import WAYS_OUT
from hwr.data.cache import cached, digest, hash_of, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.errors import DataError, sanitize
from hwr.files import expand_user
from hwr.preprocessing.decode import (
    convert,
    image_files,
    open_file,
    reason,
    suffixes,
    upright_size,
)
from hwr.preprocessing.preprocessor import Preprocessor

MAX_ROWS = 1_000_000
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


class FolderDataset(CharacterDataset):
    """Images of a folder, decoded once and then read from the cache.

    Args:
        name: What the dataset is called in metrics.
        root: The folder.
        csv: The table in it; None: the only one there, or else a folder for every class.
        image_column: Column of the files.
        label_column: Column of the labels.
        writer_column: Column of the writers; it may be missing.
        max_pixels: Larger images are rejected.
        preprocessing: `notebook`, or `ink` for gray images.
        height: Of the arrays, in pixels.
        width: Of the arrays, in pixels.
        channels: 1 for gray, 3 for color.
        cache: Folder of decoded images; None: `HWR_CACHE`, else `~/.cache/hwr`.
        statistics: What the training images of a model look like (`ImageStatistics`), plain
            values; images are brought to that, as for inference. None: taken as they come.

    Raises:
        ConfigError: `channels` is 3, and `preprocessing` is for gray images.
        DataError: The dataset is missing or broken; every wrong row is named.
    """

    def __init__(
        self,
        name: str,
        root: str | Path,
        csv: str | None = None,
        image_column: str = "image",
        label_column: str = "label",
        writer_column: str = "writer",
        max_pixels: int = 50_000_000,
        preprocessing: str = "notebook",
        height: int = 30,
        width: int = 40,
        channels: int = 1,
        cache: str | None = None,
        statistics: dict[str, Any] | None = None,
    ) -> None:
        samples = read_samples(root, csv, image_column, label_column, writer_column)
        files, paths = samples["file"].tolist(), samples["path"].tolist()
        rows, errors = samples["row"].tolist(), samples["error"].tolist()
        preprocessor = Preprocessor.of(preprocessing, height, width, channels, statistics)

        def decode(k: int) -> NDArray[np.uint8] | str:
            """Decode an image; or return what is wrong with it or its row in the table."""
            if errors[k]:
                return str(errors[k])
            try:
                with open_file(paths[k], max_pixels) as image:
                    return preprocessor(convert(image, channels), "auto")
            except Exception as error:  # Pillow raises many kinds for broken files
                return f"{rows[k]}{files[k]} cannot be read as an image ({reason(error)})"

        def decode_all() -> NDArray[np.uint8]:
            arrays = in_threads(decode, range(len(samples)), "decoding", "image")
            wrong = [x for k in np.argsort(samples.index) if isinstance(x := arrays[k], str)]
            if wrong:
                more = f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
                if any(path is None for path in paths):
                    more += f"; {_content(expand_user(root))}"
                raise DataError(f"{root}: {len(wrong)} wrong: {'; '.join(wrong[:20])}{more}")
            return np.stack(arrays).reshape(-1, channels, height, width)

        if any(errors):
            decode_all()  # so that broken images are named together with wrong rows
        # The key is made of what the files hold, so that no change of an image goes unnoticed.
        contents = in_threads(digest, paths, "checking", "image", chunk=16)
        fingerprint = hash_of(zip(files, samples["label"], contents, strict=True))
        key = [fingerprint, preprocessing, height, width, channels, statistics]
        array = cached(cache, key, decode_all)
        self.paths = paths
        super().__init__(
            name,
            array,
            samples["label"].tolist(),
            files=files,
            writers=samples["writer"].tolist() if "writer" in samples else None,
            fingerprint=fingerprint,
            preprocessing=preprocessing,
        )

    def file_sizes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return width and height of the image files, upright, in pixels, shape (N, 2)."""
        return np.array([upright_size(self.paths[row]) for row in rows])


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
        samples = _read_table(folder / csv if csv else tables[0], columns)
        located = _locate(str(folder), samples["file"])
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


def _content(folder: Path) -> str:
    """Say where files are looked for."""
    names = sorted(x.name + "/" * x.is_dir() for x in folder.iterdir() if x.name[0] != ".")
    return f"paths are relative to {folder}, which holds {', '.join(names[:8])}"


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


def _read_table(file: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read the columns of a table under new names; the last one only if it is there."""
    if not file.is_file():
        raise DataError(f"no table {file}: {WAYS_OUT}")
    try:
        with file.open("rb") as binary:
            start = binary.read(2)
        is_utf_16 = start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        with file.open(encoding="utf-16" if is_utf_16 else "utf-8-sig", newline="") as stream:
            first = stream.readline()
            if separator := re.fullmatch(r'"?sep=([,;|\t])\W*', first):  # for Excel
                first = stream.readline()
            names = [name for name, new_name in columns.items() if new_name != "writer"]
            delimiters = (separator[1],) if separator else (",", ";", "\t", "|")
            headers = {delimiter: _header(first, delimiter, columns) for delimiter in delimiters}
            fitting = [x for x in delimiters if set(names) <= set(headers[x])] or delimiters
            header = headers[fitting[0]]
            # pandas would accept rows of too few fields and text behind a closing quote.
            table = csv.reader(
                chain([first], stream), delimiter=fitting[0], skipinitialspace=True, strict=True
            )
            next(table, None)
            lines = ((k, row) for k, row in enumerate(table, start=1) if any(map(str.strip, row)))
            rows = list(islice(lines, MAX_ROWS + 1))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file} is not a table: {error}") from error
    for name, new_name in columns.items():
        if header.count(name) > 1 or (name not in header and new_name != "writer"):
            raise DataError(
                f"{file} must have one column {name}, separated by commas; it has "
                f"{', '.join(header[:20])} (data.image_column and data.label_column name columns; "
                "where folders are the classes, move the table elsewhere)"
            )
    if not 0 < len(rows) <= MAX_ROWS:
        raise DataError(f"{file} must have between 1 and {MAX_ROWS:,} rows below the header")
    for number, row in rows:
        if len(row) < len(header) or any(map(str.strip, row[len(header) :])):
            raise DataError(f"{file}: row {number} has {len(row)} fields, the header {len(header)}")
    cells = [row[: len(header)] for _, row in rows]
    samples = pd.DataFrame(cells, columns=header, dtype=object).rename(columns=columns)
    samples["row"] = [f"row {number}: " for number, _ in rows]
    return samples.filter(["file", "label", "writer", "row"])


def _header(line: str, delimiter: str, columns: Iterable[str]) -> list[str]:
    """Return the names in a header, without blanks and empty names at its end."""
    cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    while cells and not cells[-1].strip():
        cells.pop()
    cells = [cell.strip() for cell in cells]
    known = {name.casefold(): name for name in columns}
    return [cell if cell in columns else known.get(cell.casefold(), cell) for cell in cells]


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


def _locate(root: str, files: Iterable[str]) -> list[tuple[str, Path | None]]:
    """Return the normalized name of each file in a table, and where it lies inside the folder."""
    folders = [name for name in os.listdir(root) if os.path.isdir(os.path.join(root, name))]
    folders = [name for name in folders if name[0] != "."]
    listed = {re.split(r"[/\\]", file)[0] for file in files}
    places = ["Img", "img", ""]
    if len(folders) == 1 and folders[0] not in listed:
        places += folders
    real = cache(os.path.realpath)

    @cache
    def names_in(folder: str) -> dict[str, set[str]]:
        """Map the names in a folder, also without suffix, in lower case, to its files."""
        names = defaultdict(set)
        if os.path.isdir(path := os.path.join(root, folder)):
            for name in os.listdir(path):
                stem, suffix = os.path.splitext(name)
                for key in (name, stem if suffix.lower() in suffixes() else name):
                    names[clean_label(key).casefold()].add(name)
        return names

    def locate(file: str) -> tuple[str, Path | None]:
        # pathlib takes ten times as long, for a million rows.
        plain = file.strip().replace("\\", "/")
        if file != plain and (os.name == "nt" or not os.path.isfile(os.path.join(root, file))):
            file = plain
        if file:
            file = posixpath.normpath(file)
        if os.path.isabs(file):
            folder, name = os.path.split(file)
            inside = os.path.relpath(real(folder), real(root))
            file = file if inside.startswith("..") else posixpath.normpath(f"{inside}/{name}")
        if not file or _is_outside(file):
            return file, None
        folder, name = posixpath.split(file)
        for place in (folder, *places):
            if os.path.isfile(path := os.path.join(root, place, name)):
                return file, Path(path)
        for place in (folder, *places):
            if len(found := names_in(place).get(clean_label(name).casefold(), set())) == 1:
                (name,) = found
                return posixpath.join(folder, name), Path(root, place, name)
        return file, None

    return [locate(file) for file in files]


def _is_outside(file: str) -> bool:
    return bool(re.match(r"/|\.\.(/|$)|[A-Za-z]:/", file))


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
        elif _is_outside(file):
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
