"""`ns-fewshot inspect`: an HTML page of a scene as training will see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Literal, Optional, Tuple

import tyro

if TYPE_CHECKING:
    import numpy as np

    from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset

_POINTS = 8000


@dataclass
class InspectCommand:
    """Write one interactive HTML page of a scene: cameras of all splits and of the video, views, depth priors.

    The dataparser and its flags come last: ns-fewshot inspect --data DIR dtu-data --depth-polarity distance.
    """

    data: Path
    """Folder of the scene."""
    dataparser: tyro.conf.Positional[str] = "auto"
    """Name of the dataparser, before its own flags; auto: found from the scene's files."""
    output: Path = Path("inspect.html")
    """Page to write; it needs no other file and no network."""
    path: Literal["auto", "none", "llff-spiral", "dtu-spiral", "spheric", "orbit"] = "auto"
    """Video path to draw, as in `ns-fewshot camera-path`."""
    frames: int = 120
    """Frames of the path."""
    radius: float = 4.0
    """spheric: distance from the origin in world units."""
    elevation: float = 36.0
    """spheric: height above the horizon in degrees."""
    colmap_dir: Optional[Path] = None
    """Folder of points3D.bin; None: sparse/0, colmap/sparse/0 and the like; no points where none is found."""
    depth_points: bool = True
    """Whether depth of known scale is drawn as points (hidden until its name in the legend is clicked)."""
    depth_source: Literal["files", "stereo", "mvs", "none"] = "files"
    """Which depth is shown: the scene's own maps, or what the photos say of it, matched by stereo or by a network
    (mvs)."""
    weights: Optional[Path] = None
    """File of the network's weights for --depth-source mvs; None: the folder that FEWSHOT_WEIGHTS names."""
    width: int = 240
    """Width of a view on the page, pixels."""
    dataparser_arguments: tyro.conf.Suppress[Tuple[str, ...]] = ()
    """The dataparser's flags, set by `ns-fewshot`."""

    def main(self) -> None:
        """Writes the page.

        Raises:
            FileNotFoundError: the scene is not there, or lacks an image.
            ValueError: the flags or the scene do not allow it.
        """
        from rich.console import Console

        from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
        from fewshot_ns.presentation.html_page import ReportPage, Section, write_page
        from fewshot_ns.presentation.scene_page import cameras_plot, depth_section, metric_points, views_section
        from fewshot_ns.scripts.scenes import scene_config

        if self.output.suffix != ".html":
            raise ValueError(f"--output {self.output}: expected a file name ending in .html")
        parser = scene_config(self.data, self.dataparser, self.dataparser_arguments).setup()
        parser.look_for_depths = self.depth_source == "files"
        splits = {name: FewShotDataset(parser.get_dataparser_outputs(name)) for name in ("train", "test", "val")}
        if splits["val"].image_filenames == splits["test"].image_filenames:
            del splits["val"]
        if not splits["train"].fewshot.test_indices:
            # They are the training views once more.
            del splits["test"]
        if self.depth_source in ("stereo", "mvs"):
            splits["train"] = self._matched(splits["train"])
        train = splits["train"]
        clouds = []
        for view, index in enumerate(train.fewshot.image_indices if self.depth_points else ()):
            cloud = metric_points(train, view)
            if cloud is not None:
                clouds.append((f"depth of view {index}", *cloud))
        plot = cameras_plot(splits, self._path(train), self._points(train), clouds)
        sections = [
            Section("Scene", _summary(splits)),
            Section("Cameras", ["Drag to turn, scroll to come nearer, click a name to hide or show it."], plots=[plot]),
            depth_section(train),
            views_section(splits, self.width),
        ]
        write_page(ReportPage(f"{parser.scene_name}: {train.fewshot.protocol}", sections), self.output)
        size = self.output.stat().st_size / 1e6
        Console().print(f"{self.output}: {size:.1f} MB, open it in a browser", highlight=False, soft_wrap=True)

    def _matched(self, train: FewShotDataset) -> FewShotDataset:
        """The training views with depth from their photos, and near and far too where nothing states them."""
        from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig
        from fewshot_ns.priors.depth.bounds import bounds_in_photos, guessed
        from fewshot_ns.priors.depth.photo_depths import photo_depths
        from fewshot_ns.priors.depth.sources import report
        from fewshot_ns.scripts.scenes import photo_config

        config = photo_config("mvs" if self.depth_source == "mvs" else "stereo", self.weights)
        matching = config, "--weights", None, FlatRegionConfig()
        bounds = bounds_in_photos(train, *matching) if guessed(train) else None
        if bounds is not None:
            train = train.with_bounds(*bounds, "photos")
        depths = photo_depths(train, *matching)
        report(depths)
        train.use_depth_maps(depths.files, depths.encoding)
        return train

    def _path(self, train: FewShotDataset) -> Optional[np.ndarray]:
        """(F, 3, 4) poses of the video; None where there is none."""
        import numpy as np

        from fewshot_ns.scripts.camera_path import PathOptions, build_camera_path

        if self.path == "none":
            return None
        options = PathOptions(kind=self.path, frames=self.frames, radius=self.radius, elevation=self.elevation)
        try:
            built = build_camera_path(options, train.cameras, train.fewshot)
        except ValueError:
            # auto: the scene has no natural path. A kind that was named has to be possible.
            if self.path != "auto":
                raise
            return None
        return np.array([frame["camera_to_world"] for frame in built["camera_path"]]).reshape(-1, 4, 4)[:, :3]

    def _points(self, train: FewShotDataset) -> Optional[np.ndarray]:
        """(P, 3) sparse points in the scene's world without those far off; None where there are none."""
        import numpy as np

        from fewshot_ns.data.files.colmap import find_colmap

        scene = self.data.parent if self.data.suffix == ".json" else self.data
        try:
            model = find_colmap(scene, self.colmap_dir)
        except FileNotFoundError:
            if self.colmap_dir is not None:
                raise
            return None
        outputs = train._dataparser_outputs
        transform = outputs.dataparser_transform.double().numpy()
        points = outputs.dataparser_scale * (model.positions @ transform[:, :3].T + transform[:, 3])
        # Most reconstructions have a few outliers, beside which the cameras would be a dot.
        low, high = np.quantile(points, (0.01, 0.99), axis=0)
        points = points[((points >= low) & (points <= high)).all(axis=1)]
        return points[:: max(1, len(points) // _POINTS)]


def _summary(splits: Dict[str, FewShotDataset]) -> Tuple[str, ...]:
    record = splits["train"].fewshot
    geometry, height, width = record.geometry, *splits["train"].size_of(0)
    lines = [f"{name}: views {', '.join(map(str, data.fewshot.image_indices))}." for name, data in splits.items()]
    lines += [] if record.test_indices else ["Nothing is held out."]
    lines.append(
        f"{width}x{height} pixels; {geometry.ray_space} rays from near {geometry.near:g} to far {geometry.far:g}, "
        f"{geometry.background} background; {len(record.scene_camera_to_worlds)} views in the scene."
    )
    return tuple(lines)
