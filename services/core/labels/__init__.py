"""Label configs, texts and results: what is classified, where its text stands, what an annotation says.

Parsing is label-studio-sdk's LabelInterface, which this package and core.labelstudio alone import.
"""

from services.core.labels.config import label_config_hash, parse_label_space
from services.core.labels.results import is_usable, labels_of, region_of, signature
from services.core.labels.text import text_of

__all__ = [
    "is_usable",
    "label_config_hash",
    "labels_of",
    "parse_label_space",
    "region_of",
    "signature",
    "text_of",
]
