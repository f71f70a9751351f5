"""Turns a command's parameter that is a dataclass into options, one for each of its fields."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter
from typing import Any, get_type_hints


def flatten(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command as Typer shall see it; a default that a field lacks is required of the user."""
    parameters: list[Parameter] = []
    grouped: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(kind := parameter.annotation):
            parameters.append(parameter)
            continue
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
            )
        grouped[name] = kind, [field.name for field in fields(kind)]

    @functools.wraps(command)
    def flat(**values: Any) -> Any:
        for name, (kind, names) in grouped.items():
            values[name] = kind(**{field: values.pop(field) for field in names})
        return command(**values)

    own = [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    flat.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
    return flat
