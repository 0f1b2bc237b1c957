"""What the JSON files of a benchmark have to be: plan, records of cells, averages and results files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, model_validator
from typing_extensions import Annotated

from fewshot_ns.bench.execution.records import FAILED, FINISHED, INTERRUPTED, RECORD, STARTED
from fewshot_ns.utils.record_files import read_record_file

NOT_RUN = "not run"
STATUS_WORDS = (FINISHED, FAILED, STARTED, INTERRUPTED, NOT_RUN)
"""How far a cell may be."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\0" in path:
        raise ValueError("expected a path below the folder of the benchmark")
    return path


def _known_status(word: str) -> str:
    if word not in STATUS_WORDS:
        raise ValueError(f"expected one of {', '.join(STATUS_WORDS)}")
    return word


Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[List[Count], Field(min_length=2, max_length=2)]
Inside = Annotated[str, AfterValidator(_inside)]
StatusWord = Annotated[str, AfterValidator(_known_status)]
Number = Union[Annotated[int, Field(ge=-(2**63), lt=2**63)], FiniteFloat]
Metrics = Dict[str, Optional[Number]]


class _InFile(BaseModel):
    model_config = ConfigDict(strict=True, protected_namespaces=())


class PlannedCell(_InFile):
    """A cell in the plan of a benchmark."""

    folder: Inside
    scene: str
    folder_name: str
    protocol: str
    method: Inside
    label: str
    seed: int
    as_published: bool
    eval: Optional[Inside] = None
    views: Optional[Inside] = None

    @model_validator(mode="before")
    @classmethod
    def _todays_names(cls, values: Any) -> Any:
        return with_folder_name(values)


class PlanInFile(_InFile):
    """bench.json."""

    name: str
    description: str
    cells: List[PlannedCell]


class _AskedEvaluation(_InFile):
    max_views: Optional[int] = None


class AskedCell(_InFile):
    """What a record says that a cell was asked to do."""

    overrides: List[str]
    scene_overrides: List[str]
    steps: Optional[Count]
    own_length: bool
    test_views: Count
    size: Size
    device: str
    all_test_scenes: Count = 0
    pictured_scene: str = ""
    evaluation: _AskedEvaluation = _AskedEvaluation()


class _RecordKeys(_InFile):
    source: str


class CostInFile(_InFile):
    """What a training cost; all but the GPU's name are numbers."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: Metrics
    gpu_name: Optional[str] = None

    def numbers(self) -> Metrics:
        """The cost without the name."""
        return dict(self.__pydantic_extra__)


class RecordInFile(_InFile):
    """cell.json, as far as reports read it."""

    status: StatusWord
    cell: AskedCell
    keys: _RecordKeys
    error: str = ""
    step: Optional[Annotated[int, Field(ge=-1, lt=2**63)]] = None
    training: Optional[CostInFile] = None
    categories: Dict[str, str] = {}


class _Measured(_InFile):
    size: Size


class AveragesInFile(_InFile):
    """eval.json of one scene, as far as reports read it."""

    views: List[Count]
    evaluation: _Measured


class _CurveInFile(_InFile):
    step: Count
    cpu_seconds: Optional[Number]
    metrics: Dict[str, Number]


class ImageInFile(_InFile):
    """A measured view, or scene, in a results file; the other keys are metrics."""

    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: Metrics
    file_name: str
    view_index: Count
    category: Optional[str] = None


class CellInFile(_InFile):
    """A cell in a results file; `CellResult` says what its fields are."""

    model_config = ConfigDict(extra="forbid", strict=True)
    scene: str
    folder_name: str
    protocol: str
    method: str
    label: str
    seed: int
    as_published: bool
    status: StatusWord
    overrides: List[str]
    scene_overrides: List[str]
    error: str = ""
    steps: Optional[Count] = None
    steps_asked: Optional[Count] = None
    size: Optional[Size]
    test_views: Optional[Count] = None
    metrics: Metrics = {}
    images: List[ImageInFile]
    num_images: Count = 0
    objects: Optional[Count] = None
    test_objects: Optional[Count] = None
    curve: List[_CurveInFile]
    training: Metrics = {}
    own_length: bool = False
    recipe: str = ""
    device: str = ""
    source: str = ""
    gpu_name: str = ""
    initial_points: str = ""

    @model_validator(mode="before")
    @classmethod
    def _todays_names(cls, values: Any) -> Any:
        return with_folder_name(values)


class ResultsInFile(_InFile):
    """results.json."""

    name: str
    description: str
    cells: List[CellInFile]


def with_folder_name(values: Any) -> Any:
    """Fields of a cell by today's names: results of 0.1.0 call the scene's folder its place."""
    if not isinstance(values, dict):
        return values
    return {"folder_name" if name == "place" else name: value for name, value in values.items()}


_PLAN = TypeAdapter(PlanInFile)
_RECORD = TypeAdapter(RecordInFile)
_AVERAGES = TypeAdapter(AveragesInFile)
_RESULTS = TypeAdapter(ResultsInFile)


def read_plan(path: Path) -> PlanInFile:
    """Reads bench.json.

    Raises:
        ValueError: it is no plan of a benchmark.
    """
    return read_record_file(path, _PLAN, "the plan of a benchmark")


def read_cell_record(folder: Path) -> Optional[RecordInFile]:
    """Reads the record of a cell; None where it has none.

    Raises:
        ValueError: it is no such record.
    """
    path = folder / RECORD
    return read_record_file(path, _RECORD, "the record of a cell of a benchmark") if path.is_file() else None


def read_averages(path: Path) -> AveragesInFile:
    """Reads the JSON file of an evaluation of one scene.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no such file.
    """
    return read_record_file(path, _AVERAGES, "the averages of an evaluation")


def read_results_file(path: Path) -> ResultsInFile:
    """Reads results.json.

    Raises:
        ValueError: it is no results file.
    """
    return read_record_file(path, _RESULTS, "the results of a benchmark")
