"""The key `protocol` of a recipe: one protocol, or several that evaluate the same training across scenes."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Optional, Tuple

from fewshot_ns.bench.recipes.protocols import OWN_SOURCES, BenchProtocol, find_protocol, own_sources
from fewshot_ns.bench.recipes.schema import Kind, Section, flag_words, shown, take_section

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*")


def _folder_name(value: Any) -> str:
    if not isinstance(value, str) or not _FOLDER_NAME.fullmatch(value):
        raise ValueError
    return value


def _protocols(value: Any) -> Tuple[Any, ...]:
    entries = value if isinstance(value, list) else [value]
    if not entries or not all(isinstance(entry, (str, dict)) and entry for entry in entries):
        raise ValueError
    return tuple(entries)


NAME = Kind("a name of letters, digits and . _ + = - that can be a folder", _folder_name)
PROTOCOLS = Kind("the name of a protocol, a mapping with name and sources, or a list of these", _protocols)


def read_protocols(scene: Section, given: Tuple[Any, ...]) -> Tuple[BenchProtocol, ...]:
    """The protocols of a scene; none where something is wrong, which is noted.

    Args:
        scene: section of the scene.
        given: what `PROTOCOLS` has taken: names, and mappings {name: ..., sources: {views: [...]}}.
    """
    found: List[Optional[BenchProtocol]] = []
    for number, entry in enumerate(given):
        key = f"protocol[{number}]" if len(given) > 1 else "protocol"
        try:
            found.append(find_protocol(entry) if isinstance(entry, str) else _own(scene, key, entry))
        except ValueError as error:
            scene.note(key, str(error))
            found.append(None)
    protocols = [protocol for protocol in found if protocol is not None]
    if len(protocols) < len(found):
        return ()
    problem = _clash(protocols)
    if problem:
        scene.note("protocol", problem)
        return ()
    return tuple(protocols)


def _own(scene: Section, key: str, entry: Dict[str, Any]) -> Optional[BenchProtocol]:
    """A protocol of one's own source views.

    Raises:
        ValueError: a value makes no sense.
    """
    section = Section(scene.where(key), entry, scene.problems)
    name = section.take("name", NAME)
    sources = take_section(section, "sources", scene.problems)
    section.finish()
    known = ", ".join(OWN_SOURCES)
    if sources is None:
        raise ValueError(f"expected sources, a mapping with one of {known}, found none")
    if len(sources.value) != 1 or next(iter(sources.value)) not in OWN_SOURCES:
        raise ValueError(f"expected sources with one of {known}, found {shown(sources.value)}")
    ((kind, value),) = sources.value.items()
    return None if name is None else own_sources(name, kind, flag_words(value if isinstance(value, list) else [value]))


def _clash(protocols: List[BenchProtocol]) -> str:
    """Why these cannot be evaluations of one training; '' where they can."""
    if len(protocols) == 1:
        return ""
    alone = [protocol.name for protocol in protocols if not protocol.across]
    if alone:
        return f"several are for training across scenes only, found {alone[0]!r}; give each protocol a scene of its own"
    names = [protocol.name for protocol in protocols]
    if len(set(names)) < len(names):
        return f"expected different protocols, found {names}"
    named = [protocol for protocol in protocols if protocol.parser is not None]
    if len({(protocol.parser, protocol.flags, protocol.overrides) for protocol in named}) > 1:
        return f"expected protocols of the same data, found {names}; give each a scene of its own"
    return ""
