"""english.csv -> a checked table: every row has a label and a file, or every mistake is named."""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from hwr.errors import DataError

WAYS_OUT = (
    "put the data set there, name its folder with data.root=FOLDER or HWR_DATA=FOLDER, "
    "or use the built-in one with data=synthetic"
)


@dataclass(frozen=True)
class Table:
    """The rows of a data set, in one order whatever the order in the file.

    Attributes:
        files: File of each row, as written in the table.
        paths: Where it lies.
        labels: Its character.
        rows: Its row in the table, counted from 1 below the header.
        wrong: Number and mistake of the rows that are left out above.
    """

    files: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    rows: tuple[int, ...]
    wrong: tuple[tuple[int, str], ...]


def read_table(root: Path, csv: str) -> Table:
    """Read and check a table `image,label`.

    Pictures may lie where the table says, under `Img/` or `img/`, or flat in the folder.

    Args:
        root: Folder of the data set.
        csv: Name of the table in it.

    Raises:
        DataError: Folder or table is missing, unreadable, or without rows or columns.
    """
    if not root.is_dir():
        raise DataError(f"no data folder {root}: {WAYS_OUT}")
    file = root / csv
    if not file.is_file():
        raise DataError(f"no table {file}: {WAYS_OUT}")
    try:
        with warnings.catch_warnings():
            # Without index_col=False a comma too many in every row would move the columns.
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            frame = pd.read_csv(
                file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
            )
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{file} is empty; it needs the columns image,label") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except (pd.errors.ParserError, ValueError) as error:
        raise DataError(f"{file} is not a table: {str(error).strip()}") from error
    missing = [name for name in ("image", "label") if name not in frame.columns]
    if missing:
        found = ", ".join(map(str, frame.columns))
        raise DataError(f"{file} lacks the column {' and '.join(missing)}; it has {found}")
    if frame.empty:
        raise DataError(f"{file} has no rows")
    files, labels = frame["image"].tolist(), frame["label"].tolist()
    paths = _find(root, files)
    wrong = dict(_wrong_rows(files, labels, paths))
    kept = [
        (PurePosixPath(name).name, name, path, label, row)
        for row, (name, label, path) in enumerate(zip(files, labels, paths, strict=True), start=1)
        if row not in wrong and path is not None
    ]
    # Splits are drawn in this order, so they don't depend on the order of the rows.
    kept.sort(key=lambda row: row[:2])
    return Table(
        files=tuple(row[1] for row in kept),
        paths=tuple(row[2] for row in kept),
        labels=tuple(row[3] for row in kept),
        rows=tuple(row[4] for row in kept),
        wrong=tuple(wrong.items()),
    )


def unlisted(table: Table) -> list[Path]:
    """Pictures that lie beside those of the table, but in no row of it."""
    suffixes = {path.suffix for path in table.paths}
    folders = {path.parent for path in table.paths}
    beside = {path for folder in folders for path in folder.iterdir() if path.suffix in suffixes}
    return sorted(beside - set(table.paths))


def complain(file: Path, wrong: Sequence[tuple[int, str]]) -> None:
    """Raise if there are wrong rows.

    Args:
        file: The table.
        wrong: Row number and what is wrong with it.

    Raises:
        DataError: Lists the first twenty rows, and how many more there are.
    """
    if not wrong:
        return
    listed = "; ".join(f"row {row}: {what}" for row, what in sorted(wrong)[:20])
    more = f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
    count = "1 row is" if len(wrong) == 1 else f"{len(wrong)} rows are"
    raise DataError(f"{file}: {count} wrong: {listed}{more}")


def writers_of(files: Sequence[str]) -> tuple[int, ...] | None:
    """The writer WWW of each file imgCCC-WWW.png, or None where a name has another form."""
    found = [re.search(r"(?:^|/)img\d+-(\d+)\.\w+$", file) for file in files]
    return tuple(int(match[1]) for match in found if match) if all(found) else None


def _find(root: Path, files: Sequence[str]) -> list[Path | None]:
    """The file of each row inside the folder, None where there is none."""
    found: list[Path | None] = []
    for file in files:
        name = PurePosixPath(file).name
        tries = (root / file, root / "Img" / name, root / "img" / name, root / name)
        found.append(next((path for path in tries if name and os.path.isfile(path)), None))
    return found


def _wrong_rows(
    files: Sequence[str], labels: Sequence[str], paths: Sequence[Path | None]
) -> list[tuple[int, str]]:
    wrong: list[tuple[int, str]] = []
    first: dict[Path, int] = {}
    for row, (file, label, path) in enumerate(zip(files, labels, paths, strict=True), start=1):
        if not file:
            wrong.append((row, "no file name"))
        elif PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            wrong.append((row, f"{file} lies outside the data folder"))
        elif path is None:
            wrong.append((row, f"{file} is missing"))
        elif path in first:
            wrong.append((row, f"{file} stands in row {first[path]} already"))
        elif not label.strip():
            wrong.append((row, f"{file} has no label"))
        if path is not None:
            first.setdefault(path, row)
    return wrong
