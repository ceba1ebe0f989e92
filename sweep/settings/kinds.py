"""The kinds of values that settings have, each with the words that a person is told where one is not of its kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from sweep.places import TRACKING, TRACKING_WORDS
from wae_core.checks import POSITIVE, WORD, whole_number
from wae_core.domains import LARGEST_COUNT, LARGEST_NUMBER, LARGEST_SEED, SMALLEST_FACTOR, SMALLEST_NUMBER
from wae_core.names import DEVICES, NAME, Device
from wae_core.run import ALGORITHMS

SMALLEST_SHARE = 1e-4  # of a device; Ray counts in such parts


def strict(group: str = "") -> ConfigDict:
    """Return pydantic's configuration of settings: nothing is converted but whole numbers to floats.

    Args:
        group: what stands before the fields' names in their keys: the "cluster" of cluster.workers.
    """
    return ConfigDict(strict=True, title=f"{group}.")


def sentence(error: ValidationError) -> str:
    """Return the first mistake as one sentence: KEY is VALUE, but it is what is allowed."""
    first = error.errors(include_url=False)[0]
    if "error" in first.get("ctx", {}):  # raised by a check of several fields, which names them itself
        return str(first["ctx"]["error"])
    field = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    return f"{(error.title + field).strip('.')} is {first['input']!r}, but it is {first['msg']}"


def _allowed(what: str) -> WrapValidator:
    """Say `what` is allowed in the place of pydantic's own message."""

    def check(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        try:
            return validate(value)
        except ValidationError as error:
            raise PydanticCustomError("not_allowed", "{what}", {"what": what}) from error

    return WrapValidator(check)


def _whole_or_fraction(value: float) -> float:
    if value != 0 and not (SMALLEST_SHARE <= value < 1) and value != int(value):
        raise ValueError
    return value


Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT), _allowed(whole_number(1))]
Natural = Annotated[int, Field(ge=0, le=LARGEST_COUNT), _allowed(whole_number(0))]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED), _allowed(whole_number(0, LARGEST_SEED))]
Share = Annotated[
    float,
    Field(ge=0, le=LARGEST_COUNT),
    AfterValidator(_whole_or_fraction),
    _allowed(f"{whole_number(0)}, or a fraction from 0.0001 to 1, e.g. 0.25 where four share one"),
]
Budget = Annotated[int, _allowed("a whole number of models per algorithm")]
Positive = Annotated[float, Field(ge=SMALLEST_NUMBER, le=LARGEST_NUMBER), _allowed(POSITIVE)]
Reduction = Annotated[
    float,
    Field(ge=SMALLEST_FACTOR, le=LARGEST_NUMBER),
    _allowed(f"a number above 1 (from {SMALLEST_FACTOR} to {LARGEST_NUMBER:g}), e.g. 3"),
]
Quantile = Annotated[
    float,
    Field(ge=0, le=1),
    _allowed("null for the mean, or a number in [0, 1]: at least 0 (the best seed), at most 1 (the worst)"),
]
Switch = Annotated[bool, _allowed("true or false")]
Text = Annotated[str, Field(min_length=1), _allowed("a text")]
Name = Annotated[str, Field(pattern=f"^{NAME.pattern}$"), _allowed(WORD)]
Algorithm = Annotated[str, Field(pattern=f"^({'|'.join(ALGORITHMS)})$"), _allowed(f"one of {', '.join(ALGORITHMS)}")]
Executor = Literal["ray", "inprocess"]
ExecutorName = Annotated[Executor, _allowed(f"one of {', '.join(get_args(Executor))}")]
DeviceName = Annotated[Device, _allowed(f"one of {', '.join(DEVICES)}")]
TrackingUri = Annotated[
    str,
    Field(pattern=TRACKING),
    _allowed(TRACKING_WORDS),
]
