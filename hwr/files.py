"""Files and folders that appear whole or not at all."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwr.errors import DataError, UserError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with `~` as somebody's home, or as it stands where nobody has that name."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


@contextmanager
def alone(folder: Path, otherwise: UserError) -> Iterator[None]:
    """Hold a lock on a folder, which ends with the process however that ends.

    Raises:
        UserError: `otherwise`, where another process holds it.
    """
    if not fcntl:
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise otherwise from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(held)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it takes the place of `path` when the block ends well.

    Folders are made as needed. If the block raises, the old file stays as it was.

    Raises:
        DataError: `path` is there, but no file: a folder or a device is not replaced.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file that could be written")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield beside
        os.replace(beside, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk doesn't say of what
        raise
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to fill; it becomes `path` when the block ends well.

    Raises:
        DataError: `path` exists already and holds something.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} exists already; nothing was changed, choose another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        beside.mkdir()
        yield beside
        os.replace(beside, path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
