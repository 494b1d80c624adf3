"""Show a run, a sweep, or everything in outputs in TensorBoard, on this machine only."""

import contextlib
import io
import sys
import threading
from pathlib import Path

from hwr.cli.commands import argument_parser
from hwr.errors import RunError
from hwr.files import expand_user


def main() -> None:
    """Run hwr-board until Ctrl-C."""
    parser = argument_parser("hwr-board", __doc__)
    parser.add_argument(
        "folder",
        type=expand_user,
        nargs="?",
        default=Path("outputs"),
        metavar="FOLDER",
        help="a run, or a folder of runs; default: outputs",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: any free one")
    arguments = parser.parse_args()
    count = count_runs(arguments.folder)
    allow_files(200 + 3 * count)
    address = launch(arguments.folder, arguments.port)
    runs = "1 run" if count == 1 else f"{count:,} runs"
    print(f"{runs} in {arguments.folder}: {address}  (Ctrl-C stops it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
    print("hwr-board: stopped", file=sys.stderr)


def count_runs(folder: Path) -> int:
    """Count the runs in a folder, finished or still training.

    Raises:
        RunError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"no folder {folder}")
    count = len({file.parent for file in folder.rglob("events.out.tfevents.*")})
    if not count:
        raise RunError(f"no run with TensorBoard events in {folder}; hwr-train makes one")
    return count


def allow_files(needed: int) -> None:
    """Let this process open so many files; macOS allows 256 at first.

    Raises:
        RunError: The system doesn't allow as many.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise RunError(
            f"TensorBoard may need {needed:,} open files for so many runs, but the system allows "
            f"{hard:,}; choose a folder of fewer runs, or raise the limit (`ulimit -Hn`)"
        ) from error


def launch(folder: Path, port: int = 0) -> str:
    """Start TensorBoard on the loopback address; it ends with this process.

    Args:
        folder: The folder of runs.
        port: The port; 0 takes any free one.

    Returns:
        The address.

    Raises:
        RunError: The port is taken or not a port.
    """
    from tensorboard import default, program  # takes seconds

    board = program.TensorBoard(default.get_plugins())
    settings = {"logdir": str(folder), "host": "127.0.0.1", "port": str(port)}
    settings |= {"reload_interval": "5", "window_title": f"hwr: {folder}"}  # seconds
    board.configure(["", *(f"--{name}={value}" for name, value in settings.items())])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it advertises faster loading
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard says: {str(error).strip()}") from error
