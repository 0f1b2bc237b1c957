"""YAML files of people: plain data of a reasonable size, read in a time that their size bounds."""

from __future__ import annotations

from typing import Any, Dict, Optional

import yaml

from fewshot_ns.utils.shown_values import shown

MOST_BYTES = 100_000
"""Size of the largest file that is looked at; the recipes of this package have less than 3,000 bytes."""
MOST_NODES = 5_000
"""Most values in a file, keys included, where an alias counts for all that it stands for."""
MOST_DEPTH = 40
"""Most mappings and lists within each other."""


class YamlFileError(ValueError):
    """A file is no YAML, or more of it than anyone writes; the message says where, and does not name the file."""


def load_yaml(content: bytes) -> Any:
    """Plain data of a YAML file: text, numbers, dates, lists and mappings; no other objects, no key twice.

    Args:
        content: bytes of the file, in UTF-8.

    Raises:
        YamlFileError: it is something else, or too large.
    """
    if len(content) > MOST_BYTES:
        raise YamlFileError(f"expected at most {MOST_BYTES} bytes, found {len(content)}")
    try:
        return yaml.load(content.decode("utf8"), Loader=_StrictLoader)
    except UnicodeDecodeError as error:
        raise YamlFileError(f"not YAML: expected text in UTF-8, found another byte at {error.start}") from error
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise YamlFileError(f"not YAML: {text if len(text) <= 400 else text[:397] + '...'}") from error


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe loader, which does not take the last of two equal keys without a word, and gives up on bombs."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: Optional[yaml.Node], index: Any) -> Any:
        self._nodes += 1
        self._depth += 1
        mark = self.peek_event().start_mark
        if self._nodes > MOST_NODES:
            raise _error(f"expected at most {MOST_NODES} values in the file, found more", mark)
        if self._depth > MOST_DEPTH:
            raise _error(f"expected at most {MOST_DEPTH} lists or mappings within each other, found more", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            # yaml's constructors run into what a value with an explicit tag, or an impossible date, may hold.
            kind = str(node.tag).rpartition(":")[2]
            raise _error(f"expected a value of the kind {kind}, found {shown(node.value)}", node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        if not isinstance(node, yaml.MappingNode):
            raise _error("expected a mapping, found another kind of value", node.start_mark)
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(f"expected a text as key, found {shown(key)}", key_node.start_mark)
            if key in seen:
                raise _error(f"the key {shown(key)} is there more than once", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _count(node: yaml.Node, known: Dict[yaml.Node, int]) -> int:
    """How many values a node stands for, aliases written out.

    Raises:
        YAMLError: more than anyone writes, or a node that holds itself.
    """
    if not isinstance(node.value, list):
        return 1
    if node in known:
        if known[node] == 0:
            raise _error("expected plain data, found a list or mapping that holds itself", node.start_mark)
        return known[node]
    known[node] = 0
    total = 1
    for entry in node.value:
        for part in entry if isinstance(entry, tuple) else (entry,):
            total += _count(part, known)
            if total > MOST_NODES:
                raise _error(
                    f"expected at most {MOST_NODES} values in the file, aliases written out, found more",
                    node.start_mark,
                )
    known[node] = total
    return total


def _error(problem: str, mark: Any) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)
