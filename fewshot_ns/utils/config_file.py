"""Reading a run's config.yml without running code from it.

nerfstudio's own commands read such a file with a loader that imports and calls whatever the file names. This one makes
config objects of nerfstudio, this package, its plugins and torch's optimizers by filling them, and paths, enumerations
and plain values; everything else is refused by its name, before anything is imported for it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict
from importlib import import_module
from pathlib import Path, PureWindowsPath
from typing import Any, Dict, List, Sequence, Set, Tuple, cast

import yaml

from fewshot_ns.utils.config_names import (
    FUNCTIONS,
    GENERIC,
    ORDERED,
    PATHS,
    PYTHON_PREFIX,
    TENSOR,
    Named,
    parse_tag,
    refusal,
)
from fewshot_ns.utils.config_names import is_trusted_module as is_trusted
from fewshot_ns.utils.config_names import today as todays_name
from fewshot_ns.utils.config_values import misfit
from fewshot_ns.utils.moved_modules import PACKAGE

MAX_BYTES = 4 << 20
"""Largest file that is read; a config has about 20 kB."""
MAX_NODES = 100_000
"""Most values that it may hold, those counted twice that stand in two places by an alias."""
MAX_DEPTH = 60
"""Most levels of values in values."""
_MAX_NUMBER = 100
"""Most characters of a number or date."""
_MERGE = "tag:yaml.org,2002:merge"


class ConfigFileError(ValueError):
    """A config.yml cannot be read, or is refused; the message names file, line and what is wrong."""


def read_config(path: Path, needed: Sequence[str] = ()) -> Any:
    """The object that a config.yml describes, as nerfstudio's loader would make it.

    Args:
        path: of the file.
        needed: fields of the outermost config that the file has to have where it holds one.

    Raises:
        OSError: it cannot be read.
        ConfigFileError: it is cut, damaged or too large, or names what is not to be had or not allowed.
    """
    root = compose(path)
    if isinstance(root, yaml.MappingNode) and str(root.tag).startswith(PYTHON_PREFIX):
        absent = sorted(set(needed) - {str(key.value) for key, _ in root.value})
        if absent:
            raise ConfigFileError(
                f"{path}: expected the config.yml of a training run, found one without {', '.join(absent)}; is "
                "the file cut?"
            )
    loader = _Loader("")
    try:
        return loader.construct_document(root)
    except _RefusedError as error:
        raise ConfigFileError(f"{path}: line {line_of(error.node)}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path}: expected the config.yml of a training run, found {_words(error)}") from error


def compose(path: Path) -> yaml.Node:
    """The nodes of a config.yml, none of which is made an object of; within bounds of size, depth and aliases.

    Raises:
        OSError: it cannot be read.
        ConfigFileError: it is no YAML, cut, empty, or beyond the bounds.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ConfigFileError(f"{path}: expected a config of at most {MAX_BYTES >> 20} MB, found {size / 1e6:.0f} MB")
    try:
        text = path.read_text(encoding="utf8")
        _check_events(text)
        # The composer alone: what comes out is nodes with names of tags.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigFileError(
            f"{path}: expected the config.yml of a training run, text in UTF-8, found byte {error.object[error.start]} "
            f"at {error.start}"
        ) from error
    except _BoundsError as error:
        raise ConfigFileError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigFileError(
            f"{path}: expected the config.yml of a training run, found what is no YAML; is the file cut or damaged? "
            f"{_words(error)}"
        ) from error
    if root is None:
        raise ConfigFileError(f"{path}: expected the config.yml of a training run, found an empty file")
    try:
        _check_aliases(root, {}, set())
    except _BoundsError as error:
        raise ConfigFileError(f"{path}: {error}") from error
    return root


class _BoundsError(ValueError):
    """The file is larger, deeper or more entwined than any config."""


class _RefusedError(ValueError):
    """A node is refused.

    Args:
        node: where.
        problem: what was expected and what was found.
    """

    def __init__(self, node: yaml.Node, problem: str) -> None:
        super().__init__(problem)
        self.node = node


def _check_events(text: str) -> None:
    """Counts values and levels before anything recursive sees the file."""
    depth = count = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line = event.start_mark.line + 1
                raise _BoundsError(f"line {line}: expected at most {MAX_DEPTH} levels of values in values, found more")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        count += isinstance(event, yaml.NodeEvent)
        if count > MAX_NODES:
            raise _BoundsError(f"expected a config of at most {MAX_NODES} values, found more")


