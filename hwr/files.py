"""Write files and folders atomically, lock folders between processes, and walk through them."""

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

HELPERS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "__pycache__"}
HELPERS |= {"@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "@tmp"}
HELPERS |= {"$recycle.bin", "system volume information", "lost+found", "outputs", "multirun"}
"""Names, in lower case, of files and folders that systems, servers and Hydra add."""


def expand_user(path: str | os.PathLike[str]) -> Path:
    """Expand a leading `~`; a name that no user has stays as it is."""
    return Path(os.path.expanduser(path))


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files of a folder and its subfolders, in the order of their names.

    Hidden files and folders, those of `HELPERS`, and folders of runs are left out. Links to folders
    are followed, but for those to a folder that is read anyway, or that holds the link.

    Raises:
        OSError: A folder can't be read.
    """
    root = folder.resolve()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        own = [name for name in folders if _is_own(name) and _is_entered(Path(place, name), root)]
        folders[:] = sorted(own)
        yield from (Path(place, name) for name in sorted(files) if _is_own(name))


def _raise(error: OSError) -> None:
    raise error


def _is_own(name: str) -> bool:
    return not name.startswith((".", "~$")) and name.lower() not in HELPERS


def _is_entered(folder: Path, root: Path) -> bool:
    if folder.is_symlink():
        target = folder.resolve()
        above = (parent.resolve() for parent in folder.absolute().parents)
        if target.is_relative_to(root) or target in above:
            return False
    return not any((folder / name).exists() for name in (".hydra", "metrics.json"))


@contextmanager
def file_lock(folder: Path, error: UserError) -> Iterator[None]:
    """Hold an exclusive lock on a folder; it ends with the process, however that ends.

    On Windows, and on file systems without locks, nothing is locked.

    Args:
        folder: An existing folder.
        error: Raised if another process holds the lock.

    Raises:
        UserError: `error`.
    """
    if not fcntl:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise error from None
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` when the block ends well.

    Parent folders are created. If the block raises, `path` stays as it was.

    Args:
        path: The file to write.

    Yields:
        A path in the folder of `path`.

    Raises:
        DataError: `path` is a folder or a device.
    """
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is not a file; choose another path")
    with _temporary(path) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it becomes `path` when the block ends well.

    Args:
        path: The folder to create; it may exist if it is empty.

    Yields:
        A folder beside `path`.

    Raises:
        DataError: `path` exists and isn't an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} exists already; nothing was changed, choose another folder")
    with _temporary(path) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk doesn't say of what
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
