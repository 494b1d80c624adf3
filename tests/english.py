"""A small dataset of the Kaggle form."""

from pathlib import Path

from hwr.data import synthetic

CLASSES = "019Aa"
WRITERS = 4


def draw(folder: Path, images: str = "Img") -> Path:
    """Draw a dataset of the Kaggle form: five classes, four writers."""
    rows = ["image,label"]
    (folder / images).mkdir(parents=True, exist_ok=True)
    for writer in range(1, WRITERS + 1):
        drawn = synthetic.draw_images(writer, 0)
        for label in CLASSES:
            number = synthetic.CHARACTERS.index(label)
            name = f"img{number + 1:03d}-{writer:03d}.png"
            drawn[number].convert("RGB").save(folder / images / name, compress_level=1)
            rows.append(f"Img/{name},{label}")
    (folder / "english.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
