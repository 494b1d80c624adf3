"""Fetch and verify the real dataset.

The manifest `english.sha256` holds the SHA-256 of all 3,410 images, taken from Kaggle's files. It
alone decides what is accepted, wherever the files come from.
"""

import gzip
import importlib.util
import shutil
import string
import tarfile
import tempfile
import zipfile
from collections import Counter
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePath
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pandas as pd
from tqdm import tqdm

from hwr.errors import DataError
from hwr.files import atomic_folder, walk

ADDRESSES = {
    "kaggle": "dhruvildave/english-handwritten-characters-dataset",
    "chars74k": "http://www.ee.surrey.ac.uk/CVSSP/demos/chars74k/EnglishHnd.tgz",
}
"""The name of the dataset at Kaggle, and the Chars74K archive."""
MAX_BYTES = 250_000_000
"""Size limit of a download, and of what an archive unpacks to."""
MAX_IMAGE_BYTES = 1_000_000
"""Size limit of an image; the largest has 11 kB."""
OTHER_WAYS = (
    "other ways: --from kaggle (needs pip install 'hwr[kaggle]'), --from chars74k, "
    "--from FILE for an archive or folder that you have, or data=synthetic, which needs no files"
)


@cache
def manifest() -> dict[str, str]:
    """Return the SHA-256 of each image by its name, img001-001.png to img062-055.png."""
    lines = Path(__file__).with_name("english.sha256").read_text("utf-8").splitlines()
    return {PurePath(file).name: digest for digest, file in map(str.split, lines)}


def fetch(folder: Path, source: str | None = None) -> None:
    """Put the dataset into a folder, as `english.csv` and `Img/imgCCC-WWW.png`, or nothing.

    Args:
        folder: Must not exist, be empty, or hold the complete dataset.
        source: `kaggle`, `chars74k`, the URL of an archive, or a local archive or folder; None:
            Kaggle if its client kagglehub is installed, else Chars74K.

    Raises:
        DataError: The source can't be read or is not the dataset, or the folder holds something.
    """
    folder = folder.resolve()
    if folder.is_dir() and any(folder.iterdir()) and not verify(folder):
        print(f"{folder}: complete already, {len(manifest()):,} images verified")
        return
    source = source or ("kaggle" if importlib.util.find_spec("kagglehub") else "chars74k")
    address = ADDRESSES.get(source, source)
    with atomic_folder(folder) as temporary, tempfile.TemporaryDirectory() as scratch:
        archive, files = Path(address), Path(scratch, "files")
        try:
            if source == "kaggle":
                files = Path(importlib.import_module("kagglehub").dataset_download(address))
            elif archive.is_dir():
                files = archive
            else:
                if "://" in address:
                    archive = Path(scratch, "archive")
                    _download(address, archive)
                _unpack(archive, files)
            _copy_images(files, temporary)
        except Exception as error:  # kagglehub, tarfile and zipfile raise many kinds
            raise DataError(f"cannot fetch {address}: {_reason(error)}; {OTHER_WAYS}") from error
    print(f"{folder}: {len(manifest()):,} images from {address}, each verified by its SHA-256")


def verify(folder: Path) -> list[str]:
    """List how a folder differs from the dataset; nothing if it is complete.

    Images may lie anywhere in it.

    Raises:
        DataError: There is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no data folder {folder}: get the dataset with hwr-data fetch {folder}")
    files = {file.name: file for file in walk(folder) if file.suffix == ".png"}
    wrong = [f"{name} is not in the manifest" for name in sorted(files.keys() - manifest().keys())]
    for name, digest in manifest().items():
        if name not in files:
            wrong.append(f"{name} is missing")
        elif sha256(files[name].read_bytes()).hexdigest() != digest:
            wrong.append(f"{name} differs from the manifest")
    try:
        table = pd.read_csv(folder / "english.csv", dtype=str, keep_default_na=False)
        names = table["image"].map(lambda file: PurePath(file).name)
        rows = Counter(zip(names, table["label"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        return [*wrong, f"english.csv cannot be read: {_reason(error)}"]
    expected = Counter((name, _label(name)) for name in manifest())
    wrong += [f"english.csv has a row too many: {','.join(row)}" for row in rows - expected]
    wrong += [f"english.csv lacks the row {','.join(row)}" for row in expected - rows]
    return wrong


def _label(name: str) -> str:
    """Return the character of imgCCC-WWW.png: CCC counts from 1 through 0-9, A-Z, a-z."""
    return (string.digits + string.ascii_uppercase + string.ascii_lowercase)[int(name[3:6]) - 1]


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _download(url: str, file: Path) -> None:
    if not url.startswith(("http://", "https://")):
        raise DataError("only http and https addresses are allowed")
    try:
        response = urlopen(Request(url, headers={"User-Agent": "hwr"}), timeout=30)
    except HTTPError as error:
        error.close()
        raise DataError(f"the server answers {error.code} {error.reason}") from error
    size = int(response.headers["Content-Length"] or 0)
    bar = tqdm(total=size, unit="B", unit_scale=True, disable=None)
    with response, file.open("wb") as stream, bar:
        while chunk := response.read(1 << 16):
            bar.update(stream.write(chunk))
            if stream.tell() > MAX_BYTES:
                raise DataError(f"it has more than {MAX_BYTES:,} bytes")


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip, .tar or .tar.gz archive that is not too large and stays in the folder."""
    too_large = DataError(f"it unpacks to more than {MAX_BYTES:,} bytes")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            # Reading stops at these sizes, so a false one only breaks the checksum.
            if sum(member.file_size for member in zipped.infolist()) > MAX_BYTES:
                raise too_large
            if outside := [x for x in zipped.namelist() if ".." in x or x.startswith("/")]:
                raise DataError(f"its member {outside[0]!r} lies outside")
            zipped.extractall(folder)
        return
    with archive.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    with gzip.open(archive) if compressed else archive.open("rb") as stream:
        # tarfile would read headers of any length into memory.
        while stream.read(1 << 20):
            if stream.tell() > MAX_BYTES:
                raise too_large
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:") as tar:
            tar.extractall(folder, filter="data")


def _copy_images(source: Path, folder: Path) -> None:
    """Copy the images of the manifest from anywhere in a folder, and write their table."""
    (folder / "Img").mkdir(exist_ok=True)
    for file in walk(source):
        if file.name in manifest() and file.stat().st_size <= MAX_IMAGE_BYTES:
            shutil.copyfile(file, folder / "Img" / file.name)
    rows = "".join(f"Img/{name},{_label(name)}\n" for name in manifest())
    (folder / "english.csv").write_bytes(f"image,label\n{rows}".encode())
    if wrong := verify(folder):
        raise DataError(f"it is not the dataset: {wrong[0]}; differences: {len(wrong):,}")
