"""Handwriting recognition of single characters: data, models, runs.

Names are imported when they are used, so that `import hwr` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwr.alphabet import Alphabet as Alphabet
    from hwr.config import compose as compose
    from hwr.datamodule import CharacterData as CharacterData
    from hwr.forestfile import load_forest as load_forest
    from hwr.loading import load as load
    from hwr.models.cnn import CNN as CNN
    from hwr.models.glyphnet import GlyphNet as GlyphNet
    from hwr.models.mlp import MLP as MLP
    from hwr.predict import Prediction as Prediction
    from hwr.predict import Recognizer as Recognizer

_HOMES = {
    "Alphabet": "hwr.alphabet",
    "CNN": "hwr.models.cnn",
    "CharacterData": "hwr.datamodule",
    "GlyphNet": "hwr.models.glyphnet",
    "MLP": "hwr.models.mlp",
    "Prediction": "hwr.predict",
    "Recognizer": "hwr.predict",
    "compose": "hwr.config",
    "load": "hwr.loading",
    "load_forest": "hwr.forestfile",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hwr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
