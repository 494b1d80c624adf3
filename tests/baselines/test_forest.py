"""hwr-forest writes the same run folder as hwr-train."""

import csv
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwr.baselines.forest import forest
from hwr.config.compose import compose
from hwr.data import load_dataset
from hwr.data.synthetic import CHARACTERS
from hwr.errors import RunError
from hwr.inference import forestfile
from hwr.inference.forestfile import load_forest

TINY = ["data=synthetic", "data.writers=4", "n_estimators=10"]


def test_run_folder(tmp_path: Path) -> None:
    config = compose(TINY, "forest")
    metrics = forest(config, tmp_path)
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert {name for name in names if "tfevents" not in name} == {
        *("forest.skops", "metrics.json", "predictions.csv", "README.md"),
        *("confusion.png", "mistakes.png", "reliability.png", "projector_config.pbtxt"),
    }
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert (metrics["model"], metrics["data"], metrics["test_images"]) == (
        *("forest", "synthetic"),
        62,
    )
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = {"test/acc", "test/auroc", "test/ap", "train/acc", "oob/acc", "hp/val_acc"}
    assert scalars <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {
        *("test/confusion", "test/mistakes", "test/reliability"),
    }
    trees, card = load_forest(tmp_path / "forest.skops")
    assert "".join(card["charset"]) == CHARACTERS
    assert (card["channels"], card["height"], card["width"]) == (1, 30, 40)
    assert card["about"]["config"]["n_estimators"] == 10
    dataset = load_dataset(config.data)
    flat = np.divide(dataset.images.numpy(), 255, dtype=np.float32).reshape(len(dataset), -1)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:20]:
        votes = trees.predict_proba(flat[[dataset.files.index(row["file"])]])[0]
        assert dataset.charset.names[int(np.argmax(votes))] == row["prediction"]
        assert votes.max() == pytest.approx(float(row["probability"]), abs=1e-6)


def test_color(tmp_path: Path) -> None:
    forest(compose([*TINY, "data.channels=3"], "forest"), tmp_path)
    _, card = load_forest(tmp_path / "forest.skops")
    assert (card["channels"], card["frame"]) == (3, None)


def test_without_plots(tmp_path: Path) -> None:
    forest(compose([*TINY, "plots=false"], "forest"), tmp_path)
    assert not list(tmp_path.glob("*.png"))
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == []
    assert "hp/test_acc" in events.Tags()["scalars"]


def test_lightning_is_not_imported() -> None:
    code = "import sys, hwr.baselines.forest; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_seed_repeats(tmp_path: Path) -> None:
    config = compose(TINY, "forest")
    forest(config, tmp_path / "a")
    forest(config, tmp_path / "b")
    one, other = ((tmp_path / name / "predictions.csv").read_text() for name in "ab")
    assert one == other


def test_a_pickle_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "forest.skops").write_bytes(pickle.dumps([1]))
    with pytest.raises(RunError, match="is not a forest"):
        load_forest(tmp_path / "forest.skops")


def test_trees_that_lead_out_of_their_memory_are_rejected(tmp_path: Path) -> None:
    dataset = load_dataset(compose(TINY, "forest").data)
    flat, label = (
        np.divide(dataset.images.numpy(), 255, dtype=np.float32).reshape(len(dataset), -1),
        dataset.labels.numpy(),
    )
    card = {"height": 30, "width": 40, "channels": 1, "charset": list(dataset.charset.names)}
    for wrong in ("children_left", "children_right", "feature"):
        trees = RandomForestClassifier(2, random_state=0).fit(flat, label)
        getattr(trees.estimators_[1].tree_, wrong)[0] = 10**6
        forestfile.save(trees, card, tmp_path / "forest.skops")
        with pytest.raises(RunError, match="its trees and its description don't fit"):
            load_forest(tmp_path / "forest.skops")
    other = DecisionTreeClassifier(max_depth=2).fit(flat, label)
    forestfile.save(other, card, tmp_path / "forest.skops")  # type: ignore[arg-type]
    with pytest.raises(RunError, match="is not a forest of hwr-forest"):
        load_forest(tmp_path / "forest.skops")


def _emptied(trees: RandomForestClassifier) -> None:
    tree = trees.estimators_[0].tree_
    state = tree.__getstate__()
    none = {"node_count": 0, "nodes": state["nodes"][:0], "values": state["values"][:0]}
    empty = type(tree)(tree.n_features, tree.n_classes, tree.n_outputs)
    empty.__setstate__(state | none)
    trees.estimators_[0].tree_ = empty


@pytest.mark.parametrize(
    "spoil",
    [
        _emptied,  # scikit-learn would never come back from such a tree
        lambda trees: trees.estimators_.clear(),
    ],
)
def test_forests_that_would_hang_or_break_are_rejected(
    tmp_path: Path, spoil: Callable[[RandomForestClassifier], None]
) -> None:
    forest(compose(TINY, "forest"), tmp_path)
    trees, card = load_forest(tmp_path / "forest.skops")
    spoil(trees)
    forestfile.save(trees, card, tmp_path / "forest.skops")
    with pytest.raises(RunError, match="its trees and its description don't fit"):
        load_forest(tmp_path / "forest.skops")


def test_a_file_asks_for_no_threads_and_no_prints(tmp_path: Path) -> None:
    forest(compose(TINY, "forest"), tmp_path)
    trees, card = load_forest(tmp_path / "forest.skops")
    forestfile.save(trees.set_params(n_jobs=20_000, verbose=100), card, tmp_path / "forest.skops")
    trees, _ = load_forest(tmp_path / "forest.skops")
    assert (trees.n_jobs, trees.verbose) == (None, 0)


def test_a_file_with_other_types_is_rejected(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    planted = FunctionTransformer(os.system, kw_args={"command": f"touch {mark}"})
    forestfile.save(planted, {}, tmp_path / "forest.skops")  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"Untrusted types .*system"):
        load_forest(tmp_path / "forest.skops")
    assert not mark.exists()
