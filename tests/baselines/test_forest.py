"""hwr-forest writes the same run folder as hwr-train."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import FunctionTransformer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hwr.baselines.forest import fit_forest, forest
from hwr.config.compose import compose
from hwr.data import load_dataset
from hwr.data.synthetic import CHARACTERS
from hwr.errors import RunError
from hwr.inference import forestfile
from hwr.inference.forestfile import load_forest

TINY = ["data=synthetic", "data.writers=4", "n_estimators=10"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    forest(compose(TINY, "forest"), folder)
    return folder


def test_clock_before_1980(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    with pytest.raises(RunError, match="clock says 1970"):
        forest(compose(TINY, "forest"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_run_folder(run: Path) -> None:
    names = {path.name for path in run.iterdir() if path.is_file()}
    assert {name for name in names if "tfevents" not in name} == {
        *("forest.skops", "metrics.json", "predictions.csv", "README.md"),
        *("confusion.png", "mistakes.png", "reliability.png", "projector_config.pbtxt"),
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["model"], metrics["data"]) == ("forest", "synthetic")
    assert metrics["test_images"] == 62
    events = EventAccumulator(str(run))
    events.Reload()
    scalars = {"test/acc", "test/auroc", "test/ap", "train/acc", "oob/acc", "hp/val_acc"}
    assert scalars <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {
        *("test/confusion", "test/mistakes", "test/reliability"),
    }


def test_file_and_predictions_agree(run: Path) -> None:
    trees, card = load_forest(run / "forest.skops")
    assert "".join(card["charset"]) == CHARACTERS
    assert (card["channels"], card["height"], card["width"]) == (1, 30, 40)
    assert card["about"]["config"]["n_estimators"] == 10
    dataset = load_dataset(compose(TINY, "forest").data)
    pixels = np.divide(dataset.images.numpy(), 255, dtype=np.float32).reshape(len(dataset), -1)
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows[:20]:
        votes = trees.predict_proba(pixels[[dataset.files.index(row["file"])]])[0]
        assert dataset.charset.names[int(np.argmax(votes))] == row["prediction"]
        assert votes.max() == pytest.approx(float(row["probability"]), abs=1e-6)


def test_out_of_bag_votes() -> None:
    """Only trees vote that were not fitted to an image; others are left out."""
    random = np.random.default_rng(0)
    pixels, label = random.random((40, 6), np.float32), np.arange(40) % 3
    trees, oob = fit_forest(compose(["n_estimators=5", "n_jobs=1"], "forest"), pixels, label)
    votes = np.zeros((40, 3))
    for tree, fitted in zip(trees.estimators_, trees.estimators_samples_, strict=True):
        unseen = np.setdiff1d(np.arange(40), fitted)
        votes[unseen] += tree.predict_proba(pixels[unseen])
    np.testing.assert_allclose(oob, votes / votes.sum(1, keepdims=True).clip(1))
    assert not oob.any(axis=1).all()


def test_color_without_plots_repeats(tmp_path: Path) -> None:
    config = compose([*TINY, "data.channels=3", "plots=false"], "forest")
    for name in "ab":
        forest(config, tmp_path / name)
    one, other = ((tmp_path / name / "predictions.csv").read_text() for name in "ab")
    assert one == other
    _, card = load_forest(tmp_path / "a/forest.skops")
    assert (card["channels"], card["image_statistics"]) == (3, None)
    assert not list((tmp_path / "a").glob("*.png"))
    events = EventAccumulator(str(tmp_path / "a"))
    events.Reload()
    assert events.Tags()["images"] == []
    assert "hp/test_acc" in events.Tags()["scalars"]


def _empty(trees: RandomForestClassifier) -> None:
    tree = trees.estimators_[0].tree_
    state = tree.__getstate__()
    none = {"node_count": 0, "nodes": state["nodes"][:0], "values": state["values"][:0]}
    empty = type(tree)(tree.n_features, tree.n_classes, tree.n_outputs)
    empty.__setstate__(state | none)
    trees.estimators_[0].tree_ = empty


def _out_of_memory(name: str) -> Callable[[RandomForestClassifier], None]:
    return lambda trees: getattr(trees.estimators_[1].tree_, name).__setitem__(0, 10**6)


@pytest.mark.parametrize(
    "spoil",
    [
        _empty,  # scikit-learn would never come back from such a tree
        *map(_out_of_memory, ("children_left", "children_right", "feature")),
        lambda trees: trees.estimators_.clear(),
    ],
)
def test_forests_that_would_hang_or_break_are_rejected(
    run: Path, tmp_path: Path, spoil: Callable[[RandomForestClassifier], None]
) -> None:
    trees, card = load_forest(run / "forest.skops")
    spoil(trees)
    forestfile.save(trees, card, tmp_path / "forest.skops")
    with pytest.raises(RunError, match="its trees and its description don't fit"):
        load_forest(tmp_path / "forest.skops")


def test_a_file_asks_for_no_threads_and_no_prints(run: Path, tmp_path: Path) -> None:
    trees, card = load_forest(run / "forest.skops")
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
