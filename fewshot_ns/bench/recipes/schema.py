"""The keys of a recipe file as pydantic models, and the JSON schema of them for editors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from typing_extensions import Annotated

from fewshot_ns.bench.recipes.fields import FILE, Flags, FolderName, Names, Seeds, Switch, Text, flag_words
from fewshot_ns.bench.recipes.problems import Expected
from fewshot_ns.bench.recipes.protocols import (
    INDICES,
    NAMES,
    OWN_SOURCES,
    BenchProtocol,
    find_protocol,
    own_sources,
    why_not_together,
)
from fewshot_ns.bench.recipes.recipe import Budget, EvaluationOptions
from fewshot_ns.utils.shown_values import shown


def without_nulls(value: Any) -> Any:
    """A mapping without the keys that have no value, which count as absent; anything else as it is."""
    if not isinstance(value, Mapping):
        return value
    return {key: entry for key, entry in value.items() if entry is not None}


class _Keys(BaseModel):
    """A mapping of the file."""

    model_config = FILE

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: Any) -> Any:
        return without_nulls(value)


def _one_kind(value: Mapping[str, Any]) -> Mapping[str, Any]:
    if len(value) != 1 or next(iter(value)) not in OWN_SOURCES:
        raise ValueError(f"expected sources with one of {', '.join(OWN_SOURCES)}, found {shown(dict(value))}")
    return value


class OwnProtocol(_Keys):
    """A protocol of one's own source views."""

    name: FolderName
    """Name in files and tables."""
    sources: Annotated[
        Dict[str, Any],
        AfterValidator(_one_kind),
        Expected(f"sources, a mapping with one of {', '.join(OWN_SOURCES)}"),
        WithJsonSchema(
            {
                "type": "object",
                "properties": {
                    "views": {"type": "array", "items": {"type": "integer"}},
                    "random": {"type": "integer", "minimum": 1},
                    "nearest": {"type": "integer", "minimum": 1},
                    "viewlist": {"type": "string"},
                },
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
            }
        ),
    ]
    """Which views are source views: `views`, `random`, `nearest` (a number) or `viewlist` (a file of the dataset)."""

    def protocol(self) -> BenchProtocol:
        """What it comes to.

        Raises:
            ValueError: the name is taken, or the value does not fit the kind.
        """
        ((kind, value),) = self.sources.items()
        return own_sources(self.name, kind, flag_words(value if isinstance(value, list) else [value]))


def _protocol(value: Any) -> BenchProtocol:
    if isinstance(value, str):
        return find_protocol(value)
    if isinstance(value, BenchProtocol):
        return value
    if not isinstance(value, Mapping) or not value:
        raise ValueError
    return OwnProtocol.model_validate(value).protocol()


def _together(protocols: Tuple[BenchProtocol, ...]) -> Tuple[BenchProtocol, ...]:
    reason = why_not_together(protocols)
    if reason:
        raise ValueError(reason)
    return protocols


_PROTOCOL_SCHEMA = {
    "anyOf": [{"type": "string", "description": f"One of {NAMES}."}, OwnProtocol.model_json_schema()],
}
Protocols = Annotated[
    Tuple[Annotated[BenchProtocol, PlainValidator(_protocol)], ...],
    Field(min_length=1),
    BeforeValidator(lambda value: value if isinstance(value, list) else [value]),
    AfterValidator(_together),
    WithJsonSchema(
        {"anyOf": [*_PROTOCOL_SCHEMA["anyOf"], {"type": "array", "items": _PROTOCOL_SCHEMA, "minItems": 1}]}
    ),
    Expected("the name of a protocol, a mapping with name and sources, or a list of these", mapping=OwnProtocol),
]


@dataclass(frozen=True)
class FileContext:
    """What the checks of an entry look at beyond the entry. What cannot be read is left out: it is told at its key."""

    says_protocol: bool = False
    """Whether the file has a protocol for all scenes, right or wrong."""
    protocols: Optional[Tuple[BenchProtocol, ...]] = None
    """The protocols for all scenes."""
    flags: Tuple[str, ...] = ()
    """The flags of the dataparser for all scenes."""
    scenes: Tuple[str, ...] = ()
    """Names of the scenes."""
    labels: Tuple[str, ...] = ()
    """Names of the rows of the tables."""

    @classmethod
    def of(cls, values: Any) -> FileContext:
        """What a file's content gives."""
        if not isinstance(values, Mapping):
            return cls()
        return cls(
            says_protocol=values.get("protocol") is not None,
            protocols=_read(Protocols, values.get("protocol"), None),
            flags=_read(Flags, values.get("dataparser"), ()),
            scenes=_names(values.get("scenes"), "name", "path"),
            labels=_names(values.get("methods"), "label", "method"),
        )


def _read(kind: Any, value: Any, default: Any) -> Any:
    if value is None:
        return default
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return default


def _names(entries: Any, key: str, instead: str) -> Tuple[str, ...]:
    """The names of all entries that have one; else the last part of what they are about."""
    found = []
    for entry in entries if isinstance(entries, list) else ():
        values = entry if isinstance(entry, Mapping) else {instead: entry}
        name, about = values.get(key), values.get(instead)
        if isinstance(name, str) or isinstance(about, str):
            found.append(name if isinstance(name, str) else Path(str(about)).name)
    return tuple(found)


