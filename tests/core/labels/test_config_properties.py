"""core.labels.config on label configs that nobody wrote: none raises, and what is learnt can be answered."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface
from lxml import etree

from services.core.errors import NoLabelSpace
from services.core.labels import Control, build_region, list_controls, parse_label_space
from tests.core.labels.configs import ROWS

_NAMES = ("t", "u", "c", "d", "Überschrift")
_VALUES = ("A", "B", "$text", "$a.b[0]", "Title: $t", "no variable", "", "счёт", "5 $")
_TAGS = (
    "View",
    "Text",
    "HyperText",
    "Paragraphs",
    "Image",
    "Choices",
    "Choice",
    "Labels",
    "Rating",
    "Repeater",
    "Taxonomy",
    "Collapse",
)
_ATTRIBUTES = {
    "value": _VALUES,
    "alias": ("a", ""),
    "perRegion": ("true", "false"),
    "perItem": ("true", "false"),
    "visibleWhen": ("region-selected", "choice-selected", "no-region-selected"),
    "whenTagName": _NAMES,
    "whenRole": ("user",),
    "choice": ("single", "single-radio", "multiple"),
    "valueType": ("url", "text", "json"),
    "allowNested": ("true", "false"),
    "readOnly": ("true", "false"),
    "on": ("$items",),
    "maxRating": ("3", "0", "x", ""),
    "maxUsages": ("1", "2"),
    "leafsOnly": ("true", "false"),
    "pathSeparator": (" / ", "", "A"),
    "labeling": ("true",),
}  # fmt: skip


@st.composite
def _spelled(draw: st.DrawFn, name: str) -> str:
    return draw(st.sampled_from([name, name.lower(), name.upper()]))


@st.composite
def _tag(draw: st.DrawFn, inside: st.SearchStrategy[str]) -> str:
    tag = draw(st.sampled_from(_TAGS))
    given = draw(st.dictionaries(st.sampled_from(sorted(_ATTRIBUTES)), st.integers(0, 20), max_size=3))
    parts = [
        f'{draw(_spelled(name))}="{_ATTRIBUTES[name][place % len(_ATTRIBUTES[name])]}"'
        for name, place in given.items()
    ]
    if tag not in {"View", "Choice"}:
        parts.append(f'name="{draw(st.sampled_from(_NAMES))}"')
    if tag in {"Choices", "Labels", "Rating", "Taxonomy"}:
        parts.append(f'toName="{draw(st.sampled_from([*_NAMES, "t,u"]))}"')
    return f"<{tag} {' '.join(parts)}>{draw(inside)}</{tag}>"


_TREES = st.recursive(
    st.just(""), lambda inside: st.lists(_tag(inside), max_size=4).map("".join), max_leaves=12
)
_QUESTIONS = (
    '<Choices name="{}" toName="t" {}><Choice value="A" {}/><Choice value="B"/></Choices>',
    '<Rating name="{}" toName="t" {}/>',
    '<Taxonomy name="{}" toName="t" {}><Choice value="A" {}><Choice value="B"/></Choice></Taxonomy>',
)


@st.composite
def _likely(draw: st.DrawFn) -> str:
    """Configs that Label Studio mostly takes: a source of text, controls over it with attributes in some spelling."""

    def attribute() -> str:
        name = draw(st.sampled_from(sorted(_ATTRIBUTES)))
        return f'{draw(_spelled(name))}="{draw(st.sampled_from(_ATTRIBUTES[name]))}"'

    source = draw(st.sampled_from(["Text", "HyperText", "Paragraphs", "Image"]))
    kind = draw(
        st.sampled_from(["", 'valueType="url"', 'VALUETYPE="url"', 'valuetype="URL"', 'encoding="base64"'])
    )
    value = draw(st.sampled_from([value for value in _VALUES if value]))
    object_ = f'<{source} name="t" value="{value}" {kind}/>'
    asked = [
        draw(st.sampled_from(_QUESTIONS)).format(
            name, attribute(), draw(st.sampled_from(["", 'alias="a"', 'Html="$x"']))
        )
        for name in ("c", "d")
    ]
    around = draw(
        st.sampled_from(
            [
                "View",
                'View visibleWhen="region-selected"',
                'Repeater on="$x"',
                "Collapse",
                "View VISIBLEWHEN='choice-selected'",
            ]
        )
    )
    return f"<View>{object_}<{around}>{asked[0]}</{around.split()[0]}>{asked[1]}</View>"


_ANY = st.one_of(
    st.text(),
    _TREES.map(lambda inside: f"<View>{inside}</View>"),
    _likely(),
    st.tuples(st.sampled_from(ROWS), st.integers(0, 200), st.text(max_size=3)).map(
        lambda found: found[0].config[: found[1]] + found[2] + found[0].config[found[1] :]
    ),
)


@settings(max_examples=400, deadline=None)
@given(config=_ANY, control=st.one_of(st.none(), st.sampled_from(_NAMES), st.text()))
def test_no_config_raises_anything_else(config: str, control: str | None) -> None:
    try:
        space = parse_label_space(config, control)
    except NoLabelSpace:
        return
    assert space.labels
    assert len(set(space.labels)) == len(space.labels)
    assert space.paths is None or len(space.paths) == len(space.labels)


@settings(max_examples=400, deadline=None)
@given(config=st.one_of(_likely(), _TREES.map(lambda inside: f"<View>{inside}</View>")))
def test_only_whole_text_questions_are_learnt(config: str) -> None:
    interface = _accepted(config)
    if interface is None:
        return
    for found in list_controls(config):
        if isinstance(found, Control):
            _can_be_answered(config, interface, found)


def _accepted(config: str) -> LabelInterface | None:
    try:
        interface = LabelInterface(config)
        interface.validate()
    except Exception:  # noqa: BLE001  # whatever the SDK raises, Label Studio refuses the config
        return None
    return interface


def _can_be_answered(config: str, interface: LabelInterface, found: Control) -> None:
    """By what the SDK and the XML say, without the code that is tested."""
    root = etree.fromstring(config.encode())
    control, source = (_by_name(root, name) for name in (found.space.from_name, found.space.to_name))
    around = [(element.tag, _lower(element)) for element in (control, *control.iterancestors())]
    assert not any(_lower(control).get(name) == "true" for name in ("perregion", "peritem", "readonly"))
    assert not any(
        actual.get("visiblewhen") == "region-selected" or "whenrole" in actual for _, actual in around
    )
    assert "Repeater" not in {tag for tag, _ in around}
    several = {
        "Choices": _lower(control).get("choice") == "multiple",
        "Taxonomy": _lower(control).get("maxusages") != "1",
    }
    assert found.space.multiple == several.get(found.space.control_tag, False)
    assert "labeling" not in _lower(control) or found.space.control_tag != "Taxonomy"
    assert control.get("toName") == source.get("name")
    assert source.tag in {"Text", "HyperText", "Paragraphs"}
    assert "$" in found.space.text_value
    assert _lower(source).get("valuetype", "").lower() != "url"
    assert not any("$" in label and label != "5 $" for label in found.space.labels)
    if found.space.paths is None and not control.xpath(".//Choice/Choice"):
        for label in found.space.labels:
            assert interface.validate_region(build_region(found.space, [label], 0.5))


def _by_name(root: Any, name: str) -> Any:
    (found,) = [element for element in root.iter() if element.get("name") == name]
    return found


def _lower(element: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in element.attrib.items()}
