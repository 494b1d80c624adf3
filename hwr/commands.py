"""The commands: what is typed is ready to be stopped before anything slow is imported."""

import importlib
from collections.abc import Callable
from functools import partial

from hwr.stopping import stoppable, unstopped


def _command(program: str, module: str, name: str = "main") -> Callable[[], None]:
    def work() -> None:
        with unstopped():  # compiled modules make other errors of a stop
            home = importlib.import_module(module)
        getattr(home, name)()

    return partial(stoppable, program, work)


train = _command("hwr-train", "hwr.cli", "train")
forest = _command("hwr-forest", "hwr.cli", "forest")
evaluate = _command("hwr-evaluate", "hwr.cli", "evaluate")
dataset = _command("hwr-data", "hwr.dataset")
predict = _command("hwr-predict", "hwr.reading")
export = _command("hwr-export", "hwr.export")
runs = _command("hwr-runs", "hwr.runs")
board = _command("hwr-board", "hwr.board")