def _check_aliases(node: yaml.Node, known: Dict[int, Tuple[int, int]], above: Set[int]) -> Tuple[int, int]:
    """How many values a node stands for, and on how many levels, where each alias is written out."""
    if id(node) in above:
        raise _BoundsError(f"line {line_of(node)}: expected no value that holds itself, found one")
    if id(node) not in known:
        above.add(id(node))
        below = [_check_aliases(child, known, above) for child in children(node)]
        above.remove(id(node))
        count, depth = 1 + sum(one[0] for one in below), 1 + max((one[1] for one in below), default=0)
        if count > MAX_NODES or depth > MAX_DEPTH:
            most = f"{MAX_NODES} values" if count > MAX_NODES else f"{MAX_DEPTH} levels of values in values"
            raise _BoundsError(f"line {line_of(node)}: expected at most {most}, found aliases that mean more")
        known[id(node)] = count, depth
    return known[id(node)]


def children(node: yaml.Node) -> List[yaml.Node]:
    """The nodes in a node, keys included, in the file's order."""
    if isinstance(node, yaml.MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def line_of(node: yaml.Node) -> int:
    """The line in which a node begins, from 1."""
    return node.start_mark.line + 1


def _words(error: Exception) -> str:
    """What a parser says, in one line, without what it quotes of the file."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    return f"({str(problem)[:200]}{'' if mark is None else f', line {mark.line + 1}'})"


_TENSOR = f"{PYTHON_PREFIX}object/apply:{TENSOR.name}"
"""Tag of a tensor; nerfstudio's pixel sampler puts one into its config, which is in files that were saved later."""


class _Loader(yaml.SafeLoader):
    """YAML's plain values, and of Python's what `config_names` allows."""

    def python_value(self, suffix: str, node: yaml.Node) -> Any:
        """The value of a node with a tag `!!python/...`."""
        named = parse_tag(PYTHON_PREFIX + suffix)
        assert named is not None
        reason = refusal(named)
        if reason:
            raise _RefusedError(node, f"{named} is refused: {reason}")
        if named.kind == "plain":
            return self._plain(named.name, node)
        if named.kind == "class":
            return self._class(named, node)
        return self._filled(named, node) if named.kind == "object" else self._called(named, node)

    def _plain(self, name: str, node: yaml.Node) -> Any:
        if name in ("list", "tuple"):
            return {"list": list, "tuple": tuple}[name](
                self.construct_sequence(cast(yaml.SequenceNode, node), deep=True)
            )
        if name == "dict":
            return self.construct_mapping(cast(yaml.MappingNode, node), deep=True)
        text = self.construct_scalar(node)  # type: ignore[arg-type]
        if name == "str":
            return text
        return self.construct_object(yaml.ScalarNode(f"tag:yaml.org,2002:{_OF_YAML[name]}", text, node.start_mark))

    def _found(self, named: Named, node: yaml.Node) -> Any:
        """The object of a name, as the module of that name has defined it."""
        module, _, attribute = todays_name(named.name).rpartition(".")
        try:
            found = vars(import_module(module)).get(attribute)
        except (ImportError, RuntimeError, OSError) as error:
            raise _RefusedError(node, f"{named.name} cannot be imported ({_short(error)})") from error
        if f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', None)}" != f"{module}.{attribute}":
            raise _RefusedError(node, f"{named} is refused: {module} does not define it")
        return found

    def _class(self, named: Named, node: yaml.Node) -> Any:
        found = self._found(named, node)
        if named.name not in FUNCTIONS and not isinstance(found, type):
            raise _RefusedError(node, f"{named} is refused: it is a {type(found).__name__}, expected a class")
        if named.name.startswith("torch.") and not _is_of_optimizers(found):
            raise _RefusedError(node, f"{named} is refused: it is neither an optimizer nor a scheduler")
        return found

    def _filled(self, named: Named, node: yaml.Node) -> Any:
        kind = self._found(named, node)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            raise _RefusedError(node, f"{named} is refused: it is no config, expected a dataclass")
        own_ways = {"__new__", "__del__", "__setattr__", "__setstate__"} & {
            name for base in kind.__mro__[:-1] if not _is_harmless(base) for name in vars(base)
        }
        if own_ways:
            raise _RefusedError(node, f"{named} is refused: it has a {sorted(own_ways)[0]} of its own")
        if not isinstance(node, yaml.MappingNode):
            raise _RefusedError(node, f"{named.name}: expected its fields, found {_kind_of(node)}")
        # Set-up computes these anew; a tensor is in the file as a pickle, which is never read.
        defaults = [one.name for one in dataclasses.fields(kind) if hasattr(kind, one.name)]
        kept = [(key, value) for key, value in node.value if value.tag != _TENSOR or key.value not in defaults]
        plain = yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)
        state = cast(Dict[str, Any], self.construct_mapping(plain, deep=True))
        odd = [name for name in state if not (isinstance(name, str) and name.isidentifier()) or name[:2] == "__"]
        if odd:
            raise _RefusedError(node, f"{named.name}: expected names of fields, found {str(odd[0])[:100]!r}")
        made = object.__new__(kind)
        if hasattr(made, "__setstate__"):
            self._restore(made, state, named, node)
        else:
            made.__dict__.update(state)
        problem = misfit(made)
        if problem:
            raise _RefusedError(node, f"{named.name}: {problem}")
        return made

    def _restore(self, made: Any, state: Dict[Any, Any], named: Named, node: yaml.Node) -> None:
        """Fills a config that may be of an earlier version."""
        try:
            made.__setstate__(state)
        except ValueError as error:
            raise _RefusedError(node, f"{named.name}: {error}") from error
        except (TypeError, AttributeError, KeyError) as error:
            raise _RefusedError(
                node, f"{named.name}: expected the fields of a saved config, found others ({_short(error)})"
            ) from error

    def _called(self, named: Named, node: yaml.Node) -> Any:
        if not isinstance(node, yaml.SequenceNode):
            raise _RefusedError(node, f"{named}: expected a list of what it is called with, found {_kind_of(node)}")
        arguments = self.construct_sequence(node, deep=True)
        if named.name in PATHS:
            if not all(isinstance(part, str) for part in arguments) or any("\0" in part for part in arguments):
                raise _RefusedError(node, f"{named.name}: expected the parts of a path, found other values")
            windows = "Windows" in named.name and Path is not PureWindowsPath
            return Path(PureWindowsPath(*arguments).as_posix()) if windows else Path(*arguments)
        if named.name == ORDERED:
            return self._ordered(arguments, node)
        if named.name == GENERIC:
            return self._generic(arguments, node)
        kind = self._found(named, node)
        if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            raise _RefusedError(node, f"{named} is refused: it would be called")
        members = [member for member in kind if [member.value] == arguments]
        if not members:
            raise _RefusedError(node, f"{named.name}: expected the value of one of its members, found another")
        return members[0]

    def _ordered(self, arguments: List[Any], node: yaml.Node) -> OrderedDict:
        pairs = arguments[0] if arguments else []
        if len(arguments) > 1 or not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise _RefusedError(node, f"{ORDERED}: expected pairs, found other values")
        try:
            return OrderedDict(pairs)
        except (TypeError, ValueError) as error:
            raise _RefusedError(node, f"{ORDERED}: expected pairs, found other values") from error

    def _generic(self, arguments: List[Any], node: yaml.Node) -> Any:
        """A generic class with its parameter, such as VanillaDataManager[DepthDataset]."""
        if len(arguments) == 2:
            kind, inner = arguments
            inners: Tuple[Any, ...] = inner if isinstance(inner, tuple) else (inner,)
            if all(isinstance(one, type) and is_trusted(one.__module__) for one in (kind, *inners)):
                try:
                    return kind[inner]
                except TypeError as error:
                    raise _RefusedError(node, f"{kind.__name__}: expected a generic class, found another") from error
        raise _RefusedError(node, f"{GENERIC} is refused: expected a generic class and its parameter")

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merged mappings are YAML of hands; copies of copies of them grow without end."""
        for key, _ in node.value:
            if key.tag == _MERGE:
                raise _RefusedError(key, "expected no merged mapping (<<), found one")

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node; numbers and dates that are none, or endless, are refused."""
        number = isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("int", "float", "timestamp")
        if number and len(node.value) > _MAX_NUMBER:
            raise _RefusedError(node, f"expected a number or date, found {len(node.value)} characters")
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError, KeyError, IndexError, AttributeError) as error:
            if isinstance(error, _RefusedError):
                raise
            raise _RefusedError(node, f"expected {node.tag.rpartition(':')[2]}, found another value") from error


def _unknown(loader: _Loader, node: yaml.Node) -> Any:
    raise _RefusedError(node, f"{Named('unknown', str(node.tag))} is refused: nothing is known of this tag")


_OF_YAML = {"none": "null", "bool": "bool", "int": "int", "float": "float"}
_Loader.add_multi_constructor(PYTHON_PREFIX, _Loader.python_value)
_Loader.add_constructor(None, _unknown)  # type: ignore[arg-type]


def _is_harmless(base: type) -> bool:
    """Whether what a class defines about making and filling objects is this package's, or Python's."""
    return base.__module__.partition(".")[0] == PACKAGE or base.__module__ in ("typing", "abc")


def _is_of_optimizers(found: Any) -> bool:
    import torch

    scheduler = torch.optim.lr_scheduler
    kinds = (torch.optim.Optimizer, scheduler._LRScheduler, scheduler.ReduceLROnPlateau)
    return issubclass(found, kinds)


def _kind_of(node: yaml.Node) -> str:
    kinds = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping"}
    return kinds.get(type(node), "one value")


def _short(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
