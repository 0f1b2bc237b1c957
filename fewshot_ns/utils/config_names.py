"""Which names a config.yml may hold, judged without importing or calling anything.

nerfstudio saves a run's config as YAML that names Python classes and calls. What is judged here is the name and the
source file that it points at; `config_file`, which alone imports, looks at the object once more.
"""

from __future__ import annotations

import ast
import os
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Dict, FrozenSet, List, Literal, NamedTuple, Optional, Tuple

from fewshot_ns.utils.moved_modules import MOVED, PACKAGE, RENAMED
from fewshot_ns.utils.plugins import GROUPS

YAML_PREFIX = "tag:yaml.org,2002:"
PYTHON_PREFIX = f"{YAML_PREFIX}python/"
"""What `!!python/` in a file stands for."""

MAX_SHOWN = 160
"""Most characters of a name that are shown."""
PLAIN = ("none", "bool", "str", "int", "float", "list", "tuple", "dict")
"""Values that `!!python/KIND` may stand for, without a name."""
PATHS = (
    *("pathlib.Path", "pathlib.PosixPath", "pathlib.WindowsPath"),
    *("pathlib.PurePath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"),
    # As Python 3.13 saves them.
    *("pathlib._local.Path", "pathlib._local.PosixPath", "pathlib._local.WindowsPath"),
)
"""Callables of which a path is made; none of them is called, each is a `pathlib.Path` of the parts."""
ORDERED = "collections.OrderedDict"
GENERIC = "_operator.getitem"
"""How a class of a generic one is saved: VanillaDataManager[DepthDataset]."""
FUNCTIONS = (
    "nerfstudio.data.utils.nerfstudio_collate.nerfstudio_collate",
    "nerfstudio.data.datamanagers.base_datamanager.variable_res_collate",
)
"""The functions that configs of nerfstudio name."""
_PACKAGES = (PACKAGE, "nerfstudio")
_OPTIMIZERS = "torch.optim"
_COMMANDS = ("scripts", "__main__")
"""Modules of packages that are programs, which nothing in a config is from."""
_VARIABLES = ("NERFSTUDIO_METHOD_CONFIGS", "NERFSTUDIO_DATAPARSER_CONFIGS")

Kind = Literal["object", "new", "apply", "class", "module", "plain", "unknown"]
"""object: a class, filled without a call; new and apply: a call; class: a class or function by its name; module: an
import; plain: a value; unknown: a tag that Python's YAML does not have."""


class Named(NamedTuple):
    """What a tag of a config.yml stands for."""

    kind: Kind
    """How."""
    name: str
    """module.name; of a plain or unknown one what the tag says."""

    def __str__(self) -> str:
        words = {"object": "object of ", "new": "new object of ", "apply": "call of ", "module": "import of "}
        # A tag may hold any character, also those that move a terminal's cursor.
        text = "".join(one if one.isprintable() else "?" for one in f"{words.get(self.kind, '')}{self.name}")
        return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


TENSOR = Named("apply", "torch._utils._rebuild_tensor_v2")
"""How PyYAML stores a tensor."""


def parse_tag(tag: str) -> Optional[Named]:
    """What a node's tag stands for; None for YAML's own values, which are harmless.

    Args:
        tag: as the parser gives it, with the prefix written out.
    """
    if not tag.startswith(PYTHON_PREFIX):
        return None if tag.startswith(YAML_PREFIX) else Named("unknown", tag)
    what, _, name = tag[len(PYTHON_PREFIX) :].partition(":")
    kinds: Dict[str, Kind] = {
        "object": "object",
        "object/new": "new",
        "object/apply": "apply",
        "name": "class",
        "module": "module",
    }
    if what in kinds and name:
        return Named(kinds[what], name)
    return Named("plain", what) if what in PLAIN and not name else Named("unknown", tag)


