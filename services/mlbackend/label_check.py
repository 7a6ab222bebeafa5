"""Checks regions against the label config with the SDK of Label Studio, if the worker's environment has it.

Without it only a region's form is checked. The SDK's own messages are not passed on: they quote what was answered.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.mlbackend.answers import Check

_FIELDS: Final = {"from_name": str, "to_name": str, "type": str, "value": Mapping}
_REASONS: Final = (
    ("not found in configuration", "control"),
    ("is not valid for control", "control"),
    ("does not match expected type", "type"),
)


def region_check(label_config: str) -> Check:
    """Return the check for this label config."""
    interface = _label_interface(label_config)

    def check(region: Mapping[str, Any], result: Sequence[Any]) -> str:
        if any(not isinstance(region.get(name), kind) for name, kind in _FIELDS.items()):
            return "no_region"
        if interface is None or _has_own_labels(interface, region):
            return ""
        context = {"result": list(result), "region": region}
        errors = interface.validate_region(region, return_errors=True, context=context)
        return _reason(errors[0]) if errors else ""

    return check


def _label_interface(label_config: str) -> Any | None:
    try:
        return importlib.import_module("label_studio_sdk.label_interface").LabelInterface(config=label_config)
    except Exception:  # noqa: BLE001  # not installed, or a config that the SDK cannot read: Label Studio decides
        return None


def _has_own_labels(interface: Any, region: Mapping[str, Any]) -> bool:
    """Return whether each task brings its labels (`value="$labels"`), which the SDK cannot know."""
    try:
        control = interface.get_control(region["from_name"])
    except Exception:  # noqa: BLE001  # the SDK raises several kinds; the check itself names the reason
        return False
    return bool(getattr(control, "dynamic_value", False)) and region["to_name"] in control.to_name


def _reason(error: str) -> str:
    return next((reason for part, reason in _REASONS if part in error), "value")
