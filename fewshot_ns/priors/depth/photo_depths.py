"""Depth of known scale from the training photos themselves, computed once and kept in a cache.

A cache entry is named by everything that it depends on: the content of all photos and masks of the split, their cameras
and ranges, the config, and the version of the computation. So it is never stale, and can be shared.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt
import torch
from nerfstudio.cameras.cameras import CameraType

from fewshot_ns.cameras.lenses import lens_of
from fewshot_ns.cameras.poses import intrinsic_fractions
from fewshot_ns.data.datasets.fewshot_dataset import FewShotDataset
from fewshot_ns.data.depth.encoding import to_z_depth
from fewshot_ns.data.depth.maps import read_depth_map
from fewshot_ns.data.depth.metric import SIGMA_KEY
from fewshot_ns.data.depth_calibration.alignment import Alignment
from fewshot_ns.data.depth_calibration.fusion import fuse
from fewshot_ns.data.depth_calibration.scale import AlignmentLimits, to_sensor, write_map
from fewshot_ns.data.files.depth_formats import NPZ_KEY, resolve_polarity
from fewshot_ns.data.files.images import image_size, same_aspect
from fewshot_ns.data.records.metadata import DepthEncoding
from fewshot_ns.data.stereo.estimate import VERSION as STEREO_VERSION
from fewshot_ns.data.stereo.estimate import StereoConfig, StereoError, narrowed_views, stereo_depths
from fewshot_ns.data.stereo.flat_regions import FlatRegionConfig, fill_flat_regions
from fewshot_ns.data.stereo.lens import as_photographed, straightened
from fewshot_ns.data.stereo.scene import planar_ranges, stereo_views
from fewshot_ns.data.stereo.views import ViewDepth
from fewshot_ns.pretrained.itermvs.weights import find_itermvs
from fewshot_ns.pretrained.multiview_depth import VERSION as MVS_VERSION
from fewshot_ns.pretrained.multiview_depth import MultiViewDepthConfig, multiview_depths
from fewshot_ns.utils.arrays import read_arrays
from fewshot_ns.utils.cache import cache_folder, read_npz, write_npz
from fewshot_ns.utils.hashing import file_hash, json_hash

PhotoConfig = Union[StereoConfig, MultiViewDepthConfig]
FORMAT_VERSION = 3
"""Version of what is stored here; a new one makes all entries stale."""
ENCODING = DepthEncoding("distance", "z_depth", unit=1.0, may_be_empty=True)
"""Meaning of the maps: planar depth in world units."""
FILL_LIMITS = AlignmentLimits(min_points=20, min_inliers=0.5, min_correlation=0.5)
"""What the line of a monocular map has to fulfil to fill holes, as in `ns-fewshot depth`."""
_KEY_ARRAY, _PROBLEM_ARRAY = "key", "problem"
_NOT_DECIDING = ("device", "weights")
"""Fields of configs that say where something runs or lies, not what it computes."""


@dataclass(frozen=True)
class PhotoDepths:
    """Depth maps of the views of a split, from its photos."""

    source: str
    """What they come from, in words: 'stereo', 'mvs', ..."""
    files: Tuple[Path, ...]
    """One .npz per view, in the cache: `depth` (H, W) float32 planar, in world units, 0 where nothing is known, and
    `sigma` (H, W) float32, its standard deviation."""
    encoding: DepthEncoding
    """What their numbers mean."""
    names: Tuple[str, ...]
    """Names of the photos, which tell them apart in the scene."""
    stems: Tuple[str, ...]
    """Names of their maps, without suffix."""
    valid: Tuple[float, ...]
    """Share of each view's pixels whose depth is known."""
    relative_sigma: Tuple[Optional[float], ...]
    """Median standard deviation of each view, as a fraction of depth; None where nothing is known."""
    problems: Tuple[str, ...] = ()
    """Views whose holes were not filled, and why."""

    def view_depth(self, view: int) -> ViewDepth:
        """Depth of a view as tensors on the CPU, at the size of its map."""
        names = (NPZ_KEY, SIGMA_KEY)
        arrays = read_arrays(self.files[view], "depth of a view as this run has kept it", names)
        z_depth, sigma = (torch.from_numpy(arrays[name]) for name in names)
        return ViewDepth(z_depth, sigma, z_depth > 0)

    def shares(self) -> str:
        """How much of each view is known, in words."""
        return ", ".join(f"{name} {share:.0%}" for name, share in zip(self.names, self.valid, strict=True))


