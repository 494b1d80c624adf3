"""A dataset of image files: with a table of labels, or with one folder for every class."""

import csv
import os
import unicodedata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from hwr.config.checks import WAYS_OUT
from hwr.data.cache import cached, digest, hash_of, in_threads
from hwr.data.dataset import CharacterDataset
from hwr.errors import DataError
from hwr.files import expand_user
from hwr.preprocessing.decode import convert, open_file, reason, suffixes, upright_size
from hwr.preprocessing.preprocessor import Preprocessor

MAX_ROWS = 1_000_000
WRITER = r"(?:^|/)img\d+-(\d+)\.\w+$"
"""Names of images that tell their writer: imgCCC-WWW.png."""


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

    Images of a table may lie where it says, under `Img/` or `img/`, or directly in the folder.
    Labels are brought into Unicode's composed form (NFC): disks differ in the form of file names.

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
        DataError: Folder or table is missing, unreadable, or without rows or columns.
    """
    folder = expand_user(root)
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: {WAYS_OUT}")
    tables = [file for file in sorted(folder.iterdir()) if file.suffix.lower() == ".csv"]
    if len(tables) > 1 and not csv:
        names = ", ".join(file.name for file in tables)
        raise DataError(f"{folder} holds several tables, {names}; choose one with data.csv=")
    if csv or tables:
        columns = {image_column: "file", label_column: "label", writer_column: "writer"}
        samples = _read_table(folder / csv if csv else tables[0], columns)
    else:
        samples = _list_class_folders(folder)
    files = samples["file"].tolist()
    changes = {
        "label": [unicodedata.normalize("NFC", label) for label in samples["label"]],
        "path": [_find(str(folder), file) for file in files],
    }
    # Text columns could not hold the names of files that are not UTF-8.
    samples = pd.DataFrame(samples.to_dict("list") | changes, dtype=object)
    writers = samples["file"].str.extract(WRITER)[0]
    if "writer" not in samples and writers.notna().all():
        samples["writer"] = writers
    order = sorted(range(len(files)), key=lambda k: (os.path.basename(files[k]), files[k]))
    return samples.assign(error=_errors(samples)).iloc[order]


def _read_table(file: Path, columns: dict[str, str]) -> pd.DataFrame:
    """Read the columns of a table under new names; the last one only if it is there."""
    if not file.is_file():
        raise DataError(f"no table {file}: {WAYS_OUT}")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            # pandas would accept rows of too few fields and text behind a closing quote.
            lines = (row for row in csv.reader(stream, strict=True) if row)
            header, rows = next(lines, []), list(islice(lines, MAX_ROWS + 1))
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file} is not a table: {error}") from error
    for name, new_name in columns.items():
        if header.count(name) > 1 or (name not in header and new_name != "writer"):
            raise DataError(
                f"{file} must have one column {name}, separated by commas; it has "
                f"{', '.join(header[:20])} (data.image_column and data.label_column name columns)"
            )
    if not 0 < len(rows) <= MAX_ROWS:
        raise DataError(f"{file} must have between 1 and {MAX_ROWS:,} rows below the header")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DataError(f"{file}: row {number} has {len(row)} fields, the header {len(header)}")
    samples = pd.DataFrame(rows, columns=header, dtype=object).rename(columns=columns)
    samples["row"] = [f"row {number}: " for number in range(1, len(samples) + 1)]
    return samples.filter(["file", "label", "writer", "row"])


def _list_class_folders(root: Path) -> pd.DataFrame:
    """List files and labels where every class has a folder of its own."""
    rows = [
        (f"{folder.name}/{file.name}", folder.name, "")
        for folder in sorted(root.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in suffixes() and not file.name.startswith(".")
    ]
    if not rows:
        raise DataError(
            f"{root} holds neither a table (*.csv) nor folders of images named like the classes: "
            f"{WAYS_OUT}"
        )
    return pd.DataFrame(rows, columns=["file", "label", "row"], dtype=object)


def _find(root: str, file: str) -> Path | None:
    """Find the file of a row inside the folder."""
    name = os.path.basename(file)
    for place in (file, f"Img/{name}", f"img/{name}", name):
        path = os.path.join(root, place)  # pathlib takes ten times as long, for a million rows
        if os.path.isfile(path):
            return Path(path)
    return None


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
        elif file.startswith("/") or ".." in file.split("/"):
            error = f"{file} lies outside the data folder"
        elif path is None:
            error = f"{file} is missing"
        elif path in earlier:
            error = f"{file} is listed twice"
        else:
            error = "" if label.strip() else f"{file} has no label"
        errors.append(error and row + error)
        earlier.add(path)
    return errors