class SceneInFile(_Keys):
    """A scene, or a multi-scene dataset; short form: its path."""

    path: Text
    """Folder below the data root."""
    name: Optional[FolderName] = None
    """Name in folders and tables; by default the folder's."""
    protocol: Optional[Protocols] = Field(None, validate_default=True)
    """Which views train and test; by default the protocol at the top of the file."""
    parser: Optional[Text] = Field(None, validate_default=True)
    """Name of the dataparser, where the protocol leaves it open."""
    dataparser: Flags = Field((), validate_default=True)
    """Flags of the dataparser on this scene."""
    overrides: Flags = ()
    """Flags of ns-train that every method gets on this scene."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("protocol")
    @classmethod
    def _inherit(
        cls, value: Optional[Tuple[BenchProtocol, ...]], info: ValidationInfo
    ) -> Optional[Tuple[BenchProtocol, ...]]:
        context = _context(info)
        if value is None and not context.says_protocol:
            raise ValueError(f"expected {NAMES} here or at the top of the file, found nothing")
        return context.protocols if value is None else value

    @field_validator("parser")
    @classmethod
    def _fits_protocol(cls, value: Optional[str], info: ValidationInfo) -> Optional[str]:
        protocol = leading(info.data.get("protocol"))
        if protocol is not None and protocol.parser is None and value is None:
            raise ValueError(
                f"expected the name of a dataparser for the protocol {protocol.name!r}, found nothing",
            )
        if protocol is not None and protocol.parser is not None and value not in (None, protocol.parser):
            raise ValueError(f"the protocol {protocol.name!r} reads scenes with {protocol.parser}, found {value!r}")
        return value

    @field_validator("dataparser")
    @classmethod
    def _names_its_views(cls, value: Tuple[str, ...], info: ValidationInfo) -> Tuple[str, ...]:
        protocol = leading(info.data.get("protocol"))
        if protocol is not None and protocol.name == INDICES:
            words = (*_context(info).flags, *value)
            if not any(word.replace("_", "-") == "--train-indices" for word in words):
                raise ValueError(f"expected train-indices for the protocol {INDICES!r}, found none")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> Dict[str, Any]:
        return _or_text(super().__get_pydantic_json_schema__(core_schema, handler), "Folder below the data root.")


class MethodInFile(_Keys):
    """A row of the tables; short form: the name of a method."""

    method: Text
    """Name of a method, as ns-train knows it."""
    label: Optional[FolderName] = None
    """Name in folders and tables; by default the method's."""
    overrides: Flags = ()
    """Flags of ns-train that make this variant."""
    budget: Annotated[Budget, BeforeValidator(without_nulls)] = Field(default_factory=Budget)
    """How long it trains; by default as the top of the file says."""
    scenes: Optional[Names] = None
    """Names of the scenes that it runs on; by default all."""
    on_scenes: Annotated[
        Dict[str, Flags],
        Expected("a mapping of names of scenes to flags, each a mapping or a list of words"),
    ] = {}
    """Further flags of ns-train on single scenes, by their names: what only this method takes, or gets there."""
    as_published: Optional[Switch] = None
    """Whether published figures of the method are about this variant; by default where it has no overrides."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"method": value} if isinstance(value, str) else value

    @field_validator("scenes")
    @classmethod
    def _are_scenes(cls, value: Optional[Tuple[str, ...]], info: ValidationInfo) -> Optional[Tuple[str, ...]]:
        known = _context(info).scenes
        unknown = [name for name in value or () if name not in known]
        if unknown:
            names = ", ".join(sorted(set(known)))
            raise ValueError(f"expected names of scenes of this recipe ({names}), found {shown(unknown)}")
        return value

    @field_validator("on_scenes")
    @classmethod
    def _runs_there(cls, value: Dict[str, Tuple[str, ...]], info: ValidationInfo) -> Dict[str, Tuple[str, ...]]:
        known = info.data.get("scenes") or _context(info).scenes
        unknown = [name for name in value if name not in known]
        if unknown:
            names = ", ".join(sorted(set(known)))
            raise ValueError(f"expected names of scenes that the row runs on ({names}), found {shown(unknown)}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> Dict[str, Any]:
        return _or_text(super().__get_pydantic_json_schema__(core_schema, handler), "Name of a method.")


class RecipeFile(_Keys):
    """A recipe of `ns-fewshot bench`: which methods are trained on which scenes, and how they are measured."""

    name: Optional[FolderName] = None
    """Name for folders and titles; by default the file's."""
    description: Optional[Text] = None
    """What it is about."""
    protocol: Optional[Protocols] = None
    """Which views train and test, on every scene that names no other protocol."""
    dataparser: Flags = ()
    """Flags of the dataparser on every scene."""
    scenes: Annotated[Tuple[SceneInFile, ...], Field(min_length=1), Expected("a list with at least one entry")]
    """Scenes, or multi-scene datasets."""
    methods: Annotated[Tuple[MethodInFile, ...], Field(min_length=1), Expected("a list with at least one entry")]
    """Rows of the tables."""
    seeds: Seeds = (0,)
    """One training per seed."""
    budget: Annotated[Budget, BeforeValidator(without_nulls)] = Field(default_factory=Budget)
    """How long each method trains; by default as long as it does by itself."""
    evaluation: Annotated[EvaluationOptions, BeforeValidator(without_nulls)] = Field(default_factory=EvaluationOptions)
    """How the test views are measured."""


def leading(protocols: Optional[Tuple[BenchProtocol, ...]]) -> Optional[BenchProtocol]:
    """The protocol that says how the data are read: one's own source views are of the same data as the named ones."""
    if not protocols:
        return None
    return next((protocol for protocol in protocols if protocol.parser is not None), protocols[0])


def _context(info: ValidationInfo) -> FileContext:
    return info.context if isinstance(info.context, FileContext) else FileContext()


def _or_text(schema: Dict[str, Any], description: str) -> Dict[str, Any]:
    return {"anyOf": [{"type": "string", "description": description}, schema]}


def json_schema() -> str:
    """The JSON schema of recipe files, for editors; recipe.schema.json beside the recipes holds it."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **RecipeFile.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
