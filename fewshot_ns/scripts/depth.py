"""`ns-fewshot depth`: depth maps of a scene's training views, by a monocular network or from the photos themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, Literal, Optional, Sequence, Tuple

import tyro

from fewshot_ns.utils.processes import CommandError

if TYPE_CHECKING:
    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
    from fewshot_ns.data.depth.map_folder import MapFolder
    from fewshot_ns.data.depth_calibration.alignment import Alignment
    from fewshot_ns.data.records.photo_name import PhotoName
    from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig

_WRITER = "ns-fewshot depth"


@dataclass
class DepthCommand:
    """Compute depth maps of a scene's training views: by a monocular network, with metric scale if asked for, or, of
    known scale, from the photos themselves.

    The dataparser and its flags come last: ns-fewshot depth --data DIR llff-data --num-views 6.
    """

    data: Path
    """Folder of the scene."""
    dataparser: tyro.conf.Positional[str] = "auto"
    """Name of the dataparser, before its own flags; auto goes by the scene's files."""
    source: Literal["mono", "stereo", "mvs"] = "mono"
    """mono: a monocular network; stereo: the photos, matched with each other, which gives depth of known scale where
    another photo confirms it; mvs: the same by a network."""
    fill: Literal["none", "mono"] = "none"
    """stereo, mvs: mono fills what is not confirmed with the monocular network's depth, fitted to the rest."""
    max_side: Optional[int] = None
    """stereo, mvs: longest side of the photos that are matched, pixels; None: as in training."""
    model: str = "Intel/dpt-hybrid-midas"
    """Id on the Hugging Face hub, or a folder with config.json and weights."""
    weights: Optional[Path] = None
    """Folder of the model, of --source mvs the file of its weights; None looks in FEWSHOT_WEIGHTS, of a monocular
    network then in the hub's cache, and then downloads."""
    maps: Optional[Path] = None
    """Folder of monocular maps to use instead of a network's, named like the images (or NAME_depth, depth_NAME); of
    images of one name in several folders by their paths."""
    polarity: Optional[Literal["inverse_depth", "distance"]] = None
    """What the network or the maps give (larger = nearer: inverse_depth); None goes by the kind of network or file."""
    batch_size: int = 4
    """Images at once."""
    device: str = "auto"
    """Where the network runs: auto (a GPU where there is one), cpu, cuda, ..."""
    cache_dir: Optional[Path] = None
    """Folder of computed maps; None takes FEWSHOT_CACHE, else the user's cache folder."""
    align: Literal["none", "colmap", "sensor", "near-far"] = "none"
    """What gives the maps their scale and shift: COLMAP's points, the scene's own sensor depth, or the nearest and
    farthest depth of the scene (rough); none: maps that only say what is nearer."""
    colmap_dir: Optional[Path] = None
    """Folder of points3D.bin (and images.bin, cameras.bin); None looks in sparse/0, colmap/sparse/0 and the like."""
    near_far: Optional[Tuple[float, float]] = None
    """Nearest and farthest planar depth for --align near-far, units of the scene's files; None: what the scene says."""
    composite: bool = False
    """Keep the sensor's depth where it is valid, the aligned map elsewhere (needs --align sensor or colmap)."""
    sensor_error: float = 0.01
    """Standard deviation of sensor depth, as a fraction of depth."""
    min_points: int = 20
    """Fewest points with known depth that an alignment may rest on."""
    min_inliers: float = 0.5
    """Fewest inliers of an alignment, as a fraction of its points."""
    min_correlation: float = 0.5
    """Lowest correlation of an alignment over its inliers."""
    output: Optional[Path] = None
    """Folder of the maps; None: depth_maps in the scene, where dataparsers look."""
    overwrite: bool = False
    """Whether maps may replace those that something else wrote."""
    dataparser_arguments: tyro.conf.Suppress[Tuple[str, ...]] = ()
    """The dataparser's flags, set by `ns-fewshot`."""

    def main(self) -> None:
        """Computes and writes the maps.

        Raises:
            FileNotFoundError: the scene, the model or the points are not there.
            ValueError: the flags or the scene do not allow it.
            CommandError: no map fits, or photos from which no depth can be found.
        """
        from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
        from fewshot_ns.data.depth.map_folder import MapFolder
        from fewshot_ns.data.depth.maps import read_depth_map
        from fewshot_ns.data.depth_calibration.scale import AlignmentLimits, write_aligned_maps, write_map
        from fewshot_ns.data.files.photo_files import folder_of_maps
        from fewshot_ns.data.records.metadata import DepthEncoding
        from fewshot_ns.pretrained.monocular_depth import monocular_depths
        from fewshot_ns.pretrained.weights import ways_out
        from fewshot_ns.scripts.scenes import scene_config

        if self.composite and self.align not in ("sensor", "colmap"):
            raise ValueError("--composite needs maps of known scale: --align sensor, or --align colmap")
        if self.source == "mono" and self.fill != "none":
            raise ValueError("--fill mono is for --source stereo and mvs; of --source mono --composite fills holes")
        if self.source != "mono" and (self.align != "none" or self.maps is not None):
            raise ValueError(f"--align and --maps are for --source mono; --source {self.source} gives known scale")
        parser = scene_config(self.data, self.dataparser, self.dataparser_arguments).setup()
        # Maps of an earlier call, for other views, are no reason to stop.
        parser.look_for_depths = self.composite or self.align == "sensor"
        dataset = FewShotDataset(parser.get_dataparser_outputs("train"))
        scene = self.data.parent if self.data.suffix == ".json" else self.data
        target = self.output or scene / "depth_maps"
        sensor_files = dataset.fewshot.depth_prior_filenames
        sensor = folder_of_maps(sensor_files[0], dataset.image_filenames[0]) if sensor_files else None
        if parser.look_for_depths and sensor is not None and sensor.resolve() == target.resolve():
            raise ValueError(f"{target}: the scene's own depth lies there; give another --output")
        names = [f"{photo.stem}.npz" for photo in dataset.photos]
        folder = MapFolder.prepare(target, names, _WRITER, self.overwrite)
        if self.source != "mono":
            self._from_photos(dataset, folder, names)
            return
        if self.maps is None:
            network = self._network(self.weights)
            background = dataset.fewshot.geometry.background
            ways = "--source stereo (the photos themselves, no network); --maps DIR (maps of another program)"
            with ways_out(ways):
                depths = monocular_depths(network, dataset.image_filenames, background, "--weights")
            files, known, origin = depths.files, depths.encoding.polarity, self.model
        else:
            files, known, origin = _maps_on_disk(self.maps, dataset.photos), self.polarity, self.maps.name
        priors = [read_depth_map(path, known, dataset.size_of(position)) for position, path in enumerate(files)]
        polarity = priors[0].polarity
        if self.align == "none":
            with folder.new_maps() as new:
                for name, prior in zip(names, priors, strict=True):
                    write_map(new / name, depth=prior.values)
                gone = folder.finish(new, DepthEncoding(polarity), names, model=origin)
        else:
            values = [prior.values for prior in priors]
            lines = self._alignments(dataset, values, polarity, scene)
            limits = AlignmentLimits(self.min_points, self.min_inliers, self.min_correlation)
            with folder.new_maps() as new:
                rows = write_aligned_maps(dataset, values, lines, new, limits, self.composite, self.sensor_error)
                self._say_fits(rows, origin)
                encoding = DepthEncoding("distance", "z_depth", unit=1.0)
                written = [name for name, row in zip(names, rows, strict=True) if row["written"]]
                gone = folder.finish(new, encoding, written, model=origin, align=self.align, views=rows)
        _say_what_lies_there(folder, len(priors), gone)

    def _say_fits(self, rows: List[Dict[str, Any]], origin: str) -> None:
        """Tells how the maps fit.

        Raises:
            CommandError: none does.
        """
        from rich.console import Console

        console = Console()
        console.print(_table(rows, self.align))
        for row in rows:
            if row["problem"]:
                # With --composite the sensor's depth may be enough for a map.
                fate = "the aligned map is left out, the sensor's depth stays" if row["written"] else "dropped"
                console.print(f"[yellow]{row['view']}: {fate}, {row['problem']}[/yellow]", soft_wrap=True)
        if not any(row["written"] for row in rows):
            raise CommandError(f"no map of {origin} fits to {self.align} in {self.data}; nothing was written")

    def _network(self, weights: Optional[Path]) -> MonocularDepthConfig:
        from fewshot_ns.pretrained.monocular_depth import MonocularDepthConfig

        return MonocularDepthConfig(
            self.model, weights, True, self.polarity, self.batch_size, self.device, self.cache_dir
        )

    def _from_photos(self, dataset: FewShotDataset, folder: MapFolder, names: List[str]) -> None:
        """Maps from the photos themselves."""
        from dataclasses import replace

        from rich.console import Console

        from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
        from fewshot_ns.data.stereo.seed_points import reliable_range
        from fewshot_ns.pretrained.monocular_depth import monocular_depths
        from fewshot_ns.pretrained.weights import ways_out
        from fewshot_ns.priors.depth.bounds import bounds_in_photos, guessed
        from fewshot_ns.priors.depth.photo_depths import filled_by_maps, photo_depths, write_photo_depths
        from fewshot_ns.priors.depth.sources import warn_of_few
        from fewshot_ns.scripts.scenes import photo_config
        from fewshot_ns.utils.configs import FieldError

        config = photo_config("mvs" if self.source == "mvs" else "stereo", self.weights, self.device)
        if self.max_side is not None:
            config = replace(config, max_side=self.max_side)
        try:
            config.check()
        except FieldError as error:
            # Of these fields the command has one flag.
            raise ValueError(error.of_flag("--")) from error
        matching = config, "--weights", self.cache_dir, FlatRegionConfig()
        guess = guessed(dataset)
        with ways_out("--source stereo (the photos themselves, no network)"):
            bounds = bounds_in_photos(dataset, *matching) if guess else None
            if bounds is not None:
                dataset = dataset.with_bounds(*bounds, "photos")
            depths = photo_depths(dataset, *matching)
        if max(depths.valid) == 0:
            raise CommandError(
                f"{self.data}: in none of {', '.join(depths.names)} another photo confirms any depth; the poses may be "
                "wrong, or the views do not overlap. Nothing was written"
            )
        if self.fill == "mono":
            dataset.use_depth_maps(depths.files, depths.encoding)
            background = dataset.fewshot.geometry.background
            with ways_out("--fill none (what the photos do not confirm stays unknown)"):
                maps = monocular_depths(self._network(None), dataset.image_filenames, background, "--model")
            depths = filled_by_maps(dataset, depths, maps.files, maps.encoding, self.model, self.cache_dir)
        with folder.new_maps() as new:
            rows = write_photo_depths(depths, new, dataset.world_scale)
            gone = folder.finish(new, depths.encoding, names, source=depths.source, views=rows)
        console = Console()
        console.print(_photo_table(rows, depths.source))
        for problem in depths.problems:
            console.print(f"[yellow]{problem}; its holes stay[/yellow]", soft_wrap=True)
        room = "What the photos confirm lies, with some room, within this planar depth"
        geometry, advice = dataset.fewshot.geometry, None
        if bounds is not None:
            advice = (
                f"{room}: --near {bounds[0]:g} --far {bounds[1]:g}. Training that finds depth in the photos takes "
                "these by itself; give them where it reads these maps, or has no depth prior"
            )
        elif geometry.ray_space == "metric" and geometry.origin_plane_z is None and not guess:
            found = reliable_range([depths.view_depth(view) for view in range(len(rows))])
            if found is not None:
                now = f"(now {geometry.near:.3g} and {geometry.far:.3g})"
                advice = f"{room}: --near {found[0]:.3g} --far {found[1]:.3g} {now}"
        if advice is not None:
            console.print(advice, highlight=False, soft_wrap=True)
        warn_of_few(depths)
        _say_what_lies_there(folder, len(rows), gone)

    def _alignments(self, dataset: FewShotDataset, values: List[Any], polarity: Any, scene: Path) -> List[Alignment]:
        """One line per training view."""
        from fewshot_ns.data.depth_calibration import scale as depth_scale

        if self.align == "colmap":
            return depth_scale.to_colmap(dataset, values, polarity, scene, self.colmap_dir)
        if self.align == "sensor":
            return depth_scale.to_sensor(dataset, values, polarity)
        return depth_scale.to_bounds(dataset, values, polarity, self.near_far)


