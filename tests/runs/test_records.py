"""Test how run folders are found, read and compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from hwr.errors import DataError, RunError
from hwr.runs.records import (
    check_free,
    difference,
    mark_failed,
    output_subdir,
    read,
)
from hwr.runs.table import read_runs, table

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"ckpt_path": None}, {"ckpt_path": "s/0/checkpoints/last.ckpt"}, True),
        ({"callbacks": {"a": {"x": 1}}}, {}, True),
        ({"logger": {"a": {"x": 1}}}, {"logger": {"a": {"x": 2}}}, True),
        ({"label_smoothing": 0.1}, {}, False),
        ({"added": None}, {}, False),
    ],
)
def test_what_makes_settings_equal(
    tmp_path: Path, write_run: Any, one: dict[str, Any], other: dict[str, Any], same: bool
) -> None:
    first, second = write_run("0", 0.7, **one), write_run("1", 0.7, **other)
    assert (difference(first, second) is None) == same
    assert len(table(read_runs([tmp_path]))) == (1 if same else 2)


def test_states(tmp_path: Path, write_run: Any, write_unfinished: Any) -> None:
    config = write_run("finished", 0.7)
    write_run("partial", None, metrics={"partial": True})
    mark_failed(tmp_path / "failed", config, ValueError("no\nway"))
    mark_failed(tmp_path / "mistake", config, DataError("no images"))
    write_unfinished("unfinished", json.dumps(config))
    write_unfinished("unfinished/.hydra/resume-1", "split: {seed: 2}")
    runs = {run.path.name: run for run in read_runs([tmp_path, tmp_path / "failed"])}
    states = {name: run.state for name, run in runs.items()}
    assert states.pop("mistake") == "failed"
    assert states == {name: name for name in states}
    assert runs["failed"].error == "ValueError: no way"
    assert runs["mistake"].error == "no images"
    assert runs["unfinished"].config == config  # those of the first start


def test_an_evaluation_is_no_run(tmp_path: Path, write_run: Any, write_unfinished: Any) -> None:
    write_run("0", 0.7)
    write_unfinished("eval", "data: {name: english}\nckpt_path: ../0\n")
    assert len(read_runs([tmp_path])) == 1
    (tmp_path / "eval/evaluation.json").write_text('{"acc": 0.5, "config": {"ckpt_path": "0"}}')
    with pytest.raises(RunError, match="no run below"):
        read_runs([tmp_path / "eval"])
    evaluation = read(tmp_path / "eval")
    assert evaluation is not None
    assert difference(evaluation.config, {"ckpt_path": "1"}) == "ckpt_path=0, not 1"


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("metrics.json", "{", "can't be read (Expecting property name"),
        ("metrics.json", "[" * 200_000, "can't be read (maximum recursion"),
        ("metrics.json", '{"config": [1]}', "holds no settings of a run"),
        ("failed.json", '{"config": {"split": "x"}}', "holds no settings of a run"),
        (".hydra/config.yaml", BOMB, "aliases are rejected"),
        (".hydra/config.yaml", "a: !!python/object/apply:os.getcwd []", "not determine a constr"),
    ],
)
def test_damaged_and_hostile_runs_are_left_out(
    tmp_path: Path,
    write_run: Any,
    capsys: pytest.CaptureFixture[str],
    file: str,
    content: str,
    reason: str,
) -> None:
    write_run("good", 0.8)
    (tmp_path / "bad" / file).parent.mkdir(parents=True)
    (tmp_path / "bad" / file).write_text(content)
    assert [run.path.name for run in read_runs([tmp_path])] == ["good"]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"left out {tmp_path.resolve() / 'bad' / file} " in line
    assert reason in line


def test_a_taken_folder(tmp_path: Path, write_run: Any) -> None:
    config = write_run("run", 0.7)
    folder, last = tmp_path / "run", tmp_path / "run/checkpoints/last.ckpt"
    check_free(tmp_path / "free", config)
    with pytest.raises(RunError, match=r"choose another hydra\.run\.dir$"):
        check_free(folder, config)
    last.parent.mkdir()
    last.touch()
    with pytest.raises(RunError, match=f"or resume it with ckpt_path={last}"):
        check_free(folder, config)
    check_free(folder, config | {"ckpt_path": str(last)})


def test_where_hydra_writes(tmp_path: Path, write_run: Any, write_unfinished: Any) -> None:
    write_run("finished", 0.7)
    write_unfinished("run", "seed: 1")
    (tmp_path / "finished/.hydra").mkdir()
    (tmp_path / "finished/.hydra/config.yaml").touch()
    assert output_subdir(str(tmp_path / "new"), multirun=True) == ".hydra"
    assert output_subdir(str(tmp_path / "finished"), multirun=True) is None
    assert output_subdir(str(tmp_path / "finished"), multirun=False) == ".hydra/resume-1"
    (tmp_path / "run/.hydra/resume-1").mkdir()
    assert output_subdir(str(tmp_path / "run"), multirun=True) == ".hydra/resume-2"
