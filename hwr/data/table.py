"""Read and check a dataset's table, or its folders: every mistake is named, with its row."""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from hwr.errors import DataError
from hwr.preprocessing.images import suffixes

WAYS_OUT = (
    "get the real dataset with hwr-data fetch FOLDER, name a folder with data.root=FOLDER or "
    "HWR_DATA=FOLDER, or generate a dataset with data=synthetic"
)
MOST_BYTES, MOST_IN_LINE, MOST_ROWS, MOST_LETTERS = 2**26, 10**5, 10**6, 255
LARGE_SET = "put the images of each class into a folder of its own, which needs no table"


@dataclass(frozen=True)
class Table:
    """Rows of a dataset, in one order whatever the order in the file.

    Attributes:
        source: The table, or the folder whose folders are the classes.
        files: File of each row, as written in the table.
        paths: Path of each file.
        labels: Class of each row.
        writers: Writer of each row; None where they are unknown.
        rows: Number of each row in the table, from 1 below the header; 0 without a table.
        wrong: Number and mistake of the rows that are left out above.
    """

    source: Path
    files: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    writers: tuple[str, ...] | None
    rows: tuple[int, ...]
    wrong: tuple[tuple[int, str], ...]


def read(
    root: str | Path,
    csv: str | None = None,
    image_column: str = "image",
    label_column: str = "label",
    writer_column: str = "writer",
) -> Table:
    """Read and check the rows of a dataset's table, or the names of its folders.

    Images of a table may lie where it says, under `Img/` or `img/`, or flat in the folder.
    Labels are brought into Unicode's composed form (NFC): disks differ in the form of file names.

    Args:
        root: Folder of the dataset.
        csv: Table in it; None: the only one there, or else a folder for every class.
        image_column: Column of the files.
        label_column: Column of the labels.
        writer_column: Column of the writers; it may be missing.

    Raises:
        DataError: Folder or table is missing, unreadable, or without rows or columns; or two
            classes differ in their Unicode form only.
    """
    try:
        folder = Path(root).expanduser()
    except RuntimeError as error:  # ~ where nobody has a home
        raise DataError(f"no data folder {root}: {error}") from error
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: {WAYS_OUT}")
    source = folder / csv if csv else _only_table(folder)
    if source is None:
        columns = _folders(folder)
    else:
        columns = _columns(source, {image_column: "file", label_column: "label"}, writer_column)
    numbered = source is not None
    source = source or folder
    files, labels = columns["file"], columns["label"]
    _one_form(source, labels)
    labels = [unicodedata.normalize("NFC", label) for label in labels]
    writers = columns["writer"] if "writer" in columns else writers_of(files)
    paths = _find(folder, files)
    wrong = dict(_wrong_rows(files, labels, paths))
    kept = [
        row - 1 for row, path in enumerate(paths, start=1) if row not in wrong and path is not None
    ]
    # Splits are drawn in this order, so they don't depend on the order of the rows.
    kept.sort(key=lambda row: (PurePosixPath(files[row]).name, files[row]))
    return Table(
        source=source,
        files=tuple(files[row] for row in kept),
        paths=tuple(path for row in kept if (path := paths[row]) is not None),
        labels=tuple(labels[row] for row in kept),
        writers=None if writers is None else tuple(writers[row] for row in kept),
        rows=tuple(row + 1 if numbered else 0 for row in kept),
        wrong=tuple((row if numbered else 0, what) for row, what in wrong.items()),
    )


def _only_table(root: Path) -> Path | None:
    """Find the only table in the folder; None if there is none."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv")
    if len(tables) > 1:
        names = ", ".join(path.name for path in tables)
        raise DataError(f"{root} holds several tables, {names}; choose one with data.csv=")
    return tables[0] if tables else None


def _folders(root: Path) -> dict[str, list[str]]:
    """List files and labels where every class has a folder of its own."""
    rows = [
        (f"{folder.name}/{file.name}", folder.name)
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
    return {"file": [file for file, _ in rows], "label": [label for _, label in rows]}


def _columns(file: Path, columns: dict[str, str], writer_column: str) -> dict[str, list[str]]:
    """Read the table's columns under new names; that of the writers only if it is there."""
    if not file.is_file():
        raise DataError(f"no table {file}: {WAYS_OUT}")
    if (size := file.stat().st_size) > MOST_BYTES:
        why = f"has {size:,} bytes, a table at most {MOST_BYTES:,}"
        raise DataError(f"{file} {why}; {LARGE_SET}")
    content = file.read_bytes()
    try:
        content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    if b"\0" in content:
        raise DataError(f"{file} is not text: it holds zero bytes; save it as UTF-8")
    # pandas would accept rows of too many fields.
    reader = csv.reader(_lines(file, content), strict=True)
    try:
        rows = list(islice((row for row in reader if row), MOST_ROWS + 2))
    except csv.Error as error:
        raise DataError(f"{file} is not a table: line {reader.line_num}: {error}") from error
    if not rows:
        needed = ",".join(columns)
        raise DataError(f"{file} is empty; it needs the columns {needed}")
    head, *rows = rows
    if len(rows) > MOST_ROWS:
        raise DataError(f"{file} has more than {MOST_ROWS:,} rows; {LARGE_SET}")
    if missing := [name for name in columns if name not in head]:
        found = ", ".join(head[:20]) + (" ..." if len(head) > 20 else "")
        way = "data.image_column and data.label_column name them"
        if len(head) == 1 and re.search("[;\t|]", found):
            way = "its columns must be separated by commas"
        raise DataError(f"{file} lacks the column {' and '.join(missing)}; it has {found} ({way})")
    for name in [*columns, writer_column]:
        if head.count(name) > 1:
            raise DataError(f"{file} has two columns {name}")
    if not rows:
        raise DataError(f"{file} has no rows")
    for number, row in enumerate(rows, start=1):
        if len(row) < len(head) or any(row[len(head) :]):  # empty ones too many are harmless
            raise DataError(f"{file}: row {number} has {len(row)} fields, the header {len(head)}")
    if writer_column in head:
        columns = {**columns, writer_column: "writer"}
    places = {name: head.index(column) for column, name in columns.items()}
    return {name: [row[place] for row in rows] for name, place in places.items()}


