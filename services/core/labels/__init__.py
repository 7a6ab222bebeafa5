"""Label configs, texts and results: what is classified, where its text stands, what an annotation says.

Configs are read as Label Studio's editor reads them; its SDK knows attributes in one spelling alone.
"""

from services.core.labels.config import (
    Control,
    UnusableControl,
    label_config_hash,
    list_controls,
    parse_label_space,
)
from services.core.labels.results import build_region, is_usable, parse_answer, parse_labels, signature
from services.core.labels.text import task_text

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
]
