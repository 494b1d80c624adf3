"""Entry points of the commands. A command can be stopped before anything slow is imported."""

import argparse
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, NoReturn

from hwr import __version__
from hwr.errors import RunError, UserError, error_message

signals: list[int] = []
"""Signals by which the running command was stopped."""
_deferred: list[bool] = []


def run_command(program: str, module: str, function: str = "main", *args: str) -> NoReturn:
    """Run a command and exit.

    Exit codes: 0; 1 for an unexpected error, or as the command's function returns it; 2 after a
    user's mistake; 130 after Ctrl-C and 143 after SIGTERM.

    Args:
        program: The name of the command.
        module: The module that does the work.
        function: The function in it that does the work and returns an exit code, or nothing.
        args: Its arguments.
    """
    signals.clear()
    # Plots need neither Jupyter's backend nor a screen, nor a user's own style, such as LaTeX.
    os.environ |= {"MPLBACKEND": "Agg", "MATPLOTLIBRC": os.devnull}
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # its encoding may lack an é
    try:
        _check_working_directory()
        with deferred_stop():
            main = getattr(importlib.import_module(module), function)
        code = main(*args)
        sys.stdout.flush()  # here a full disk is reported, at Python's exit it is not
    except BaseException as error:
        code = _exit_code(program, error)
    sys.exit(code)


def _check_working_directory() -> None:
    """Reject a removed working directory, in which torch can't be imported."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise RunError(
            "the working directory was removed; change to a folder that exists"
        ) from None


def _exit_code(program: str, error: BaseException) -> Any:
    """Print why a command ended, and return its exit code."""
    stopped = isinstance(error, KeyboardInterrupt)
    if signals or stopped:  # libraries make other errors of a KeyboardInterrupt, even an exit
        message = (stopped and str(error)) or "stopped; no file is left half written"
        print(f"{program}: {message}", file=sys.stderr)
        return 128 + (signals or [signal.SIGINT])[0]
    if isinstance(error, SystemExit):
        return error.code
    if isinstance(error, OSError) and not error.filename:  # or Python writes the output once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # A reader such as head may have enough.
    return 0 if isinstance(error, BrokenPipeError) else report_error(program, error)


def report_error(program: str, error: BaseException) -> int:
    """Print a user's mistake as one sentence, any other error with its traceback.

    Returns:
        The exit code.
    """
    expected = isinstance(error, UserError | OSError)
    if expected and not os.environ.get("HWR_FULL_ERROR"):
        message = error_message(error)  # type: ignore[arg-type]
        print(f"{program}: {message}\n", end="", file=sys.stderr)  # in one write, for parallel jobs
    else:
        traceback.print_exception(error)
    return 2 if expected else 1


def argument_parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Make a parser with the option `--version`."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--version", action="version", version=f"{program} {__version__}")
    return parser


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add the option `--trust PACKAGE` to the parser of a command that loads RUN."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="package whose model classes RUN may use; may be repeated",
    )


@contextmanager
def deferred_stop() -> Iterator[None]:
    """Stop only when the block ends: an exception in an import makes torch's C++ code abort."""
    _deferred.append(True)
    try:
        yield
    finally:
        _deferred.pop()
        if signals and not _deferred:
            raise KeyboardInterrupt


def _stop(number: int, _: FrameType | None) -> None:
    signals.append(number)
    if not _deferred:
        raise KeyboardInterrupt


train = partial(run_command, "hwr-train", "hwr.cli.launch", "launch", "train")
forest = partial(run_command, "hwr-forest", "hwr.cli.launch", "launch", "forest")
evaluate = partial(run_command, "hwr-evaluate", "hwr.cli.launch", "launch", "evaluate")
dataset = partial(run_command, "hwr-data", "hwr.cli.data")
predict = partial(run_command, "hwr-predict", "hwr.cli.predict")
export = partial(run_command, "hwr-export", "hwr.cli.export")
runs = partial(run_command, "hwr-runs", "hwr.cli.runs")
board = partial(run_command, "hwr-board", "hwr.cli.board")
