"""Read a table of labels, and locate its files."""

import codecs
import csv
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import chain, islice
from pathlib import Path

import pandas as pd

from hwr.charset import clean_label
from hwr.config.checks import WAYS_OUT
from hwr.errors import DataError
from hwr.preprocessing.decode import suffixes

MAX_ROWS = 1_000_000


def read_table(file: Path, columns: dict[str, str]) -> pd.DataFrame:
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


def locate(root: str, files: Iterable[str]) -> list[tuple[str, Path | None]]:
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

    def locate_one(file: str) -> tuple[str, Path | None]:
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
        if not file or is_outside(file):
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

    return [locate_one(file) for file in files]


def is_outside(file: str) -> bool:
    """Tell if a path in a table leads out of the data folder."""
    return bool(re.match(r"/|\.\.(/|$)|[A-Za-z]:/", file))