def _maps_on_disk(folder: Path, photos: Sequence[PhotoName]) -> List[Path]:
    """Maps of the photos in a folder.

    Raises:
        FileNotFoundError: a photo has none.
        ValueError: a map may be of several photos.
    """
    from fewshot_ns.data.depth.maps import depth_maps_of_photos, usual_names

    candidates = depth_maps_of_photos(folder, photos, lambda stem: (*usual_names(stem), f"{stem}_depth"))
    found = candidates.check("depth map (--maps)")
    for photo, path in zip(photos, found, strict=True):
        if path is None:
            raise FileNotFoundError(f"{folder}: expected the depth map of {photo.name} (--maps), found none")
    return [path for path in found if path is not None]


def _say_what_lies_there(folder: MapFolder, count: int, gone: FrozenSet[str]) -> None:
    """The last lines of the command."""
    from rich.console import Console

    console = Console()
    if gone:
        removed = f"removed {', '.join(sorted(gone))}: maps of an earlier call that the new note does not cover"
        console.print(f"{folder.path}: {removed}", highlight=False, soft_wrap=True)
    if folder.others:
        stay = (
            f"{', '.join(sorted(folder.others))} are of another origin, and the note of the new maps is about them too"
        )
        console.print(f"[yellow]{folder.path}: {stay}[/yellow]", highlight=False, soft_wrap=True)
    console.print(f"{folder.path}: maps of {count} training views", highlight=False, soft_wrap=True)


def _table(rows: List[Dict[str, Any]], source: str) -> Any:
    from rich.table import Table

    table = Table(title=f"monocular depth aligned to {source}")
    names = ("view", "points", "inliers", "residual", "correlation", "scale", "shift")
    for name in names:
        table.add_column(name, justify="left" if name == "view" else "right")
    for row in rows:
        cells = []
        for name in names:
            value = row[name]
            if value is None:
                cells.append("-")
            elif name in ("view", "points"):
                cells.append(str(value))
            else:
                cells.append(f"{value:.1%}" if name in ("inliers", "residual") else f"{value:.4g}")
        table.add_row(*cells, style="yellow" if row["problem"] else None)
    return table


def _photo_table(rows: List[Dict[str, Any]], source: str) -> Any:
    from rich.table import Table

    table = Table(title=f"depth from the photos: {source}")
    table.add_column("view")
    for name in ("valid", "median sigma / depth"):
        table.add_column(name, justify="right")
    for row in rows:
        sigma = row["relative_sigma"]
        table.add_row(row["view"], f"{row['valid']:.1%}", "-" if sigma is None else f"{sigma:.2%}")
    return table
