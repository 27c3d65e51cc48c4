"""The control that an experiment of Chaos Toolkit names: its drill begins before the first probe, and always ends.

A control that raises anything but chaostoolkit-lib's own `InterruptExecution` is passed over in silence, so a drill
that is refused raises that one. Chaos Toolkit is no dependency of ours: the exception is looked up when it is needed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from string import Template
from typing import Any

from kms_chaos import ctk
from kms_chaos.cued import CuedError
from kms_chaos.drill import DrillError
from kms_core.errors import ConfigurationError
from kms_watchdog.config import ConfigError


def before_experiment_control(
    context: Mapping[str, Any], configuration: Mapping[str, Any] | None = None, **_: Any
) -> None:
    """Start the drill that the experiment's own `inject` describes.

    Raises:
        chaoslib.exceptions.InterruptExecution: it was refused, or its steady state does not hold; nothing was broken.
    """
    try:
        arguments = _arguments(context, configuration or {})
        ctk.begin(
            str(arguments["fault"]),
            str(arguments["region"]),
            parameters=arguments.get("parameters"),
            extension=_extension(context),
            title=str(context.get("title", "")),
            why=str(context.get("description", "")),
            reason=str(arguments.get("reason") or ""),
            approval=str(arguments.get("approval") or ""),
            configuration=configuration,
        )
    except (CuedError, DrillError, ConfigError, ConfigurationError, KeyError, OSError) as e:
        raise _interruption(f"kms-chaos: {e}") from e


def after_experiment_control(
    context: Mapping[str, Any],  # noqa: ARG001 - Chaos Toolkit passes it by name
    state: dict[str, Any] | None = None,
    **_: Any,
) -> None:
    """End the drill, and put its verdict into the experiment's journal as `x-kms-drill`."""
    try:
        told = ctk.end()
    except CuedError as e:
        told = {"schema": 1, "error": str(e)}
    if state is not None and told is not None:
        state[ctk.EXTENSION] = told


def _arguments(experiment: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the experiment calls `inject` with.

    Raises:
        DrillError: it does not, or more than once: a drill is one fault, or one of ours by name.
    """
    found = [_filled(provider.get("arguments", {}), configuration) for provider in _injections(experiment)]
    if len(found) != 1:
        raise DrillError(f"an experiment calls {ctk.__name__}.inject once, this one {len(found)} times")
    if missing := {"fault", "region"} - found[0].keys():
        raise DrillError(f"inject needs {min(missing)}")
    return found[0]


def _injections(experiment: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for activity in experiment.get("method", ()):
        provider = activity.get("provider", {})
        if provider.get("module") == ctk.__name__ and provider.get("func") == "inject":
            yield provider


def _filled(arguments: Mapping[str, Any], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with `${name}` replaced by what the experiment's configuration says."""
    return {
        name: Template(value).safe_substitute(configuration) if isinstance(value, str) else value
        for name, value in arguments.items()
    }


def _extension(experiment: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in experiment.get("extensions", ()) if one.get("name") == ctk.EXTENSION), {})


def _interruption(why: str) -> Exception:
    """Return the one exception that stops Chaos Toolkit before it does anything."""
    try:
        raising: Exception = importlib.import_module("chaoslib.exceptions").InterruptExecution(why)
    except ImportError:
        return RuntimeError(why)
    return raising
