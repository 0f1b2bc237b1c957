"""Records of runs in JSON, read as what they have to be: one error that names the file and the entry, or the values.

JSON has no NaN and no infinity, though Python reads and writes them; here they are refused.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, TypeVar, Union

from fewshot_ns.utils.shown_values import shown

# Every command of nerfstudio imports this module, and only some records need pydantic, which is slow to import.
if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Record = TypeVar("Record")
_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
_PROBLEMS = 3
"""Most problems that a message names."""
_WORDS = {
    "missing": "expected a value, found none",
    "extra_forbidden": "expected no such entry, found {found}",
    "finite_number": "expected a finite number, found {found}",
}


class RecordError(ValueError):
    """A record is not what it has to be."""


def parse_json(text: Union[str, bytes]) -> Any:
    """The value of a JSON text.

    Raises:
        RecordError: it is no JSON, or holds NaN or an infinite number; the message does not name the file.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf8")
        values = json.loads(text, object_pairs_hook=_object, parse_constant=_no_number, parse_float=_finite)
        if _HALF_CHARACTER.search(text):
            json.dumps(values, ensure_ascii=False).encode("utf8")
        return values
    except RecordError:
        raise
    except UnicodeDecodeError as error:
        raise RecordError(f"expected text in UTF-8, found another byte at {error.start}") from error
    except UnicodeEncodeError as error:
        raise RecordError("expected text that can be written again, found half a character") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RecordError(f"expected JSON, found {shown(error.doc[error.pos : error.pos + 61])} at {where}") from error
    except RecursionError as error:
        raise RecordError("expected a record, found lists or objects within each other without end") from error
    except ValueError as error:
        raise RecordError(f"expected JSON, found another ({shown(str(error), 100)})") from error


def check_record(values: Any, kind: TypeAdapter[Record]) -> Record:
    """Values of a JSON file as what they have to be.

    Args:
        values: from `parse_json`.
        kind: what it has to be.

    Raises:
        RecordError: it is something else; the message names the entries, and not the file.
    """
    from pydantic import ValidationError

    try:
        return kind.validate_python(values)
    except ValidationError as error:
        raise RecordError(_problems(error)) from error


def read_record_file(path: Path, kind: TypeAdapter[Record], what: str) -> Record:
    """Reads a JSON file.

    Args:
        path: the file.
        kind: what it has to hold.
        what: the same in words, as 'the plan of a benchmark'.

    Raises:
        FileNotFoundError: there is no such file.
        RecordError: it holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected {what} (JSON), found no such file")
    try:
        return check_record(parse_json(path.read_bytes()), kind)
    except RecordError as error:
        raise RecordError(f"{path}: expected {what} (JSON); {error}") from error


def _problems(error: ValidationError) -> str:
    found: List[str] = []
    for entry in error.errors(include_url=False):
        words = _WORDS.get(entry["type"])
        said = entry["msg"].replace("Input should be", "expected").replace("Value error, ", "")
        text = words.format(found=shown(entry["input"])) if words else f"{said}, found {shown(entry['input'])}"
        place = _place(entry["loc"])
        found.append(f"{place}: {text}" if place else text)
    more = len(found) - _PROBLEMS
    return "; ".join([*found[:_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _place(parts: Sequence[Union[int, str]]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else (f".{part[:60]}" if text else part[:60])
    return text


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RecordError(f"expected each entry once, found {shown(twice)} more than once")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise RecordError(f"expected finite numbers, found {shown(text)}")
    return value


def _no_number(text: str) -> float:
    raise RecordError(f"expected valid JSON, found {text}, which is no number there")


def recorded(path: Path, name: str) -> Optional[str]:
    """The text under a name in the JSON object of a file; None where the file is not whole, or has none."""
    try:
        values = parse_json(path.read_bytes())
    except (OSError, RecordError):
        return None
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, str) else None