def refusal(named: Named) -> str:
    """Why a config.yml is refused that holds this, in words; empty where it may hold it."""
    kind, name = named
    if kind == "plain":
        return ""
    if kind == "apply" and name in (*PATHS, ORDERED, GENERIC):
        return ""
    if kind == "class" and name in FUNCTIONS:
        return ""
    if kind in ("module", "new", "unknown"):
        return {
            "module": "modules are not imported",
            "new": "objects are not made in this way",
            "unknown": "nothing is known of this tag",
        }[kind]
    if named == TENSOR:
        return "tensors are pickles; a field that has a default is left out"
    module, _, attribute = today(name).rpartition(".")
    if not _is_trusted(module, attribute):
        return "it is of none of nerfstudio, fewshot_ns, torch.optim and installed plugins"
    found = _source_kind(module, attribute)
    if found == "absent":
        return "there is no such class, it was renamed or is of another version"
    if found == "function" or (found == "class" and kind == "apply"):
        return "it would be called" if kind == "apply" else "it is a function, expected a class"
    if found == "enum" and kind == "object":
        return "it is an enumeration, expected a config"
    return ""


def today(name: str) -> str:
    """The name that a class of this package has today, by one that it had."""
    module, _, attribute = name.rpartition(".")
    moved = MOVED.get(module.removeprefix(f"{PACKAGE}."))
    if moved is None or not module.startswith(f"{PACKAGE}.") or attribute not in moved.names:
        return name
    return f"{PACKAGE}.{moved.module}.{RENAMED.get(attribute, attribute)}"


def is_trusted_module(module: str) -> bool:
    """Whether classes of a module may be named: nerfstudio, this package, their plugins and torch's optimizers, but
    nothing that is a program."""
    top, *below = module.split(".")
    if module == _OPTIMIZERS or module.startswith(f"{_OPTIMIZERS}."):
        return True
    return (top in _PACKAGES or top in plugins()) and not set(below) & set(_COMMANDS)


def _is_trusted(module: str, attribute: str) -> bool:
    words = [*module.split("."), attribute]
    # An underscore at its begin says that a name is nobody else's.
    return all(word.isidentifier() for word in words) and attribute[0] != "_" and is_trusted_module(module)


def plugins() -> FrozenSet[str]:
    """Packages that nerfstudio imports in each of its commands, since the user has installed or named them as plugins.
    What these import in their turn is not among them."""
    addresses = [entry.value for group in GROUPS for entry in _entries(group)]
    for variable in _VARIABLES:
        addresses += [one.partition("=")[2] for one in os.environ.get(variable, "").split(",")]
    tops = {address.partition(":")[0].strip().partition(".")[0] for address in addresses}
    return frozenset(top for top in tops if top.isidentifier())


@cache
def _entries(group: str) -> Tuple:
    return tuple(entry_points(group=group))


def _source_kind(module: str, attribute: str) -> Literal["class", "enum", "function", "absent", "unknown"]:
    """What a module's source defines by a name; unknown where there is no source to read."""
    path = _source_file(module)
    if path is None:
        return "absent"
    if path.suffix != ".py":
        return "unknown"
    return _definitions(path).get(attribute, "absent")  # type: ignore[return-value]


def _source_file(module: str) -> Optional[Path]:
    """The file of a module, found without importing the packages that it lies in."""
    top, *below = module.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    if not below and not folders:
        return Path(spec.origin) if spec.origin else None
    for folder in folders:
        path = Path(folder, *below)
        candidates: List[Path] = [path / "__init__.py", *(path.parent.glob(f"{path.name}.*") if below else ())]
        found = [one for one in candidates if one.is_file() and one.suffix in (".py", ".pyc", ".so", ".pyd")]
        if found:
            return found[0]
    return None


@cache
def _definitions(path: Path) -> Dict[str, str]:
    """Kinds of what a source file defines at its outermost level, by name."""
    found: Dict[str, str] = {}
    for node in ast.parse(path.read_text(encoding="utf8")).body:
        if isinstance(node, ast.ClassDef):
            bases = {base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases}
            found[node.name] = "enum" if bases & {"Enum", "IntEnum", "StrEnum", "Flag"} else "class"
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found[node.name] = "function"
        elif isinstance(node, (ast.If, ast.Try)):
            for one in ast.walk(node):
                if isinstance(one, ast.ClassDef):
                    found.setdefault(one.name, "unknown")
    return found
