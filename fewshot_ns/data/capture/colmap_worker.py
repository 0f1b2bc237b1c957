"""COLMAP in a process of its own: `python -m fewshot_ns.data.capture.colmap_worker JOB.json`.

pycolmap brings its own copies of common libraries, which do not always live in peace with those of this process, and a
fault in it, or a Ctrl-C, must cost no more than the job. Nothing else of the package is imported here.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List

STEP = "STEP "
"""What a line of progress begins with."""
PAIR_BASE = 2147483647
"""A pair of images has the number first * base + second, with first < second."""
FLAT = (4, 5, 6)
"""COLMAP's planar, panoramic, and planar or panoramic: one homography explains the matches as well as two places do."""


def main(job_file: str) -> None:
    """Runs a job: {"kind": "register" | "undistort", ...}; writes `answer` of the job as JSON."""
    # Image libraries first: loaded after pycolmap they may find its symbols instead of their own, and abort.
    import numpy  # noqa: F401
    import PIL.Image  # noqa: F401
    import pycolmap

    job = json.loads(Path(job_file).read_text("utf8"))
    pycolmap.logging.minloglevel = 2
    answer = _register(pycolmap, job) if job["kind"] == "register" else _undistort(pycolmap, job)
    Path(job["answer"]).write_text(json.dumps(answer), "utf8")


def _say(text: str) -> None:
    print(STEP + text, flush=True)


def _register(pycolmap: Any, job: Dict[str, Any]) -> Dict[str, Any]:
    database, images, output = Path(job["database"]), Path(job["images"]), Path(job["output"])
    pycolmap.set_random_seed(job["seed"])
    if not job["matched"]:
        database.unlink(missing_ok=True)
        for number, group in enumerate(job["groups"], start=1):
            _say(f"finding features ({number} of {len(job['groups'])} cameras)")
            _extract(pycolmap, database, images, group, job)
        _say(f"matching all pairs of {sum(len(group['names']) for group in job['groups'])} photos")
        _match(pycolmap, database, job)
        Path(job["matched_note"]).write_text(job["key"], "utf8")
    _say("registering photos")
    output.mkdir(parents=True, exist_ok=True)
    models = pycolmap.incremental_mapping(
        str(database), str(images), str(output), options=_mapping_options(pycolmap, job)
    )
    answer: Dict[str, Any] = {"version": pycolmap.__version__, "models": [], **_matches(database)}
    for number in sorted(models):
        folder = output / f"model-{number}"
        folder.mkdir(exist_ok=True)
        models[number].write(str(folder))
        answer["models"].append(str(folder))
    return answer


def _extract(pycolmap: Any, database: Path, images: Path, group: Dict[str, Any], job: Dict[str, Any]) -> None:
    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = group["model"]
    reader.camera_params = group["params"]
    common = {"camera_mode": pycolmap.CameraMode.SINGLE, "reader_options": reader, "device": pycolmap.Device.cpu}
    signature = pycolmap.extract_features.__doc__ or ""
    # Renamed in 3.12.
    common["image_names" if "image_names:" in signature else "image_list"] = group["names"]
    if "camera_model:" in signature:
        # Up to 3.13 an argument of its own, whose default replaces what the reader's options say.
        common["camera_model"] = group["model"]
    if hasattr(pycolmap, "FeatureExtractionOptions"):
        options = pycolmap.FeatureExtractionOptions()
        options.sift.peak_threshold = job["peak_threshold"]
        options.max_image_size = job["max_side"]
        options.num_threads = job["threads"]
        pycolmap.extract_features(str(database), str(images), extraction_options=options, **common)
    else:
        # Before COLMAP 3.13 the options of features were those of SIFT.
        options = pycolmap.SiftExtractionOptions()
        options.peak_threshold = job["peak_threshold"]
        options.max_image_size = job["max_side"]
        options.num_threads = job["threads"]
        pycolmap.extract_features(str(database), str(images), sift_options=options, **common)


def _match(pycolmap: Any, database: Path, job: Dict[str, Any]) -> None:
    verification = pycolmap.TwoViewGeometryOptions()
    verification.min_num_inliers = job["min_inliers"]
    common = {"verification_options": verification, "device": pycolmap.Device.cpu}
    if hasattr(pycolmap, "FeatureMatchingOptions"):
        options = pycolmap.FeatureMatchingOptions()
        options.guided_matching = job["guided"]
        pycolmap.match_exhaustive(str(database), matching_options=options, **common)
    else:
        options = pycolmap.SiftMatchingOptions()
        options.guided_matching = job["guided"]
        pycolmap.match_exhaustive(str(database), sift_options=options, **common)


def _mapping_options(pycolmap: Any, job: Dict[str, Any]) -> Any:
    options = pycolmap.IncrementalPipelineOptions()
    options.min_model_size = 2
    options.multiple_models = False
    options.num_threads = job["threads"]
    options.ba_refine_focal_length = job["refine_focal"]
    options.ba_refine_extra_params = job["refine_distortion"]
    options.mapper.init_min_num_inliers = job["init_inliers"]
    options.mapper.init_min_tri_angle = job["init_angle"]
    options.mapper.abs_pose_min_num_inliers = job["min_inliers"]
    options.mapper.abs_pose_refine_focal_length = job["refine_focal"]
    options.mapper.abs_pose_refine_extra_params = job["refine_distortion"]
    # Two photos are all that may see a point here.
    options.triangulation.ignore_two_view_tracks = False
    if hasattr(options, "random_seed"):
        options.random_seed = job["seed"]
    return options


def _matches(database: Path) -> Dict[str, Any]:
    """Features of each image and verified matches of each pair, from COLMAP's tables, which no version has changed."""
    opened = sqlite3.connect(database)
    try:
        images = dict(opened.execute("SELECT image_id, name FROM images").fetchall())
        features = dict(opened.execute("SELECT image_id, rows FROM keypoints").fetchall())
        geometries = opened.execute("SELECT pair_id, rows, config FROM two_view_geometries").fetchall()
    finally:
        opened.close()
    verified = {number: (rows, config) for number, rows, config in geometries}
    pairs: List[Dict[str, Any]] = []
    numbers = sorted(images)
    for position, first in enumerate(numbers):
        for second in numbers[position + 1 :]:
            count, config = verified.get(first * PAIR_BASE + second, (0, 0))
            pairs.append({"photos": [images[first], images[second]], "matches": count, "flat": config in FLAT})
    return {"features": {name: features.get(number, 0) for number, name in images.items()}, "pairs": pairs}


def _undistort(pycolmap: Any, job: Dict[str, Any]) -> Dict[str, Any]:
    _say("straightening photos")
    pycolmap.undistort_images(job["output"], job["model"], job["images"], output_type="COLMAP")
    return {}


def _end_with_the_command() -> None:
    """Ends this process when its standard input does, which the command that has started it holds open until it ends
    itself, by a kill -9 too: two workers on one database would disturb each other."""
    # Not through sys.stdin, whose lock Python asks for when it ends.
    while os.read(0, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    main(sys.argv[1])
