"""Label configs, texts and results: what is classified, where its text stands, what an annotation says.

Configs are read as Label Studio's editor reads them; its SDK knows attributes in one spelling alone.
"""

from services.core.labels.config import Control, Refusal, controls_of, label_config_hash, parse_label_space
from services.core.labels.results import answer_of, is_usable, labels_of, region_of, signature
from services.core.labels.text import text_of

__all__ = [
    "Control",
    "Refusal",
    "answer_of",
    "controls_of",
    "is_usable",
    "label_config_hash",
    "labels_of",
    "parse_label_space",
    "region_of",
    "signature",
    "text_of",
]
