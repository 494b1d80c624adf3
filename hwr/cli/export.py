"""Export a network to an ONNX file, which needs no torch for inference."""

from pathlib import Path

from hwr.cli.commands import add_trust, argument_parser
from hwr.errors import sanitize
from hwr.files import expand_user
from hwr.inference.export import CHECKED, export


def main() -> None:
    """Run hwr-export."""
    parser = argument_parser("hwr-export", __doc__)
    parser.add_argument("run", type=expand_user, metavar="RUN", help="run folder or checkpoint")
    parser.add_argument("--format", choices=("onnx",), default="onnx")
    parser.add_argument(
        "--out", type=expand_user, metavar="FILE", help="default: model.onnx beside it"
    )
    add_trust(parser)
    arguments = parser.parse_args()
    run: Path = arguments.run
    file = arguments.out or (run if run.is_dir() else run.parent) / "model.onnx"
    difference = export(run, file, arguments.trust)
    print(
        f"{sanitize(str(file))}: probabilities differ by at most {difference:.1g} "
        f"on {CHECKED} images"
    )
