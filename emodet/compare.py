"""Compare runs: ``python -m emodet.compare outputs/ferplus/2026-11-22_19-52-10_sweep``.

The arguments are folders of sweeps and runs, or folders that contain them. A sweep can be running or unfinished.
"""

from collections.abc import Sequence
from pathlib import Path

from emodet.installation import command_parser, exit_status, exit_with
from emodet.laboratory import require_laboratory

_EXAMPLES = """\
examples:
  python -m emodet.compare outputs/ferplus/2026-11-22_19-52-10_sweep
  python -m emodet.compare outputs/ferplus outputs/baseline --output compared
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns its exit status, see `exit_status`."""
    purpose = "Compare runs and sweeps: a page, a table and plots, with means and intervals over seeds."
    parser = command_parser("compare", purpose, _EXAMPLES)
    parser.add_argument("folder", nargs="+", type=Path, help="folder of a sweep or a run, or one that contains them")
    parser.add_argument("--output", type=Path, help="where to write (default: the folder, if it is a single one)")
    options = parser.parse_args(arguments)
    output: Path | None = options.output
    if output is None:
        if len(options.folder) > 1:
            parser.error("--output is needed with several folders")
        output = options.folder[0]
    return exit_status(lambda: _compare(options.folder, output.resolve()))


def _compare(folders: Sequence[Path], output: Path) -> int:
    require_laboratory("compare")
    from emodet.sweeps.comparison import compare

    print(compare(folders, output))
    return 0


if __name__ == "__main__":
    exit_with(main)
