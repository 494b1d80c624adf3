"""The wanted files of an archive or a folder; a hostile archive is refused as a whole."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Container, Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, NamedTuple

from hwr.data.download import MOST_BYTES, reason
from hwr.errors import DataError

# The real archive has about 7,000 members, and the largest picture 11 kB.
MOST_MEMBERS, MOST_PICTURE_BYTES = 20_000, 10**6


class _Member(NamedTuple):
    """A file or folder in an archive; `size` in bytes, as the archive has it."""

    name: str
    size: int
    plain: bool
    open: Callable[[], IO[bytes] | None]


def contents(path: Path, origin: str, names: Container[str]) -> Iterator[tuple[str, bytes]]:
    """Base name and bytes of the files of these names; all else is skipped.

    Args:
        path: A .tgz, .tar.gz, .tar or .zip archive, or a folder.
        origin: What messages call it.
        names: Base names of the files that are wanted.

    Raises:
        DataError: The archive is broken or hostile.
    """
    total = 0
    try:
        with closing(_members(path)) as members:
            for count, member in enumerate(members, start=1):
                total += member.size
                if count > MOST_MEMBERS or total > MOST_BYTES:
                    most = f"{MOST_MEMBERS:,} files or {MOST_BYTES:,} bytes"
                    raise DataError(f"{origin} is refused: it unpacks to more than {most}")
                inside = PureWindowsPath(member.name)  # knows both slashes, and drives
                wanted = inside.name in names
                if inside.anchor or ".." in inside.parts:
                    why = "leads outside"
                elif not member.plain:
                    why = "is no plain file"
                elif wanted and not 0 <= member.size <= MOST_PICTURE_BYTES:
                    why = f"has {member.size:,} bytes, a picture at most {MOST_PICTURE_BYTES:,}"
                elif wanted and (stream := member.open()):
                    with stream:
                        yield inside.name, stream.read(MOST_PICTURE_BYTES)
                    continue
                else:
                    continue
                raise DataError(f"{origin} is refused: its member {member.name!r} {why}")
    except DataError:
        raise
    except Exception as error:  # tarfile, zipfile and their decompressors raise many kinds
        what = "folder" if path.is_dir() else "archive (.tgz, .tar.gz, .tar or .zip)"
        raise DataError(f"{origin} cannot be read as {what}: {reason(error)}") from error


def _members(path: Path) -> Generator[_Member, None, None]:
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_file():
                name = str(file.relative_to(path))
                yield _Member(name, file.stat().st_size, True, partial(io.FileIO, file))
        return
    with path.open("rb") as archive:
        start = archive.read(2)
    if start == b"PK":
        with zipfile.ZipFile(path) as zipped:
            for entry in zipped.infolist():
                plain = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                # The other methods may unpack to any length in one step.
                plain &= entry.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                yield _Member(entry.filename, entry.file_size, plain, partial(zipped.open, entry))
        return
    stream = _Unpacked(path) if start == b"\x1f\x8b" else _Plain(io.FileIO(path))
    with stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for info in tar:
            plain = info.isfile() or info.isdir()
            yield _Member(info.name, info.size, plain, partial(tar.extractfile, info))


def _bounded(size: int | None, place: int) -> int:
    """What tarfile asks for, which would read headers of any length into memory."""
    if size is None or not 0 <= size <= MOST_PICTURE_BYTES or place > MOST_BYTES:
        raise tarfile.ReadError("a header is too long")
    return size


class _Unpacked(gzip.GzipFile):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(_bounded(size, self.tell()))


class _Plain(io.BufferedReader):
    def read(self, size: int | None = -1) -> bytes:
        return super().read(_bounded(size, self.tell()))