def photo_depths(
    dataset: FewShotDataset,
    config: PhotoConfig,
    flag: str,
    cache_dir: Optional[Path] = None,
    flat_regions: Optional[FlatRegionConfig] = None,
) -> PhotoDepths:
    """Depth maps of a split's views from each other, computed where the cache has none.

    Args:
        dataset: the views.
        config: how they are matched: by hand-made costs (`stereo`), or by a network (`mvs`).
        flag: command line flag of the network's weights, for the error message.
        cache_dir: folder of computed maps; None: FEWSHOT_CACHE, else the user's cache folder.
        flat_regions: planes for what has one colour; None: none.

    Raises:
        StereoError: fewer than two views, cameras that are no perspective cameras, or views that nothing can be found
            from.
        WeightsNotFoundError: the weights of the network were not found.
        FileNotFoundError: a photo is missing.
        FieldError: a field out of its range.
        ValueError: a damaged photo.
    """
    dataset = dataset.as_photographed()
    _check_views(dataset)
    config.check()
    if flat_regions is not None and flat_regions.enabled:
        flat_regions.check()
    scene = _scene_key(dataset, config, flag, flat_regions)
    folder = cache_folder("stereo", cache_dir)
    keys = [json_hash([scene, view]) for view in range(len(dataset))]
    files = tuple(folder / key[:2] / f"{key}.npz" for key in keys)
    entries = [_whole(path, key, photo) for path, key, photo in zip(files, keys, dataset.image_filenames, strict=True)]
    if any(entry is None for entry in entries):
        entries = [
            _arrays(depth, key) for depth, key in zip(_matched(dataset, config, flag, flat_regions), keys, strict=True)
        ]
        for path, arrays in zip(files, entries, strict=True):
            write_npz(path, arrays, compressed=True)
    source = "stereo" if isinstance(config, StereoConfig) else "mvs"
    return _record(source, dataset, files, [entry for entry in entries if entry is not None])


def filled_by_maps(
    dataset: FewShotDataset,
    depths: PhotoDepths,
    maps: Sequence[Path],
    encoding: DepthEncoding,
    origin: str,
    cache_dir: Optional[Path] = None,
) -> PhotoDepths:
    """The same maps at the size of the cameras, their holes filled by others of unknown scale and shift, where such a
    map fits to what is known in its view.

    Args:
        dataset: the views, which use `depths`.
        depths: maps with holes.
        maps: one for each view, of a monocular network say.
        encoding: what their numbers mean.
        origin: where they come from, in words.
        cache_dir: as of `photo_depths`.

    Raises:
        FileNotFoundError: a map is missing.
        ValueError: a damaged map, or one of which it is not known whether larger values are nearer.
    """
    dataset = dataset.as_photographed()
    polarity = resolve_polarity(maps[0], encoding.polarity)
    sizes = [dataset.size_of(view) for view in range(len(maps))]
    read = [read_depth_map(path, polarity, size, encoding) for path, size in zip(maps, sizes, strict=True)]
    # Zero is what a monocular map cannot say, and lies on no line.
    values = [np.where(one.valid, one.values, np.float32(np.nan)) for one in read]
    if polarity == "distance":
        norms = [dataset.metric_depth(view).norms for view in range(len(maps))]
        values = [to_z_depth(value, encoding.meaning, norm) for value, norm in zip(values, norms, strict=True)]
    keys = [
        json_hash([FORMAT_VERSION, known.stem, file_hash(path), polarity, asdict(encoding), size, asdict(FILL_LIMITS)])
        for known, path, size in zip(depths.files, maps, sizes, strict=True)
    ]
    folder = cache_folder("stereo", cache_dir)
    files = tuple(folder / key[:2] / f"{key}.npz" for key in keys)
    entries = [_whole(path, key, photo) for path, key, photo in zip(files, keys, dataset.image_filenames, strict=True)]
    if any(entry is None for entry in entries):
        lines = to_sensor(dataset, values, polarity)
        entries = [_filled(dataset, view, values[view], lines[view], keys[view]) for view in range(len(dataset))]
        for path, arrays in zip(files, entries, strict=True):
            write_npz(path, arrays, compressed=True)
    whole = [entry for entry in entries if entry is not None]
    problems = [str(entry[_PROBLEM_ARRAY]) for entry in whole]
    named = tuple(f"{name}: {text}" for name, text in zip(depths.names, problems, strict=True) if text)
    return replace(_record(f"{depths.source}, filled by {origin}", dataset, files, whole), problems=named)


