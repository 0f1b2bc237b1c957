"""What a line of a ledger has to be, as a pydantic model."""

from __future__ import annotations

from typing import Dict, List, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter
from typing_extensions import Annotated

from fewshot_ns.evaluation.records.row_keys import ROW_KEYS
from fewshot_ns.utils.record_files import RecordError, check_record, parse_json
from fewshot_ns.utils.shown_values import shown

Index = Annotated[int, Field(ge=0, lt=2**63)]


class RowInFile(BaseModel):
    """A line of a ledger; what it does not name is a metric, null where it could not be measured."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())
    __pydantic_extra__: Dict[str, Optional[FiniteFloat]]

    file_name: str
    view_index: Index
    split_index: Index
    step: Annotated[int, Field(ge=-1, lt=2**63)]
    num_rays_per_sec: Optional[FiniteFloat]
    measured_on: Optional[str] = None
    scene: Optional[str] = None
    category: str = ""
    sources: List[int] = []


_ROW = TypeAdapter(RowInFile)


def parse_row(line: Union[str, bytes]) -> RowInFile:
    """The row of a line.

    Raises:
        RecordError: the line is none; the message names the entry and not the file.
    """
    try:
        values = parse_json(line)
    except RecordError as error:
        raise RecordError(f"expected a JSON object, found {shown(line)} ({error})") from error
    if not isinstance(values, dict) or not set(ROW_KEYS) <= set(values):
        raise RecordError(f"expected an object with {', '.join(ROW_KEYS)}, found {shown(line)}")
    return check_record(values, _ROW)
