"""Run folders: read their records, compare their settings, reject the ones that are taken."""

import json
import os
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr.errors import RunError, UserError
from hwr.files import atomic_write, expand_user

RESULTS = ("metrics.json", "evaluation.json")
"""Written last: a folder that holds one of them is finished."""

ELSEWHERE = {"ckpt_path", "output_dir", "data.root", "data.cache", "n_jobs", "plots"}
"""Settings that say only where or how fast a run was made, or how it is shown."""

MAX_YAML = 65_536
"""Bytes of a `.hydra/config.yaml`; ours have five thousand."""


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds.

    Attributes:
        path: The folder.
        config: The settings, nested. Those of an unfinished run are as they were composed: a
            resolver such as `${oc.env:NAME}` stands there unresolved.
        metrics: The content of `metrics.json`; None where the run isn't finished.
        error: Why the run failed; None where it didn't.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any] | None = None
    error: str | None = None

    @property
    def state(self) -> str:
        """`finished`, `partial` (the test was limited or skipped), `failed` or `unfinished`."""
        if self.metrics is not None:
            return "partial" if self.metrics.get("partial") else "finished"
        return "unfinished" if self.error is None else "failed"


def read(folder: Path) -> RunRecord | None:
    """Read a run folder; None where it holds no run.

    Raises:
        ValueError: A file in it is damaged.
        OSError: A file in it can't be read.
    """
    for name in RESULTS:
        if (file := folder / name).is_file():
            metrics = _json(file)
            return RunRecord(folder, _settings(metrics), metrics)
    if (file := folder / "failed.json").is_file():
        failed = _json(file)
        return RunRecord(folder, _settings(failed), error=str(failed.get("error")))
    file = folder / ".hydra/config.yaml"
    if file.is_file() and file.stat().st_size:  # an empty one: killed before anything else
        return RunRecord(folder, _settings({"config": substituted(_yaml(file))}))
    return None


def collect(folders: Iterable[Path]) -> Iterator[Path]:
    """List all run folders at or below these, each once, in natural order.

    Raises:
        RunError: A folder is missing.
    """
    runs: set[Path] = set()
    for folder in folders:
        if not os.path.isdir(folder):  # pathlib raises where a name is too long
            raise RunError(f"no folder {folder}")
        for place, below, files in os.walk(folder.resolve()):
            marked = {*RESULTS, "failed.json"} & set(files)
            if marked or os.path.isfile(os.path.join(place, ".hydra/config.yaml")):
                runs.add(Path(place))
            below[:] = [name for name in below if not name.startswith(".")]
    yield from sorted(runs, key=_natural)


def output_subdir(folder: str, multirun: bool) -> str | None:
    """Name the folder for Hydra's own files; a resumed run keeps the first.

    None for a job of a multirun that is done already.
    """
    place = Path(folder)
    if multirun and any((place / name).is_file() for name in RESULTS):
        return None
    if not (place / ".hydra/config.yaml").is_file():
        return ".hydra"
    number = 1
    while (place / f".hydra/resume-{number}").exists():
        number += 1
    return f".hydra/resume-{number}"


def check_free(folder: Path, config: Mapping[str, Any]) -> None:
    """Reject a folder that holds a run, unless the settings resume one of its checkpoints.

    Raises:
        RunError: It holds one.
    """
    last = folder / "checkpoints/last.ckpt"
    if not any(file.exists() for file in (*(folder / name for name in RESULTS), last)):
        return
    way = ""
    if "trainer" in config:
        if expand_user(config.get("ckpt_path") or "/").resolve().is_relative_to(folder.resolve()):
            return
        way = f", or resume it with ckpt_path={last}" if last.exists() else ""
    raise RunError(f"{folder} holds a run already; choose another hydra.run.dir{way}")


def flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested settings as dotted keys and values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def compared(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings by which runs are compared, by dotted key.

    Callbacks and loggers are left out, and so is what says only where something lies: of
    `init_from` the name of the run counts, not its folder.
    """
    left_out = ELSEWHERE if "split" in config else ELSEWHERE - {"ckpt_path"}  # an evaluation
    kept = {
        key: value
        for key, value in flat(config)
        if key not in left_out and key.partition(".")[0] not in ("callbacks", "logger")
    }
    if kept.get("init_from"):
        path = Path(str(kept["init_from"]))
        kept["init_from"] = (path.parents[1] if path.parent.name == "checkpoints" else path).name
    return kept


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Name the first setting in which two runs differ, `KEY=ONE, not OTHER`, or return None."""
    first, second = compared(one), compared(other)
    for key in first | second:
        values = first.get(key, "unset"), second.get(key, "unset")
        if values[0] != values[1]:
            return f"{key}={values[0]}, not {values[1]}"
    return None


def mark_failed(folder: Path, config: dict[str, Any], error: Exception) -> None:
    """Write `failed.json`: the error, its traceback unless it is a user's mistake, the settings."""
    lines = [] if isinstance(error, UserError) else traceback.format_exception(error)
    said = " ".join(str(error).split()) or type(error).__name__
    if lines:
        said = f"{type(error).__name__}: {said}"
    failed = {"error": said, "traceback": "".join(lines), "config": config}
    with atomic_write(folder / "failed.json") as temporary:
        temporary.write_text(json.dumps(failed, indent=2) + "\n", encoding="utf-8")


def substituted(config: dict[str, Any]) -> dict[str, Any]:
    """Replace values that are exactly `${some.key}` by the plain scalar at that key.

    Nothing else is resolved: the folder may be a stranger's, and a resolver is code.
    """
    values = dict(flat(config))

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(child) for key, child in value.items()}
        if isinstance(value, str) and (key := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            scalar = values.get(key[1], value)
            return value if isinstance(scalar, list) else scalar
        return value

    return {key: replaced(value) for key, value in config.items()}


def _settings(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run, its groups as dicts."""
    config = saved.get("config")
    if not isinstance(config, dict):
        raise ValueError("it lacks config")
    for group in ("model", "data", "split"):
        if not isinstance(config.get(group, {}), dict):
            raise ValueError(f"its {group} is no group of settings")
    return config


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("it holds no object")
    return content


def _yaml(file: Path) -> dict[str, Any]:
    import yaml  # takes a while, and most runs are finished

    with file.open("rb") as stream:
        text = stream.read(MAX_YAML + 1)
    if len(text) > MAX_YAML:
        raise ValueError(f"its config.yaml has more than {MAX_YAML:,} bytes")
    try:
        depth = 0
        for event in yaml.parse(text, yaml.SafeLoader):  # as far as it is harmless
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("its config.yaml has aliases, of which few bytes make gigabytes")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > 50:
                raise ValueError("it is nested too deeply")
        content = json.loads(json.dumps(yaml.safe_load(text)))  # no dates, no endless numbers
    except Exception as error:  # YAML's errors, and whatever a hostile file provokes
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise ValueError("it holds no settings")
    return content


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Sort job 10 after job 2."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.parts
    ]
