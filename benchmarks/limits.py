"""How far size tells look-alikes of one hand apart, and what is read wrongly in view of it.

    python benchmarks/limits.py [RUN...] [--data synthetic] [--out SHEET]

The figures are of writers 1 to 44, and need no RUN. A RUN is a folder of `hwr-train experiment=best
split=writer split.writers=1-44 split.fold=K`. SHEET shows each mistake that is left when all
pictures of a writer are read together, and beside it that writer's own picture of what it was taken
for.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

import hwr
from hwr import files, together
from hwr.networks.glyphnet import around_the_ink
from hwr.sheets import DARK, Cell, sheet

WRITERS = "1-44"
CASES = "CKOPSUVWXYZ"
"""Letters whose small form may be the capital's, only smaller."""
OTHERS = ("0O", "0o", "1I", "1l", "Il")
SIDE = 240
"""Height at which ink is measured, in pixels."""


Hand = dict[tuple[int, str], NDArray[np.float32]]
"""The ink's geometry (5,) by writer and character."""


def measured(data: str) -> Hand:
    """What `around_the_ink` finds in the pictures of all writers by whom choices are made."""
    size = [f"data.height={SIDE}", f"data.width={SIDE * 4 // 3}"]
    config = hwr.compose([f"data={data}", "split=writer", f"split.writers={WRITERS}", *size])
    parts = hwr.CharacterData(config.data, config.split)
    rows = np.concatenate([parts.parts.train, parts.parts.val, parts.parts.test])
    characters = parts.characters
    ink = 1 - torch.from_numpy(characters.image[rows])[:, None] / 255
    names = [characters.alphabet.names[label] for label in characters.label[rows]]
    keys = zip(characters.writer[rows].tolist(), names, strict=True)
    return dict(zip(keys, around_the_ink(ink, SIDE)[1].numpy(), strict=True))


def pairs(found: Hand) -> None:
    """Print how often size misleads even somebody who holds both pictures of a pair."""
    people = sorted({person for person, _ in found})
    apart = {
        name: np.array([found[one, name] - found[one, name.lower()] for one in people])
        for name in CASES
    }
    every = np.concatenate(list(apart.values()))
    print("| pair | the small one is at least as high | as large in area |\n|---|---|---|")
    for name, larger in [*apart.items(), ("all", every)]:
        print(f"| {name} | {(larger[:, 0] <= 0).mean():.1%} | {(larger[:, 4] <= 0).mean():.1%} |")
    person, wrong = np.tile(people, len(CASES)), 0
    for one in people:  # the best straight rule, fitted to the others
        some = every[person != one]
        rule = LogisticRegression(C=10, fit_intercept=False)
        rule.fit(np.concatenate([some, -some]), np.repeat([1, 0], len(some)))
        wrong += int((rule.decision_function(every[person == one]) <= 0).sum())
    print(
        f"by all five numbers {wrong} of {len(every)} pairs, {wrong / len(every):.1%}, are turned"
    )
    for small, large in OTHERS:
        higher = np.mean([found[one, small][0] >= found[one, large][0] for one in people])
        print(f"{small} is at least as high as {large} with {higher:.0%} of the writers")


def mistakes(runs: list[Path]) -> bytes:
    """The sheet, as the content of a PNG file."""
    cells, count = [], 0
    for run in runs:
        config = json.loads((run / "metrics.json").read_text())["config"]
        asked = [f"split.{key}={config['split'][key]}" for key in ("writers", "folds", "fold")]
        asked += [f"data.{key}={config['data'][key]}" for key in ("height", "width")]
        asked += [f"data={config['data']['name']}", "split=writer", "split.val_size=0"]
        composed = hwr.compose(asked)
        data = hwr.CharacterData(composed.data, composed.split)
        rows, characters, names = data.parts.test, data.characters, data.alphabet.names
        image, label = characters.image[rows], characters.label[rows]
        writer, network = characters.writer[rows], hwr.load(run).model
        seen = together.look(network, torch.from_numpy(image)[:, None] / 255)
        guess = together.relate(network, seen, writer).argmax(1).numpy()
        count += len(rows)
        for row in np.flatnonzero(guess != label):
            other = np.flatnonzero((writer == writer[row]) & (label == guess[row]))[0]
            said = f"is {names[label[row]]}, read {names[guess[row]]}", DARK
            cells.append(Cell([image[row], image[other]], [said]))
    title = f"{len(cells)} of {count:,} pictures read wrongly, all of a writer's in view"
    note = "on the right what the same hand wrote for the character that it was taken for"
    return sheet(title, cells, note)


def main() -> None:
    """Print the figures and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--data", default="english", choices=["english", "synthetic"])
    parser.add_argument("--out", type=Path, default=Path("outputs/limits.png"), metavar="SHEET")
    arguments = parser.parse_args()
    pairs(measured(arguments.data))
    if arguments.runs:
        with files.whole(arguments.out) as part:
            part.write_bytes(mistakes(arguments.runs))
        print(arguments.out)


if __name__ == "__main__":
    main()
