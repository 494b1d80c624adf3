"""Run a command by its name, such as `python -m hwr train seed=1`, or list them."""

import os
import sys

from hwr import __version__
from hwr.cli import commands

COMMANDS = {
    "train": (commands.train, "train a network"),
    "forest": (commands.forest, "fit the random forest"),
    "evaluate": (commands.evaluate, "test a trained network on other images"),
    "data": (commands.dataset, "draw, fetch, verify or show a dataset"),
    "predict": (commands.predict, "recognize images"),
    "export": (commands.export, "export a network to ONNX"),
    "runs": (commands.runs, "compare runs in one table"),
    "board": (commands.board, "show runs in TensorBoard"),
}


def main() -> None:
    """Run the command that the first argument names, with the others as its arguments."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in COMMANDS:
        del sys.argv[1]
    elif "LOCAL_RANK" in os.environ:  # Lightning repeats the arguments for its other processes
        name = "train"
    if name in COMMANDS:
        COMMANDS[name][0]()
    listed = "".join(f"  {key:<9} {text}\n" for key, (_, text) in COMMANDS.items())
    usage = f"usage: python -m hwr COMMAND ...\n\n{listed}\n  --version, or COMMAND --help"
    if name == "--version":
        print(f"hwr {__version__}")
    elif name in ("", "-h", "--help"):
        print(usage)
    else:
        print(f"hwr: no command {name}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
