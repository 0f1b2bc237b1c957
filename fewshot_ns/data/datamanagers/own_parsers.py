"""What a datamanager's config does for a dataparser that recognises formats: its flags, and its replacement."""

from __future__ import annotations

import copy
from dataclasses import field, make_dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

import tyro
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig

from fewshot_ns.data.dataparsers.automatic import CONFIGS, FewShotAutoDataParserConfig
from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.utils.configs import SavedConfig

_OURS = FewShotDataParserConfig, MultiSceneDataParserConfig, FewShotAutoDataParserConfig
_CLASSES: Dict[Tuple[type, str], type] = {}
"""Subclasses that were made, by their base and the settings that they are for."""


class OwnParsers(SavedConfig):
    """Mixin of datamanager configs, whose field `dataparser` may be a `FewShotAutoDataParserConfig`.

    A method may have settings for single formats, and they hold for a dataparser that is named on the command line as
    well as for one that is recognised. tyro takes the defaults of a named one from the type of the field alone. So a
    config with such settings is of a subclass whose field has that type. Nothing else tells the two apart: they have
    the same name, by which a saved config is found.
    """

    def __post_init__(self) -> None:
        self.follow_parser()

    def __setstate__(self, saved: Mapping[str, Any]) -> None:
        super().__setstate__(saved)
        self.follow_parser()

    def follow_parser(self) -> None:
        """Takes the class that goes with the dataparser of today."""
        base = next(kind for kind in type(self).__mro__ if not getattr(kind, "for_own_parsers", False))
        parser = vars(self)["dataparser"]  # an annotation here would hide the field's type from tyro
        if isinstance(parser, _OURS) and parser.camera_sized_files:
            # This package's datasets read photos of any size, and resize them in floating point.
            parser = vars(self)["dataparser"] = replace(parser, camera_sized_files=False)
        own = parser.own if isinstance(parser, FewShotAutoDataParserConfig) else ()
        self.__class__ = _subclass(base, own) if own else base  # type: ignore[assignment]


def _subclass(base: type, own: Tuple[DataParserConfig, ...]) -> type:
    """A subclass of a datamanager's config, in whose command line some dataparsers begin with given configs."""
    key = base, repr(own)
    if key not in _CLASSES:
        from nerfstudio.configs.dataparser_configs import all_dataparsers

        names = {kind: name for name, kind in CONFIGS.items()}
        registered = {**all_dataparsers, **{names[type(config)]: copy.deepcopy(config) for config in own}}
        union = tyro.extras.subcommand_type_from_defaults(registered, prefix_names=False)
        annotated: Any = tyro.conf.OmitSubcommandPrefixes[union]  # type: ignore[valid-type]
        made = make_dataclass(
            base.__name__,
            [("dataparser", annotated, field(default_factory=FewShotAutoDataParserConfig))],
            bases=(base,),
            namespace={
                "__qualname__": base.__qualname__,
                "__doc__": base.__doc__,
                "for_own_parsers": True,
            },
        )
        # From Python 3.12 on make_dataclass itself says that it is of the module that calls it.
        made.__module__ = base.__module__
        _CLASSES[key] = made
    return _CLASSES[key]


def settle_dataparser(manager: Any) -> None:
    """Puts the dataparser of the recognised format in the place of the one that recognises, in a datamanager's config.

    Args:
        manager: Config of a datamanager of any kind; changed in place where its dataparser is to be recognised.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: no format fits, or it has no such flag.
    """
    parser = getattr(manager, "dataparser", None)
    if isinstance(parser, FewShotAutoDataParserConfig):
        if manager.data is not None:
            # nerfstudio hands --data ahead of the parser to the datamanager alone.
            parser.data = Path(manager.data)
        manager.dataparser = parser.settled()
    if isinstance(manager, OwnParsers):
        manager.follow_parser()
