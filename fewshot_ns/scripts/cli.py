"""`ns-fewshot`: what this package adds beside nerfstudio's own commands."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from typing import Any, Dict, List, Optional, Tuple

import tyro
from rich.console import Console
from rich.markup import escape

from fewshot_ns.scripts.bench import BenchCommand
from fewshot_ns.scripts.camera_path import CameraPathCommand
from fewshot_ns.scripts.convert import ConvertCommand
from fewshot_ns.scripts.demo import DemoCommand
from fewshot_ns.scripts.depth import DepthCommand
from fewshot_ns.scripts.eval import EvalCommand
from fewshot_ns.scripts.genlist import GenlistCommand
from fewshot_ns.scripts.inspect import InspectCommand
from fewshot_ns.scripts.inspect_config import InspectConfigCommand
from fewshot_ns.scripts.methods import MethodsCommand
from fewshot_ns.scripts.photo import PhotoCommand
from fewshot_ns.scripts.photos import PhotosCommand
from fewshot_ns.scripts.prepare import PrepareCommand
from fewshot_ns.scripts.render_depth import RenderDepthCommand
from fewshot_ns.scripts.report import ReportCommand
from fewshot_ns.scripts.retarget import RetargetCommand
from fewshot_ns.scripts.scenes import split_dataparser
from fewshot_ns.scripts.solids import SolidsCommand
from fewshot_ns.scripts.video import VideoCommand
from fewshot_ns.scripts.view import ViewCommand
from fewshot_ns.utils.disk_space import full_disk_words
from fewshot_ns.utils.optional_imports import MissingExtraError
from fewshot_ns.utils.plugins import FAULTS, broken_plugin

COMMANDS: Dict[str, Any] = {
    "methods": MethodsCommand,
    "demo": DemoCommand,
    "solids": SolidsCommand,
    "photos": PhotosCommand,
    "prepare": PrepareCommand,
    "depth": DepthCommand,
    "convert": ConvertCommand,
    "genlist": GenlistCommand,
    "inspect": InspectCommand,
    "inspect-config": InspectConfigCommand,
    "camera-path": CameraPathCommand,
    "video": VideoCommand,
    "render-depth": RenderDepthCommand,
    "view": ViewCommand,
    "eval": EvalCommand,
    "retarget": RetargetCommand,
    "photo": PhotoCommand,
    "bench": BenchCommand,
    "report": ReportCommand,
}
"""Subcommands by name: dataclasses of their flags with a `main` method, which alone imports what is slow to import."""

_DESCRIPTION = """Few-shot novel view synthesis for nerfstudio: beside ns-train, ns-eval, ns-render and ns-viewer.

`ns-fewshot COMMAND --help` lists a command's flags; `--debug` anywhere shows the traceback of an error."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def main(arguments: List[str]) -> int:
    """Runs one command.

    Args:
        arguments: The command line without the program's name.

    Returns:
        The exit status: 0, 1 after an error that the user can mend, 130 after Ctrl-C.

    Raises:
        SystemExit: by the parser: status 0 after --help, 2 where the flags are wrong.
    """
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    arguments, of_training = _split_training(arguments)
    arguments, of_dataparser = split_dataparser(arguments)
    command = tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="ns-fewshot", description=_DESCRIPTION, args=arguments or ["--help"]
    )
    if of_dataparser:
        command.dataparser_arguments = tuple(of_dataparser)
    if of_training:
        command.training_arguments = tuple(of_training)
    console = Console(stderr=True)
    try:
        with warnings.catch_warnings():
            if not debug:
                # Those of the libraries about their own code would bury what the command says.
                warnings.simplefilter("ignore")
            command.main()
    except KeyboardInterrupt:
        console.print("[yellow]interrupted[/yellow]")
        return EXIT_INTERRUPTED
    except (ValueError, OSError, RuntimeError, MissingExtraError) as error:
        if debug:
            traceback.print_exc()
        _say(console, full_disk_words(error) or str(error) or type(error).__name__)
        return EXIT_FAILED
    except FAULTS:
        # A fault of our own stays one.
        words = None if debug else broken_plugin()
        if words is None:
            raise
        _say(console, words)
        return EXIT_FAILED
    return 0


def _say(console: Console, words: str) -> None:
    console.print(f"[bold red]error:[/bold red] {escape(words)}", highlight=False, soft_wrap=True)


def _split_training(arguments: List[str]) -> Tuple[List[str], List[str]]:
    """Parts `photos DIR ... -- FLAGS` into the command's own arguments and further ones of ns-train."""
    if arguments[:1] != ["photos"] or "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def entrypoint(arguments: Optional[List[str]] = None) -> None:
    """The console script."""
    tyro.extras.set_accent_color("bright_yellow")
    # Idle OpenMP threads spin by default, which costs much where other processes want the same cores. It must be set
    # before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main(sys.argv[1:] if arguments is None else arguments))
