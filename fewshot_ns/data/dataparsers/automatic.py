"""The dataparser that methods begin with: it finds out which one a folder asks for, and is replaced by that one."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Dict, Literal, Mapping, Optional, Tuple, Type, TypeVar

from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig
from nerfstudio.utils.rich_utils import CONSOLE
from tyro.conf import Fixed, Suppress

from fewshot_ns.data.dataparsers.multi.base import MultiSceneDataParserConfig
from fewshot_ns.data.dataparsers.multi.dvr_dtu import DVRDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.multi_object import MultiObjectDataParserConfig
from fewshot_ns.data.dataparsers.multi.mvsnet_dtu import MVSNetDTUDataParserConfig
from fewshot_ns.data.dataparsers.multi.nmr import NMRDataParserConfig
from fewshot_ns.data.dataparsers.multi.scene_folders import SceneFolderDataParserConfig
from fewshot_ns.data.dataparsers.multi.srn import SRNDataParserConfig
from fewshot_ns.data.dataparsers.recognition import Recognition, recognise
from fewshot_ns.data.dataparsers.single.base import FewShotDataParserConfig
from fewshot_ns.data.dataparsers.single.blender import FewShotBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.colmap import FewShotColmapDataParserConfig
from fewshot_ns.data.dataparsers.single.dtu import DTUDataParserConfig
from fewshot_ns.data.dataparsers.single.idr import IDRDataParserConfig
from fewshot_ns.data.dataparsers.single.llff import LLFFDataParserConfig
from fewshot_ns.data.dataparsers.single.multiscale_blender import MultiscaleBlenderDataParserConfig
from fewshot_ns.data.dataparsers.single.nerfstudio import FewShotNerfstudioDataParserConfig
from fewshot_ns.data.dataparsers.single.rgbd import RGBDDataParserConfig

CONFIGS: Mapping[str, Type[DataParserConfig]] = {
    "llff-data": LLFFDataParserConfig,
    "dtu-data": DTUDataParserConfig,
    "fewshot-blender-data": FewShotBlenderDataParserConfig,
    "multiscale-blender-data": MultiscaleBlenderDataParserConfig,
    "rgbd-data": RGBDDataParserConfig,
    "fewshot-nerfstudio-data": FewShotNerfstudioDataParserConfig,
    "fewshot-colmap-data": FewShotColmapDataParserConfig,
    "idr-data": IDRDataParserConfig,
    "srn-data": SRNDataParserConfig,
    "nmr-data": NMRDataParserConfig,
    "dvr-dtu-data": DVRDTUDataParserConfig,
    "multi-object-data": MultiObjectDataParserConfig,
    "mvsnet-dtu-data": MVSNetDTUDataParserConfig,
    "scene-folder-data": SceneFolderDataParserConfig,
}
"""Configs of the dataparsers that are recognised, by name."""
Settled = TypeVar("Settled", bound=DataParserConfig)


@dataclass
class FewShotAutoDataParserConfig(DataParserConfig):
    """The dataparser that the files of --data ask for. Flags that are given here go to it; None leaves them to the
    format and the method."""

    _target: Type = field(default_factory=lambda: DataParser)
    """Not built: see `setup`."""
    data: Path = Path()
    """Folder of the scene or of the data set, or a transforms.json."""
    downscale_factor: Optional[int] = None
    """By how much to divide both sides of the images as they are on disk (rounded down)."""
    num_views: Optional[int] = None
    """Number of training views, chosen by the published protocol of the dataset; 0 takes its whole training pool, the
    number of all views every one."""
    train_indices: Optional[Tuple[int, ...]] = None
    """Training views by their index in the scene, instead of the protocol's."""
    test_indices: Optional[Tuple[int, ...]] = None
    """Test views by their index in the scene, instead of the protocol's; none: nothing is held out."""
    depth_dir: Optional[Path] = None
    """Folder of depth maps named like the images (or with depth_ before the name)."""
    depth_polarity: Optional[Literal["inverse_depth", "distance"]] = None
    """inverse_depth: larger is nearer; distance: larger is farther."""
    depth_meaning: Optional[Literal["z_depth", "ray_distance"]] = None
    """z_depth: along the viewing axis; ray_distance: from the camera's centre."""
    depth_unit: Optional[float] = None
    """Length of a stored unit of depth in units of the scene's own files."""
    max_depth: Optional[float] = None
    """Depth above this is invalid."""
    training_mask_dir: Optional[Path] = None
    """Folder of masks named like the photos, in the scene or elsewhere: only where they are white a photo trains."""
    resize: Optional[Literal["bilinear", "area"]] = None
    """How images are brought to the downscaled size: box average, or bilinear without smoothing."""
    near: Optional[float] = None
    """First ray parameter sampled."""
    far: Optional[float] = None
    """Last ray parameter sampled."""
    background: Optional[Literal["black", "white"]] = None
    """What lies behind the scene, and under transparent pixels."""
    on_missing: Optional[Literal["skip", "stop"]] = None
    """Of frames whose photo is missing and photos that no frame names: skip, and say how many, or stop; of formats
    whose files list the photos."""
    allow_outside: Optional[bool] = None
    """Whether files that the scene's files name may lie outside of its folder; of formats whose files name others."""
    scene: Optional[str] = None
    """Of many scenes: the one that the viewer and ns-render see, by its name."""
    categories: Optional[Tuple[str, ...]] = None
    """Of many scenes: only those of these categories."""
    image_size: Optional[Tuple[int, int]] = None
    """Of many scenes: height and width that images are brought to."""
    own: Suppress[Fixed[Tuple[DataParserConfig, ...]]] = ()
    """Configs that a method has for formats, in the place of their defaults."""
    many_scenes: Suppress[bool] = False
    """Whether data sets of many scenes count, which generalizable methods train on."""
    camera_sized_files: Suppress[bool] = False
    """Whether photos, masks and depth are handed over as files of the cameras' size, which the datasets of nerfstudio's
    own methods need; set where dataparsers are registered with it, taken back by methods that read them as they are."""

    def setup(self, **kwargs: Any) -> Any:
        """The parser of the format that `data` has."""
        return self.settled().setup(**kwargs)

    def settled(self) -> DataParserConfig:
        """Config of the format that `data` has, with the method's settings and the flags given here.

        Raises:
            FileNotFoundError: nothing is there.
            ValueError: no format fits, or it has no such flag.
        """
        found = recognise(self.data, self.many_scenes)
        CONSOLE.print(f"{self.data}: recognised as {found.in_words}", highlight=False, soft_wrap=True)
        return self._with_flags(self._config_of(found), found)

    def settings_for(self, kind: Type[Settled]) -> Optional[Settled]:
        """The method's own config of a format; None where it has the format's defaults."""
        return next((config for config in self.own if type(config) is kind), None)

    def _config_of(self, found: Recognition) -> DataParserConfig:
        kind = CONFIGS[found.parser]
        own = self.settings_for(kind)
        changes: Dict[str, Any] = {
            "data": self.data,
            "recognised_by": found.in_words,
            "camera_sized_files": self.camera_sized_files,
            **found.settings,
        }
        if found.of_scenes is not None:
            changes["parser"] = replace(self._config_of(found.of_scenes), data=Path(), recognised_by=None)  # type: ignore[call-arg]
        return replace(kind() if own is None else own, **changes)

    def _with_flags(self, config: DataParserConfig, found: Recognition) -> DataParserConfig:
        shared = {one.name: getattr(self, one.name) for one in fields(self)}
        given = {
            name: value
            for name, value in shared.items()
            if value is not None and name not in ("_target", "data", "own", "many_scenes", "camera_sized_files")
        }
        base = MultiSceneDataParserConfig if isinstance(config, MultiSceneDataParserConfig) else FewShotDataParserConfig
        known = {one.name for one in fields(base)}
        known |= {one.name for one in fields(config) if one.name in ("on_missing", "allow_outside")}
        inner: Dict[str, Any] = {}
        if isinstance(config, SceneFolderDataParserConfig):
            # The scenes have their own background and views.
            of_scenes = {one.name for one in fields(FewShotDataParserConfig)}
            of_scenes |= {one.name for one in fields(config.parser) if one.name == "allow_outside"}
            inner = {name: given.pop(name) for name in list(given) if name in of_scenes - known | {"background"}}
        lacking = [f"--{name.replace('_', '-')}" for name in given if name not in known]
        if lacking:
            raise ValueError(f"{self.data}: {found.parser} has no {', '.join(lacking)} (it was taken by {found.sign})")
        if inner and isinstance(config, SceneFolderDataParserConfig):
            given["parser"] = replace(config.parser, **inner)
        return replace(config, **given)


def recognition_record(parser: Any) -> Dict[str, str]:
    """What a run's record says of a dataparser that was recognised: its name and why; empty where the user named it."""
    if not isinstance(parser, (FewShotDataParserConfig, MultiSceneDataParserConfig)) or parser.recognised_by is None:
        return {}
    return {"scene": parser.recognised_by}
