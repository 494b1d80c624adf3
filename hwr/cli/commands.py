"""Entry points of the commands: ready to be stopped before anything slow is imported."""

import importlib
from collections.abc import Callable
from functools import partial

from hwr.cli.stopping import stoppable


def _command(program: str, module: str, function: str = "main", *words: str) -> Callable[[], None]:
    def work() -> None:
        getattr(importlib.import_module(module), function)(*words)

    return partial(stoppable, program, work)


train = _command("hwr-train", "hwr.cli.launch", "launch", "train")
forest = _command("hwr-forest", "hwr.cli.launch", "launch", "forest")
evaluate = _command("hwr-evaluate", "hwr.cli.launch", "launch", "evaluate")
dataset = _command("hwr-data", "hwr.cli.data")
predict = _command("hwr-predict", "hwr.cli.predict")
export = _command("hwr-export", "hwr.inference.export")
runs = _command("hwr-runs", "hwr.cli.runs")
board = _command("hwr-board", "hwr.cli.board")
