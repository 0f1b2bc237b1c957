"""The corpus of broken inputs: each case writes one and says how it must end.

Cases lie in the modules `cases_*.py` beside this file, each with a list `CASES`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

Action = Callable[[], object]
"""What a user does with the input, up to where training would begin."""
LEAST_CASES = 150


@dataclass(frozen=True)
class Case:
    """A broken or odd input."""

    name: str
    """Unique in the corpus; lower case with hyphens."""
    kind: str
    """What it stands for, such as 'camera', 'json', 'photo', 'depth', 'config', 'ledger'."""
    prepare: Callable[[Path], Action]
    """Writes the input into an empty folder and returns what is done with it."""
    says: Optional[Tuple[str, ...]]
    """Parts of the one error, of which the first names the file; None: the input is right and must be taken."""
    leaves: Tuple[str, ...] = ()
    """Patterns of paths below the folder that the action may make; anything else that it leaves is a fault."""


def all_cases() -> List[Case]:
    """Those of every module."""
    modules = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
    return [case for module in modules for case in importlib.import_module(module).CASES]


def training_inputs(parser: str, data: Path, **flags: Any) -> Action:
    """Reads a scene as `ns-train` does before its first step.

    Args:
        parser: name of a dataparser, `fewshot-data` for the automatic one.
        data: what --data is given.
        flags: of the dataparser.
    """

    def action() -> object:
        from fewshot_ns.data.datamanagers.fewshot import FewShotDataManagerConfig
        from fewshot_ns.data.dataparsers.automatic import CONFIGS, FewShotAutoDataParserConfig

        config: Any = FewShotAutoDataParserConfig() if parser == "fewshot-data" else CONFIGS[parser]()
        return FewShotDataManagerConfig(dataparser=replace(config, data=data, **flags)).setup(device="cpu")

    return action
