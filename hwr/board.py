"""hwr-board: TensorBoard on a run, a sweep, or everything in outputs, for this machine only."""

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
"""Between two looks at the folder: curves move while a run is training."""


def main() -> None:
    """The command hwr-board. Exit codes: 0 after Ctrl-C; 2 for a mistake of the user."""
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

    # From the start: TensorBoard takes seconds to come up, and may be stopped in these too.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, stop)
    try:
        found = runs(arguments.folder)
        address = launch(arguments.folder, arguments.port)
    except UserError as error:
        print(f"hwr-board: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    many = "1 run" if found == 1 else f"{found:,} runs"
    print(f"{many} in {arguments.folder}: {address}  (Ctrl-C stops it)", flush=True)
    stopped.wait()
    print("hwr-board: stopped", file=sys.stderr)


def runs(folder: Path) -> int:
    """How many runs there are in a folder, finished or still training.

    Raises:
        RunError: There is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise RunError(f"no folder {folder}")
    found = len({file.parent for file in folder.rglob(EVENTS)})
    if not found:
        raise RunError(f"no run in {folder}; hwr-train and hwr-forest make some")
    return found


def launch(folder: Path, port: int = 0) -> str:
    """Start TensorBoard in the background; it ends with this process.

    Args:
        folder: What it shows.
        port: Where, on loopback; 0: any free port.

    Returns:
        The address.

    Raises:
        RunError: The port is taken or none.
    """
    from tensorboard import default, program  # takes seconds

    board = program.TensorBoard(default.get_plugins())
    settings = {"logdir": str(folder), "host": "127.0.0.1", "port": str(port)}
    settings |= {"reload_interval": SECONDS, "window_title": f"hwr: {folder}"}
    board.configure(["", *(f"--{name}={value}" for name, value in settings.items())])
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # it advertises its faster loading
            return str(board.launch())
    except program.TensorBoardServerException as error:
        raise RunError(f"TensorBoard says: {str(error).strip()}") from error
