"""The address of a tab in Label Studio's Data Manager; tests/e2e opens one."""

from __future__ import annotations

import base64
import json
import zlib
from urllib.parse import parse_qs, urlsplit

from services.core.labelstudio.tabs import annotations_url


def test_a_tab_has_one_filter_for_all_annotations() -> None:
    url = annotations_url("https://labels.test/studio/", 7, "Suspect labels", [12, 3, 12])
    assert url.startswith("https://labels.test/studio/projects/7/data?tab=")
    (name,) = parse_qs(urlsplit(url).query)["tab"]
    tab = json.loads(zlib.decompress(base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))))
    assert tab["title"] == "Suspect labels"
    (only,) = tab["filters"]["items"]
    assert (only["filter"], only["value"]) == ("filter:tasks:annotations_ids", "3,12")


def test_an_address_of_200_annotations_stays_short() -> None:
    ids = [10_000_000 + 7919 * number % 1_000_003 for number in range(200)]
    assert len(annotations_url("http://localhost:8080", 1, "Suspect labels", ids)) < 2000
