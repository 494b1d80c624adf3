"""Run folders as they are found: finished, failed, or unfinished, and with which settings."""

import json
import os
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwr.errors import RunError, UserError
from hwr.files import whole

ELSEWHERE = frozenset({"ckpt", "data.root", "data.cache", "n_jobs"})
"""Settings that only say where, or how fast, a run was made; so does all of `report`."""

MOST_YAML = 65_536
"""Bytes of a config.yaml; ours have two thousand."""


@dataclass(frozen=True)
class Found:
    """A run folder.

    Attributes:
        path: Where it is.
        config: The settings of the run, nested.
        metrics: What stands in `metrics.json`; None where the run is not finished.
        error: Why the run failed; None where it did not, as far as anybody knows.
    """

    path: Path
    config: dict[str, Any]
    metrics: dict[str, Any] | None = None
    error: str | None = None

    @property
    def state(self) -> str:
        """`finished`, `failed` or `unfinished`: it still runs, or was cut off."""
        if self.metrics is not None:
            return "finished"
        return "unfinished" if self.error is None else "failed"


def read(folder: Path) -> Found | None:
    """A run folder, None where nothing of a run is in it.

    Raises:
        ValueError: A file in it is damaged.
        OSError: A file in it can't be read.
    """
    if (file := folder / "metrics.json").is_file():
        metrics = _json(file)
        return Found(folder, _settings(metrics), metrics)
    if (file := folder / "failed.json").is_file():
        failed = _json(file)
        return Found(folder, _settings(failed), error=str(failed.get("error")))
    if (file := folder / "config.yaml").is_file() and not (folder / "evaluation.json").exists():
        return Found(folder, _settings({"config": _yaml(file)}))
    return None


def find(folders: Iterable[Path]) -> Iterator[Path]:
    """All run folders at or below these, each once, in order.

    Raises:
        RunError: A folder is missing.
    """
    found: set[Path] = set()
    for folder in folders:
        if not os.path.isdir(folder):  # pathlib raises where a name is too long
            raise RunError(f"no folder {folder}")
        for place, below, files in os.walk(folder.resolve()):
            below[:] = [name for name in below if not name.startswith(".")]
            if {"metrics.json", "failed.json", "config.yaml"} & set(files):
                found.add(Path(place))
    yield from sorted(found, key=_natural)


def flat(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys and values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first setting in which two runs differ, `KEY=ONE, not OTHER`; None where they don't."""
    flat_one, flat_other = dict(flat(one)), dict(flat(other))
    for key in [*flat_one, *(key for key in flat_other if key not in flat_one)]:
        told = key not in ELSEWHERE and not key.startswith("report.")
        if told and flat_one.get(key) != flat_other.get(key):
            return f"{key}={flat_one.get(key)}, not {flat_other.get(key)}"
    return None


def mark_failed(folder: Path, config: dict[str, Any], error: Exception) -> None:
    """Write `failed.json`: the error, its traceback unless it is a user's mistake, the settings."""
    lines = [] if isinstance(error, UserError) else traceback.format_exception(error)
    said = " ".join(str(error).split()) or type(error).__name__
    if lines:
        said = f"{type(error).__name__}: {said}"
    failed = {"error": said, "traceback": "".join(lines), "config": config}
    with whole(folder / "failed.json") as beside:
        beside.write_text(json.dumps(failed, indent=2) + "\n", encoding="utf-8")


def _settings(saved: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run, its groups as groups."""
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
        text = stream.read(MOST_YAML + 1)
    if len(text) > MOST_YAML:
        raise ValueError(f"its config.yaml has more than {MOST_YAML:,} bytes")
    try:
        depth = 0
        for one in yaml.parse(text, yaml.SafeLoader):  # as far as it is harmless
            if isinstance(one, yaml.AliasEvent):
                raise ValueError("its config.yaml has aliases, of which few bytes make gigabytes")
            depth += isinstance(one, yaml.CollectionStartEvent)
            depth -= isinstance(one, yaml.CollectionEndEvent)
            if depth > 50:
                raise ValueError("it is nested too deeply")
        content = json.loads(json.dumps(yaml.safe_load(text)))  # no dates, no endless numbers
    except Exception as error:  # YAML's errors, and whatever a hostile file provokes
        raise ValueError(" ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise ValueError("it holds no settings")
    return content


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    """Job 10 comes after job 2."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in path.parts
    ]
