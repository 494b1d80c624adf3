"""The real data set: download, unpack safely, verify against the checksums of every picture.

The manifest `english.sha256` has the SHA-256 of all 3,410 pictures, taken from Kaggle's files.
It alone decides what is accepted, wherever the files come from.
"""

import csv
import hashlib
import importlib
import os
import secrets
import shutil
import string
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache as once
from pathlib import Path, PurePosixPath

from hwr.data import archive
from hwr.data.download import download, forget, reason
from hwr.errors import DataError

MANIFEST = "d0487c91b10a8a092070c27e103235cf348d9b837c8ff7cfd3eff1a060fa3e2c"
"""SHA-256 of the manifest file: one digest for the whole data set."""

OTHER_WAYS = (
    "other ways: --from kaggle (needs pip install 'hwr[kaggle]'), --from chars74k, "
    "--from FILE for an archive or folder that you have, or data=synthetic, which needs no files"
)
PLACEHOLDERS = {".gitignore", ".gitkeep", "README.md"}
"""Files that a folder may hold and still count as empty."""


@once
def manifest() -> dict[str, str]:
    """SHA-256 of each picture by its name, from img001-001.png to img062-055.png.

    Raises:
        DataError: The file is not the one that this version came with.
    """
    content = Path(__file__).with_name("english.sha256").read_bytes()
    if hashlib.sha256(content).hexdigest() != MANIFEST:
        raise DataError("hwr/data/english.sha256 was changed or is damaged: install hwr again")
    lines = [line.split() for line in content.decode().splitlines()]
    return {PurePosixPath(file).name: digest for digest, file in lines}


def fetch(
    folder: Path,
    source: str | None,
    url: str,
    kaggle: str,
    cache: Path | None = None,
    timeout: float = 30,
) -> None:
    """Put the data set into a folder: `english.csv` and `Img/imgCCC-WWW.png`, all or nothing.

    The two live downloads can't be part of the tests. Whether Chars74K's own archive holds the
    same bytes as Kaggle's files is not known; if it doesn't, it is refused.

    Args:
        folder: Where to; absent, or empty but for placeholders.
        source: `kaggle`, `chars74k`, an http(s) URL of an archive, or a local archive or folder.
            None tries Kaggle, then Chars74K.
        url: Chars74K's archive.
        kaggle: Kaggle's name of the data set.
        cache: Where a download lies until it is unpacked; HWR_CACHE, else ~/.cache/hwr.
        timeout: Longest silence of a server, in seconds.

    Raises:
        DataError: There is no way to the files, they are not the data set, or the folder is taken.
    """
    folder = folder.resolve()
    try:
        if folder.is_dir() and not verify(folder):
            print(f"{folder}: complete already, {len(manifest()):,} pictures verified")
            return
        _placeholders(folder)
        cache = cache or Path(os.environ.get("HWR_CACHE") or "~/.cache/hwr")
        if source == "kaggle" or source is None:
            try:
                pictures = _from_kaggle(kaggle)
            except DataError as error:
                if source:
                    raise DataError(f"{error}; {OTHER_WAYS}") from error
                print(f"hwr: not from Kaggle: {error}; going on with {url}", file=sys.stderr)
                pictures = _from_url(url, cache, timeout)
        elif source == "chars74k" or "://" in source:
            pictures = _from_url(url if source == "chars74k" else source, cache, timeout)
        elif Path(source).is_dir() or Path(source).is_file():
            pictures = _pictures(Path(source), source)
        else:
            raise DataError(f"no archive or folder {source}; {OTHER_WAYS}")
        _write(folder, pictures)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}") from error
    print(f"{folder}: {len(pictures):,} pictures, each verified by its SHA-256")