def _lines(file: Path, content: bytes) -> Iterator[str]:
    """Read the lines of a table; a field takes thirty times its bytes, so none may be long."""
    with io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="") as text:
        for number, line in enumerate(text, start=1):
            if len(line) > MOST_IN_LINE:
                why = f"line {number} has more than {MOST_IN_LINE:,} characters"
                raise DataError(f"{file} is not a table: {why}")
            yield line


def _one_form(source: Path, labels: Sequence[str]) -> None:
    """Reject classes that look the same but differ in their characters."""
    forms: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        other = forms.setdefault(unicodedata.normalize("NFC", label), label)
        if other != label:
            raise DataError(
                f"{source}: the classes {other!a} and {label!a} are both {label!r} in two "
                "Unicode forms; write them in one"
            )


def unlisted(table: Table) -> list[Path]:
    """List images that lie beside those of the table, but in no row of it."""
    suffixes = {path.suffix for path in table.paths}
    folders = {path.parent for path in table.paths}
    beside = {path for folder in folders for path in folder.iterdir() if path.suffix in suffixes}
    return sorted(beside - set(table.paths))


def complain(file: Path, wrong: Sequence[tuple[int, str]]) -> None:
    """Raise if there are wrong rows.

    Args:
        file: The table, or the folder.
        wrong: Row number, 0 without a table, and what is wrong with it.

    Raises:
        DataError: Lists the first twenty rows, and how many more there are.
    """
    if not wrong:
        return
    listed = "; ".join(f"row {row}: {what}" if row else what for row, what in sorted(wrong)[:20])
    more = f"; and {len(wrong) - 20} more" if len(wrong) > 20 else ""
    unit = "row" if wrong[0][0] else "image"
    count = f"1 {unit} is" if len(wrong) == 1 else f"{len(wrong)} {unit}s are"
    raise DataError(f"{file}: {count} wrong: {listed}{more}")


def writers_of(files: Sequence[str]) -> tuple[str, ...] | None:
    """Return the writer WWW of each file imgCCC-WWW.png; None where a name has another form."""
    found = [re.search(r"(?:^|/)img\d+-(\d+)\.\w+$", file) for file in files]
    return tuple(match[1] for match in found if match) if all(found) else None


def _find(root: Path, files: Sequence[str]) -> list[Path | None]:
    """Find the file of each row inside the folder; None where there is none."""
    there = (next(filter(os.path.isfile, _places(str(root), file)), None) for file in files)
    return [None if path is None else Path(path) for path in there]


def _places(root: str, file: str) -> Iterator[str]:
    """List the paths at which an image may lie."""
    yield os.path.join(root, file)  # pathlib takes ten times as long, for a million rows
    if name := PurePosixPath(file).name:
        yield from (os.path.join(root, folder, name) for folder in ("Img", "img", ""))


def _is_text(name: str) -> bool:
    """Tell whether a name on disk can be written as UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _wrong_rows(
    files: Sequence[str], labels: Sequence[str], paths: Sequence[Path | None]
) -> list[tuple[int, str]]:
    wrong: list[tuple[int, str]] = []
    first: dict[Path, int] = {}
    for row, (file, label, path) in enumerate(zip(files, labels, paths, strict=True), start=1):
        if not file:
            wrong.append((row, "no file name"))
        elif not _is_text(file + label):
            wrong.append((row, f"{file!a} or its label {label!a} is not UTF-8; rename it"))
        elif file.startswith("/") or ".." in file.split("/"):
            wrong.append((row, f"{file} lies outside the data folder"))
        elif path is None:
            wrong.append((row, f"{file} is missing"))
        elif path in first:
            wrong.append((row, f"{file} stands in row {first[path]} already"))
        elif not label.strip():
            wrong.append((row, f"{file} has no label"))
        elif len(label) > MOST_LETTERS:
            why = f"a label of {len(label):,} characters, at most {MOST_LETTERS} are read"
            wrong.append((row, f"{file} has {why}"))
        if path is not None:
            first.setdefault(path, row)
    return wrong