def write_photo_depths(depths: PhotoDepths, folder: Path, world_scale: float) -> List[Dict[str, Any]]:
    """Writes maps under the names of the photos, in units of the scene's files, also those of views without any depth.

    Args:
        depths: the maps.
        folder: where to write.
        world_scale: units of the world per unit of the scene's files.

    Returns:
        A row per view: `view`, `valid` (share of pixels), `relative_sigma`.
    """
    rows = []
    columns = zip(depths.names, depths.stems, depths.valid, depths.relative_sigma, strict=True)
    for view, (name, stem, valid, sigma) in enumerate(columns):
        depth = depths.view_depth(view)
        arrays = {NPZ_KEY: depth.z_depth.numpy() / world_scale, SIGMA_KEY: depth.sigma.numpy() / world_scale}
        write_map(folder / f"{stem}.npz", **arrays)
        rows.append({"view": name, "valid": round(valid, 4), "relative_sigma": sigma})
    return rows


def _filled(
    dataset: FewShotDataset, view: int, values: npt.NDArray[np.float32], line: Alignment, key: str
) -> Dict[str, Any]:
    limits = FILL_LIMITS
    problem = line.misfit(limits.min_points, limits.min_inliers, limits.min_correlation)
    fused = fuse(values, None if problem else line, dataset.metric_depth(view))
    # A network sees something behind the scene too.
    shown = dataset.photo_at(view, dataset.size_of(view))[1].numpy()
    depth, sigma = np.where(shown, fused.z_depth, 0.0), np.where(shown, fused.sigma, 0.0)
    arrays = {NPZ_KEY: depth.astype(np.float32), SIGMA_KEY: sigma.astype(np.float32)}
    return {**arrays, _KEY_ARRAY: key, _PROBLEM_ARRAY: problem}


def _check_views(dataset: FewShotDataset) -> None:
    names = ", ".join(photo.name for photo in dataset.photos)
    if len(dataset) < 2:
        raise StereoError(f"expected at least two photos to find depth from, found {names or 'none'}")
    if bool((dataset.cameras.camera_type != CameraType.PERSPECTIVE.value).any()):
        raise StereoError(
            f"{dataset.image_filenames[0].parent}: expected photos of perspective cameras to find depth from, found "
            "another camera model; undistort the photos"
        )


def _matched(
    dataset: FewShotDataset, config: PhotoConfig, flag: str, flat_regions: Optional[FlatRegionConfig]
) -> List[ViewDepth]:
    """Depth of each view from the others, of photos as a pinhole camera would have taken them."""
    photos = stereo_views(dataset, config.max_side)
    lenses = [lens_of(dataset.cameras, view) for view in range(len(photos))]
    views = [photo if lens is None else straightened(photo, lens) for photo, lens in zip(photos, lenses, strict=True)]
    if isinstance(config, StereoConfig):
        found = stereo_depths(config, views)
    else:
        # The network tells few depths apart, so it has to know where the scene lies.
        found = multiview_depths(config, narrowed_views(StereoConfig(device=config.device), views), flag)
    if flat_regions is not None and flat_regions.enabled:
        found = fill_flat_regions(flat_regions, views, found)
    return [
        depth if lens is None else as_photographed(depth, photo, lens)
        for depth, photo, lens in zip(found, photos, lenses, strict=True)
    ]


