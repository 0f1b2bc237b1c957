"""The JSON file of a camera path, as nerfstudio's viewer and `ns-fewshot camera-path` write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter
from typing_extensions import Annotated

from fewshot_ns.utils.record_files import RecordError, check_record, parse_json
from fewshot_ns.utils.shown_values import shown

_Pixels = Annotated[int, Field(ge=1, le=2**16)]
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Frame(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")
    camera_to_world: Annotated[List[FiniteFloat], Field(min_length=16, max_length=16)]
    fov: Annotated[float, Field(gt=0, lt=180)]
    aspect: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Path(BaseModel):
    """What a render needs of the file."""

    model_config = ConfigDict(strict=True, extra="allow")
    camera_path: List[_Frame]
    render_height: _Pixels
    render_width: _Pixels
    camera_type: Optional[str] = None
    seconds: Optional[_Seconds] = None
    fps: Optional[_Seconds] = None


_PATH = TypeAdapter(_Path)


def read_camera_path(path: Path) -> Dict[str, Any]:
    """Reads the JSON of a camera path.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no camera path, or one of a camera that is not a pinhole camera.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the JSON of a camera path, found no such file")
    try:
        content = parse_json(path.read_bytes())
    except RecordError as error:
        raise ValueError(f"{path}: expected JSON, found something else ({error})") from error
    required = {"camera_path", "render_height", "render_width"}
    missing = required - set(content) if isinstance(content, dict) else required
    if missing or not content["camera_path"]:
        lack = f"no {', '.join(sorted(missing))}" if missing else "a path without frames"
        raise ValueError(f"{path}: expected the JSON of a camera path, found {lack}")
    if content.get("camera_type", "perspective") != "perspective":
        raise ValueError(f"{path}: expected camera_type perspective, found {shown(content['camera_type'])}")
    try:
        check_record(content, _PATH)
    except RecordError as error:
        raise ValueError(f"{path}: expected the JSON of a camera path; {error}") from error
    return content
