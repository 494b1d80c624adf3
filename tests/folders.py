"""Make and load folders of images."""

import csv
from pathlib import Path

from PIL import Image

from hwr.config.compose import compose
from hwr.data import CharacterDataset, load_dataset


def load(root: Path, *overrides: str) -> CharacterDataset:
    return load_dataset(compose(["data=folder", f"data.root={root}", *overrides]).data)


def square(number: int, size: tuple[int, int] = (60, 45)) -> Image.Image:
    """White with a black square whose place depends on the number."""
    image = Image.new("RGB", size, "white")
    x, y = 5 + 7 * (number % 5), 5 + 6 * (number // 5 % 5)
    image.paste((0, 0, 0), (x, y, x + 8, y + 8))
    return image


def class_folders(root: Path, labels: list[str], each: int = 3) -> Path:
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for copy in range(each):
            square(number).save(root / label / f"{copy}.png")
    return root


def table(root: Path, rows: list[tuple[str, ...]], header: str = "image,label") -> Path:
    root.mkdir(exist_ok=True)
    with (root / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    for number, row in enumerate(rows):
        square(number).save(root / row[0])
    return root


def rewrite(root: Path, rows: list[str], header: str = "image,label") -> None:
    (root / "english.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")


def rows_of(root: Path) -> list[str]:
    return (root / "english.csv").read_text(encoding="utf-8").splitlines()[1:]