def _scene_key(
    dataset: FewShotDataset, config: PhotoConfig, flag: str, flat_regions: Optional[FlatRegionConfig]
) -> str:
    """Hash of all that the maps depend on but for the index of the view."""
    cameras, masks = dataset.cameras, dataset._dataparser_outputs.mask_filenames
    alphas = dataset.fewshot.alpha_filenames
    if isinstance(config, StereoConfig):
        by: Tuple[Any, ...] = ("stereo", STEREO_VERSION)
    else:
        by = ("mvs", STEREO_VERSION, MVS_VERSION, file_hash(find_itermvs(config.weights, flag)))
    lenses = [lens_of(dataset.cameras, view) for view in range(len(dataset))]
    # Of a smaller camera the fractions differ by rounding, and the photos that are matched do not.
    fractions = np.round(intrinsic_fractions(cameras), 6).tolist()
    ranges = [[f"{bound:.5g}" for bound in pair] for pair in planar_ranges(dataset)]
    views = [
        [
            file_hash(photo),
            None if masks is None else file_hash(masks[view]),
            *(() if alphas is None else (file_hash(alphas[view]),)),
            cameras.camera_to_worlds[view].cpu().float().tolist(),
            fractions[view],
            None if lens is None else lens.tolist(),
            ranges[view],
        ]
        for view, (photo, lens) in enumerate(zip(dataset.image_filenames, lenses, strict=True))
    ]
    fields = {name: value for name, value in asdict(config).items() if name not in _NOT_DECIDING}
    planes = asdict(flat_regions) if flat_regions is not None and flat_regions.enabled else None
    record = dataset.fewshot
    return json_hash([FORMAT_VERSION, *by, fields, planes, record.geometry.background, record.resize, views])


def _arrays(depth: ViewDepth, key: str) -> Dict[str, Any]:
    z_depth, sigma = depth.z_depth.cpu().numpy(), depth.sigma.cpu().numpy()
    valid = depth.valid.cpu().numpy() & np.isfinite(z_depth) & (z_depth > 0) & np.isfinite(sigma) & (sigma > 0)
    arrays = {name: np.where(valid, values, 0.0) for name, values in ((NPZ_KEY, z_depth), (SIGMA_KEY, sigma))}
    stored = {name: values.astype(np.float32) for name, values in arrays.items()}
    return {**stored, _KEY_ARRAY: key, _PROBLEM_ARRAY: ""}


def _whole(path: Path, key: str, photo: Path) -> Optional[Dict[str, Any]]:
    """A view's entry of the cache: undamaged, with the right key and proportions; else None."""
    entry = read_npz(path, NPZ_KEY, SIGMA_KEY, _KEY_ARRAY, _PROBLEM_ARRAY)
    if entry is None or str(entry[_KEY_ARRAY]) != key:
        return None
    depth, sigma = entry[NPZ_KEY], entry[SIGMA_KEY]
    if depth.ndim != 2 or sigma.shape != depth.shape:
        return None
    if not same_aspect((depth.shape[0], depth.shape[1]), image_size(photo)):
        return None
    whole = (
        np.isfinite(depth).all() and (depth >= 0).all() and np.isfinite(sigma).all() and (sigma[depth > 0] > 0).all()
    )
    return entry if whole else None


def _record(
    source: str, dataset: FewShotDataset, files: Tuple[Path, ...], entries: Sequence[Dict[str, Any]]
) -> PhotoDepths:
    shares: List[float] = []
    sigmas: List[Optional[float]] = []
    for entry in entries:
        known = entry[NPZ_KEY] > 0
        shares.append(float(known.mean()))
        relative = entry[SIGMA_KEY][known] / entry[NPZ_KEY][known]
        sigmas.append(float(np.median(relative)) if len(relative) else None)
    names, stems = tuple(photo.name for photo in dataset.photos), tuple(photo.stem for photo in dataset.photos)
    return PhotoDepths(source, files, ENCODING, names, stems, tuple(shares), tuple(sigmas))
