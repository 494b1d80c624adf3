"""Let Hydra take the values of text settings on a command line as they are typed."""

import re
from collections.abc import Sequence
from dataclasses import fields

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from hwr.config import schema
from hwr.files import expand_user

_GROUPS = {
    "": (schema.TrainConfig, schema.ForestConfig, schema.EvaluateConfig),
    "data.": (schema.FolderConfig, schema.EmnistConfig),
    "split.": (schema.LockboxConfig,),
}
_TYPES = [
    (f"{prefix}{field.name}", field.type)
    for prefix, nodes in _GROUPS.items()
    for node in nodes
    for field in fields(node)
    if "choices" not in field.metadata
]
OPTIONAL = {key for key, kind in _TYPES if kind == str | None}
"""Settings that are text or null."""
TEXT = OPTIONAL | {key for key, kind in _TYPES if kind is str}
TEXT |= {"hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"}
"""Settings that are text."""
_MULTIRUN = re.compile(r"-m|--mu\w*|hydra\.mode=MULTIRUN")
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\(.*\)")
_ELEMENT = re.compile(r"""\s*('(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?:\\,|[^,])*?)\s*(?:,|$)""")
_QUOTED = re.compile(r"""['"]|.*\\[=,()]""")


def quote_text(words: Sequence[str]) -> list[str]:
    """Quote the values of text settings where Hydra would not take them as typed.

    Values that are quoted or escaped already, `null` where it is allowed, and interpolations stay.
    In a multirun commas, `choice(...)` and the like make a sweep, unless they are quoted.

    Args:
        words: The arguments of a command, options among them.

    Returns:
        The arguments for Hydra.
    """
    parser = OverridesParser.create()
    multirun = any(map(_MULTIRUN.fullmatch, words))

    def quote(key: str, value: str) -> str:
        try:
            read = parser.parse_override(f"{key}={value}").value()
        except HydraException:
            read = None
        if read == value or (isinstance(read, str) and _QUOTED.match(value)):
            return value
        if value == "null" and key in OPTIONAL:
            return value
        return QuotedString(value, Quote.single).with_quotes()

    def quoted(word: str) -> str:
        name, equals, value = word.partition("=")
        if name == "--config-dir" and equals:
            return f"{name}{equals}{expand_user(value)}"
        key = name.lstrip("+")
        sweeps = multirun and not key.startswith("hydra.")
        if not equals or key not in TEXT or (sweeps and _SWEEP.fullmatch(value)):
            return word
        values = _ELEMENT.findall(value)[:-1] if sweeps and "," in value else [value]
        return f"{name}={','.join(quote(key, one) for one in values)}"

    return [quoted(word) for word in words]