def verify(folder: Path) -> list[str]:
    """What is wrong with a data set, one line each; nothing if it is complete.

    Pictures may lie under `Img/` or `img/`, or flat in the folder.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: get the data set with hwr-data fetch {folder}")
    found: dict[str, Path] = {}
    extra: list[str] = []
    inner = [path for path in sorted(folder.iterdir()) if path.name in ("Img", "img")]
    for place in (*filter(Path.is_dir, inner), folder):
        for path in sorted(place.iterdir()):
            if path.name in manifest() and path.name not in found:
                found[path.name] = path
            elif path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp", ".gif"):
                why = "there twice" if path.name in manifest() else "not in the manifest"
                extra.append(f"{path.relative_to(folder)} is {why}")

    def compare(name: str) -> str | None:
        if name not in found:
            return f"{name} is missing"
        try:
            digest = hashlib.sha256(found[name].read_bytes()).hexdigest()
        except OSError as error:
            return f"{found[name].relative_to(folder)} cannot be read: {error.strerror}"
        different = f"{found[name].relative_to(folder)} differs from the manifest"
        return different if digest != manifest()[name] else None

    with ThreadPoolExecutor() as pool:
        wrong = [line for line in pool.map(compare, manifest()) if line]
    return [*wrong, *extra, *_wrong_rows(folder / "english.csv")]


def _wrong_rows(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = [(row["image"], row["label"]) for row in csv.DictReader(stream)]
    except (OSError, ValueError, KeyError, csv.Error) as error:
        lacking = isinstance(error, KeyError)
        yield f"{file.name} {'lacks the column' if lacking else 'cannot be read:'} {reason(error)}"
        return
    unseen = dict.fromkeys(manifest())
    for number, (image, label) in enumerate(rows, start=1):
        name = PurePosixPath(image or "").name
        if name not in unseen:
            why = "there twice" if name in manifest() else "not in the manifest"
            yield f"{file.name} row {number}: {image} is {why}"
        elif label != _label(name):
            yield f"{file.name} row {number}: {image} has the label {label}, not {_label(name)}"
        unseen.pop(name, None)
    yield from (f"{file.name} has no row for {name}" for name in unseen)


def _label(name: str) -> str:
    """The character of imgCCC-WWW.png: CCC counts from 1 through 0-9, A-Z, a-z."""
    return (string.digits + string.ascii_uppercase + string.ascii_lowercase)[int(name[3:6]) - 1]


def _placeholders(folder: Path) -> list[Path]:
    """The files in a folder that counts as empty.

    Raises:
        DataError: It doesn't.
    """
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; nothing was changed: name another one")
    files = sorted(folder.iterdir())
    if any(file.name not in PLACEHOLDERS or not file.is_file() for file in files):
        raise DataError(
            f"{folder} is not empty, and not the complete data set (hwr-data verify says what is "
            "wrong); nothing was changed: name another folder, or move this one away"
        )
    return files


def _write(folder: Path, pictures: dict[str, bytes]) -> None:
    """Write beside, then rename, so that the folder appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        (beside / "Img").mkdir(parents=True)
        for name, content in pictures.items():
            (beside / "Img" / name).write_bytes(content)
        rows = ["image,label", *(f"Img/{name},{_label(name)}" for name in pictures)]
        text = "".join(f"{row}\n" for row in rows)
        (beside / "english.csv").write_text(text, encoding="utf-8", newline="\n")
        placeholders = _placeholders(folder)  # again: a download takes minutes
        for file in placeholders:
            shutil.copy2(file, beside / file.name)
        for file in placeholders:
            file.unlink()
        if folder.is_dir():
            folder.rmdir()
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _from_kaggle(name: str) -> dict[str, bytes]:
    try:
        kagglehub = importlib.import_module("kagglehub")
    except ImportError as error:
        raise DataError("the package kagglehub is not installed") from error
    try:
        folder = Path(kagglehub.dataset_download(name))
    except Exception as error:  # kagglehub's own kinds, and those of what it builds on
        raise DataError(f"kagglehub cannot download {name} ({reason(error)})") from error
    return _pictures(folder, str(folder))


def _from_url(url: str, cache: Path, timeout: float) -> dict[str, bytes]:
    try:
        part = download(url, cache, timeout)
    except DataError as error:
        raise DataError(f"{error}; {OTHER_WAYS}") from error
    try:
        pictures = _pictures(part, url)
    except DataError as error:
        forget(part)  # the next try starts afresh
        raise DataError(f"{error}; {OTHER_WAYS}") from error
    forget(part)
    return pictures


def _pictures(path: Path, origin: str) -> dict[str, bytes]:
    """The pictures of the manifest by name and in its order, about 25 MB.

    Args:
        path: An archive or a folder.
        origin: What messages call it.

    Raises:
        DataError: A picture is missing or differs, or the archive is broken or hostile.
    """
    digests: dict[str, str] = {}
    contents: dict[str, bytes] = {}
    for name, content in archive.contents(path, origin, manifest()):
        digest = hashlib.sha256(content).hexdigest()
        if digests.setdefault(name, digest) != digest:
            raise DataError(f"{origin} is refused: it has two different pictures {name}")
        if digest == manifest()[name]:
            contents[name] = content
    missing = [name for name in manifest() if name not in digests]
    different = [name for name in manifest() if name in digests and name not in contents]
    wrong = [
        f"{len(names):,} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for names, what in ((missing, "missing"), (different, "different"))
        if names
    ]
    if different and not contents:
        wrong.append("not one is the same: the pictures may be right but encoded in another way")
    if wrong:
        total = f"of {len(manifest()):,} pictures"
        raise DataError(f"{origin} is not the data set: {total} {'; '.join(wrong)}")
    return {name: contents[name] for name in manifest()}
