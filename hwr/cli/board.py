"""hwr-board: show a run, a sweep, or everything in outputs in TensorBoard, on this machine only."""

import argparse
import contextlib
import io
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from hwr.errors import RunError, UserError, printable

EVENTS = "events.out.tfevents.*"
SECONDS = "5"
"""Between two reads of the folder: curves move while a run trains."""


def main() -> None:
    """Run hwr-board; exit with 0 after Ctrl-C, with 2 after a mistake of the user."""
    parser = argparse.ArgumentParser(prog="hwr-board", description=__doc__)
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("outputs"),
        metavar="FOLDER",
        help="a run, or a folder of runs; default: outputs",
    )
    parser.add_argument("--port", type=int, default=0, metavar="N", help="default: any free one")
    arguments = parser.parse_args()
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    # Before TensorBoard, which takes seconds to start and may be stopped in them too.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
    try:
        count = count_runs(arguments.folder)
        address = launch(arguments.folder, arguments.port)
    except UserError as error:
        print(f"hwr-board: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    runs = "1 run" if count == 1 else f"{count:,} runs"
    print(f"{runs} in {arguments.folder}: {address}  (Ctrl-C stops it)", flush=True)
    stopped.wait()
    print("hwr-board: stopped", file=sys.stderr)


def count_runs(folder: Path) -> int:
    """Count the runs in a folder, finished or still training.

    Raises:
        RunError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"no folder {folder}")
    count = len({file.parent for file in folder.rglob(EVENTS)})
    if not count:
        raise RunError(f"no run with TensorBoard events in {folder}; hwr-train makes one")
    return count


def launch(folder: Path, port: int = 0) -> str:
    """Start TensorBoard on the loopback address; it ends with this process.

    Args:
        folder: The folder of runs.
        port: 0: any free port.

    Returns:
        The address.

    Raises:
        RunError: The port is taken or not a port.
    """
    from tensorboard import default, program  # takes seconds

    board = program.TensorBoard(default.get_plugins())
    settings = {"logdir": str(folder), "host": "127.0.0.1", "port": str(port)}
    settings |= {"reload_interval": SECONDS, "window_title": f"hwr: {folder}"}
    board.configure(["", *(f"--{name}={value}" for name, value in settings.items())])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it advertises faster loading
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard says: {str(error).strip()}") from error
