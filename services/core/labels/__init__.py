"""Label configs, the texts of tasks, and the results of annotations.

Configs are parsed as Label Studio's editor parses them; its SDK knows one spelling of attributes only.
"""

from services.core.labels.config import (
    Control,
    UnusableControl,
    label_config_hash,
    list_controls,
    parse_label_space,
)
from services.core.labels.results import build_region, is_usable, parse_answer, parse_labels, signature
from services.core.labels.text import task_text, text_key

__all__ = [
    "Control",
    "UnusableControl",
    "build_region",
    "is_usable",
    "label_config_hash",
    "list_controls",
    "parse_answer",
    "parse_label_space",
    "parse_labels",
    "signature",
    "task_text",
    "text_key",
]
