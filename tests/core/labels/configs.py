"""Label configs and what is to come of each: those that Label Studio comes with, in their shape, and traps of users."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A label config, and the control that is learnt from it."""

    name: str
    config: str
    control: str = ""
    """"" where none is learnt unasked."""
    labels: tuple[str, ...] = ("A", "B")
    says: tuple[str, ...] = ()
    """What is said of the controls that are not learnt: tag, attribute, reason."""
    accepted: bool = True
    """Whether Label Studio's API takes it."""


TEXT = '<Text name="t" value="$text"/>'
AB = '<Choice value="A"/><Choice value="B"/>'


def view(*parts: str) -> str:
    """Parts of a config in a View."""
    return f"<View>{''.join(parts)}</View>"


def choices(name: str = "c", attributes: str = 'toName="t"', inside: str = AB) -> str:
    """A Choices."""
    return f'<Choices name="{name}" {attributes}>{inside}</Choices>'


def over(source: str, attributes: str = 'toName="t"', inside: str = AB) -> str:
    """A source of text with a Choices over it."""
    return view(source, choices(attributes=attributes, inside=inside))


_LABELS = '<Labels name="spans" toName="t"><Label value="Person"/><Label value="Place"/></Labels>'
_MAIN = choices("main")
_AUDIO = '<Audio name="a" value="$audio"/>'
_IMAGE = '<Image name="i" value="$image"/>'
_TALK = '<Paragraphs name="t" value="$talk" nameKey="author" textKey="words"/>'
_HTML = '<HyperText name="t" value="$page"/>'

_TREE = '<Choice value="A"/><Choice value="B"><Choice value="B1"/><Choice value="B2"/></Choice>'

LEARNT: tuple[Row, ...] = (
    Row("plain", over(TEXT), "c"),
    Row("control before its text", view(choices(), TEXT), "c"),
    Row("other names", '<View><Text name="тело" value="$body"/><Choices name="тема" toName="тело"><Choice value="счёт"/><Choice value="возврат"/></Choices></View>', "тема", ("счёт", "возврат")),
    Row("templates: text classification", '<View><Text name="text" value="$text"/><View style="padding: 0 1em"><Header value="Choose text sentiment"/><Choices name="sentiment" toName="text" choice="single" showInLine="true"><Choice value="Positive"/><Choice value="Negative"/></Choices></View></View>', "sentiment", ("Positive", "Negative")),
    Row("templates: intent and slots", view('<ParagraphLabels name="slots" toName="t"><Label value="Person"/></ParagraphLabels>', _TALK, choices("intent", 'toName="t" choice="single" showInLine="true"')), "intent", says=("<ParagraphLabels",)),
    Row("templates: chatbot assessment", view('<Header value="Rate"/>', '<Paragraphs name="t" value="$chat" layout="dialogue"/>', '<Collapse><Panel value="More"><View>', choices("harm"), "</View></Panel></Collapse>", choices("tone")), "harm", says=('name="tone"',)),
    Row("templates: response selection", view('<Paragraphs name="t" value="$dialogue" layout="dialogue"/>', choices("resp")), "resp"),
    Row("templates: two levels of sentiment", view(TEXT, choices("sentiment", 'toName="t" choice="single"'), choices("other", 'toName="t" choice="multiple"')), "sentiment", says=('<Choices name="other"> is not',)),
    Row("templates: content moderation", view(TEXT, choices(attributes='toName="t" choice="multiple"'), '<Taxonomy name="x" toName="t"><Choice value="Q"/></Taxonomy>'), "c", says=('<Taxonomy name="x">',)),
    Row("multiple in capitals", over(TEXT, 'toName="t" CHOICE="multiple"'), "c"),
    Row("several choices above a single one", view(TEXT, choices("several", 'toName="t" choice="multiple"'), _MAIN), "main", says=('name="several"',)),
    Row("radio buttons", over(TEXT, 'toName="t" choice="single-radio"'), "c"),
    Row("drop-down", over(TEXT, 'toName="t" layout="select"', '<Choice value=""/>' + AB), "c"),
    Row("required", over(TEXT, 'toName="t" required="true" requiredMessage="please"'), "c"),
    Row("choices in views", over(TEXT, inside=f'<View style="display: flex">{AB}</View>'), "c"),
    Row("comments", f"<!-- first --><View><!-- a -->{TEXT}<!-- b --><Choices name='c' toName='t'><!-- c -->{AB}</Choices></View>", "c"),
    Row("aliases", over(TEXT, inside='<Choice value="Yes, please" alias="yes"/><Choice value="No"/>'), "c", ("yes", "No")),
    Row("two choices of one alias", over(TEXT, inside='<Choice value="Yes" alias="y"/><Choice value="Yeah" alias="y"/><Choice value="No"/>'), "c", ("y", "No")),
    Row("html is for show", over(TEXT, inside='<Choice value="A" html="&lt;b&gt;first $x&lt;/b&gt;"/><Choice value="B"/>'), "c"),
    Row("the same choice twice", over(TEXT, inside=AB + '<Choice value="A"/>'), "c"),
    Row("white space in values stays", over(TEXT, inside='<Choice value=" A "/><Choice value="B"/>'), "c", (" A ", "B")),
    Row("text inside a choice is its value", over(TEXT, inside='<Choice value="x"> A </Choice><Choice value="y">B &amp; C</Choice>'), "c", ("A", "B &amp; C")),
    Row("numbers", over(TEXT, inside='<Choice value="1"/><Choice value="2"/>'), "c", ("1", "2")),
    Row("nested choices whose results are no paths", over(TEXT, inside='<Choice value="A"><Choice value="A1"/></Choice><Choice value="B"/>'), "c", ("A", "A1", "B")),
    Row("nested", over(TEXT, 'toName="t" allowNested="true"', '<Choice value="A"><Choice value="A1"/><Choice value="A2"/></Choice><Choice value="B"/>'), "c", ("A", "A1", "A2", "B")),
    Row("nested in lower case", over(TEXT, 'toName="t" allownested="true"', '<Choice value="Top"><Choice value="A"/><Choice value="B"/></Choice>'), "c", ("Top", "A", "B")),
    Row("nested with equal ends", over(TEXT, 'toName="t" ALLOWNESTED="true"', '<Choice value="X"><Choice value="A"/></Choice><Choice value="Y"><Choice value="A"/></Choice>'), "c", ("X", "X > A", "Y", "Y > A")),
    Row("HyperText", over(_HTML), "c"),
    Row("HyperText shown inline", over('<HyperText name="t" value="$page" inline="true" clickableLinks="true"/>'), "c"),
    Row("HyperText that holds its own page", over('<HyperText name="t" value="$x"><h1>Order $order</h1><p>$body</p></HyperText>'), "c"),
    Row("Paragraphs", over(_TALK), "c"),
    Row("Paragraphs of JSON", over('<Paragraphs name="t" value="$talk" valueType="json"/>'), "c"),
    Row("several variables", over('<Text name="t" value="Subject: $subject Body: $mail.body[0]"/>'), "c"),
    Row("base64", over('<Text name="t" value="$text" encoding="base64"/>'), "c"),
    Row("valueType of text", over('<Text name="t" value="$text" valuetype="text"/>'), "c"),
    Row("perRegion switched off", over(TEXT, 'toName="t" perRegion="false" perItem="false"'), "c"),
    Row("attributes in capitals", '<View><Text name="t" value="$text"/><Choices name="c" toName="t" CHOICE="single" PERREGION="false"><Choice VALUE="A" value="A"/><Choice value="B" ALIAS="b"/></Choices></View>', "c", ("A", "b")),
    Row("tags in lower case", '<view><text NAME="t" VALUE="$text"/><choices NAME="c" TONAME="t"><choice VALUE="A"/><choice value="B"/></choices></view>', "c"),
    Row("no toName beside one text", '<View><Text name="t" value="$text"/><choices name="c"><Choice value="A"/><Choice value="B"/></choices></View>', "c"),
    Row("the text of several objects", view(_IMAGE, TEXT, _AUDIO, choices()), "c"),
    Row("a default namespace", f'<View xmlns="http://www.w3.org/1999/xhtml">{TEXT}{choices()}</View>', "c"),
    Row("Rating", view(TEXT, '<Rating name="stars" toName="t"/>'), "stars", ("1", "2", "3", "4", "5")),
    Row("templates: response grading", view('<Paragraphs name="t" value="$prompt" layout="dialogue"/>', '<Rating name="rate" toName="t" maxRating="10" icon="star" size="medium"/>'), "rate", tuple(map(str, range(1, 11)))),
    Row("Rating in other spellings", '<view><text name="t" value="$text"/><rating NAME="stars" TONAME="t" MAXRATING=" 3 " required="true" hotkey="r" defaultValue="2"/></view>', "stars", ("1", "2", "3")),
    Row("Rating above Choices", view(TEXT, '<Rating name="stars" toName="t"/>', _MAIN), "main", says=('<Rating name="stars"> is not the chosen control', "Name one of 'stars' in FITLOOP_CONTROLS")),
    Row("templates: taxonomy", view(TEXT, f'<Taxonomy name="tax" toName="t">{_TREE}</Taxonomy>'), "tax", ("A", "B", "B1", "B2"), says=('maxUsages="1" allows one',)),
    Row("Taxonomy of one path", view(TEXT, f'<Taxonomy name="tax" toName="t" maxUsages="1" leafsOnly="true">{_TREE}</Taxonomy>'), "tax", ("A", "B1", "B2")),
    Row("Taxonomy in other spellings", f'<view><text name="t" value="$text"/><taxonomy NAME="tax" TONAME="t" MAXUSAGES="1" LEAFSONLY="true" legacy="true" pathSeparator=" > " showFullPath="true">{_TREE}</taxonomy></view>', "tax", ("A", "B1", "B2")),
    Row("Taxonomy with equal ends and aliases", view(TEXT, '<Taxonomy name="tax" toName="t" maxUsages="1" leafsOnly="true"><Choice value="X" alias="x"><Choice value="A"/></Choice><Choice value="Y"><Choice value="A"/><Choice value="Bee" alias="b" hint="an insect"/></Choice></Taxonomy>'), "tax", ("x > A", "Y > A", "b")),
    Row("Taxonomy above Rating", view(TEXT, f'<Taxonomy name="tax" toName="t">{_TREE}</Taxonomy><Rating name="stars" toName="t" maxRating="2"/>'), "stars", ("1", "2"), says=("Name one of 'tax' in FITLOOP_CONTROLS",)),
    # What stands above no longer hides what can be learnt.
    Row("spans and a per-region choice above", view(_LABELS, choices("of_span", 'toName="t" perRegion="true"'), TEXT, _MAIN), "main", says=('name="of_span"', 'perRegion="true"', "<Labels")),
    Row("a conditional question above", view(TEXT, choices("why", 'toName="t" visibleWhen="choice-selected" whenTagName="main"'), _MAIN), "main", says=('name="why"', 'visibleWhen="choice-selected"', "FITLOOP_CONTROLS=why")),
    Row("a conditional view above", view(TEXT, f'<View visibleWhen="choice-selected" whenTagName="main" whenChoiceValue="A">{choices("why")}</View>', _MAIN), "main", says=("FITLOOP_CONTROLS=why", "of the <View>")),
    Row("a constant text above", view('<Text name="q" value="Is it about shipping?"/>', choices("first", 'toName="q"'), TEXT, _MAIN), "main", says=('value="Is it about shipping?"',)),
    Row("an image above", view(_IMAGE, choices("shot", 'toName="i"'), TEXT, _MAIN), "main", says=("<Image",)),
    Row("an address above", view('<Text name="u" value="$url" valueType="url"/>', choices("first", 'toName="u"'), TEXT, _MAIN), "main", says=('valueType="url"',)),
    Row("labels of tasks above", view(TEXT, choices("first", 'toName="t" value="$options"', ""), _MAIN), "main", says=('value="$options"',)),
    Row("paths that read alike above", view(TEXT, choices("first", 'toName="t" allowNested="true"', '<Choice value="X"><Choice value="A"/></Choice><Choice value="Y"><Choice value="A"/></Choice><Choice value="X &gt; A"><Choice value="X &gt; A"/></Choice>'), _MAIN), "main", says=('name="first"',)),
    Row("a repeater above", view('<Repeater on="$u"><View><Text name="u_{{idx}}" value="$u[{{idx}}].text"/>', choices("c_{{idx}}", 'toName="u_{{idx}}"'), "</View></Repeater>", TEXT, _MAIN), "main", says=('<Repeater on="$u">',)),
    Row("everything else above", view(TEXT, '<TextArea name="ta" toName="t"/><Rating name="r" toName="t"/><Number name="n" toName="t"/><DateTime name="d" toName="t"/><Taxonomy name="tax" toName="t"><Choice value="Q"/></Taxonomy>', _MAIN), "main", says=("<TextArea", "<Rating", "<Number", "<DateTime", "<Taxonomy")),
)  # fmt: skip

REFUSED: tuple[Row, ...] = (
    Row("no control", view(TEXT), says=("it has no such control",)),
    Row("templates: named entities", view(_LABELS, TEXT), says=('<Labels name="spans">', "the controls that Fitloop trains on")),
    Row("templates: pairs", '<View><Text name="a" value="$a"/><Text name="b" value="$b"/><Pairwise name="p" toName="a,b"/></View>', says=('<Pairwise name="p">',)),
    Row("templates: image classification", over(_IMAGE.replace('"i"', '"t"')), says=('<Image name="t">',)),
    Row("templates: video classification", over('<Video name="t" value="$video"/>'), says=('<Video name="t">',)),
    Row("templates: audio regions", view(_AUDIO, '<Labels name="l" toName="a"><Label value="S"/></Labels>', choices(attributes='toName="a" perRegion="true"')), says=('perRegion="true"',)),
    Row("templates: table", over('<Table name="t" value="$table"/>'), says=('<Table name="t">',)),
    Row("templates: PDF", over('<Pdf name="t" value="$pdf"/>'), says=('<Pdf name="t">',)),
    Row("templates: list", over('<List name="t" value="$items"/>'), says=('<List name="t">',)),
    Row("templates: chat", '<View><Chat name="chat" value="$chat"/><Choices name="c" toName="chat" whenRole="user"><Choice value="A"/><Choice value="B"/></Choices></View>', says=('whenRole="user"',)),
    Row("templates: transcriptions", view(_AUDIO, choices(attributes='toName="a" value="$transcriptions"', inside="")), says=('name="c"',)),
    Row("templates: ranking", '<View><List name="t" value="$items"/><Ranker name="r" toName="t"/></View>', says=('<Ranker name="r">',)),
    Row("per region", view(_LABELS, choices(attributes='toName="t" perRegion="true"'), TEXT), says=('<Choices name="c">', 'perRegion="true"')),
    Row("per region in lower case", view(_LABELS, choices(attributes='toName="t" perregion="true"'), TEXT), says=('perregion="true"',)),
    Row("per item", over(TEXT, 'toName="t" perItem="true"'), says=('perItem="true"',)),
    Row("for a selected region", view(_LABELS, choices(attributes='toName="t" visibleWhen="region-selected"'), TEXT), says=('visibleWhen="region-selected"',)),
    Row("for a selected label", view(_LABELS, choices(attributes='toName="t" VisibleWhen="region-selected" whenLabelValue="Person"'), TEXT), says=('VisibleWhen="region-selected"',)),
    Row("in a view for a selected region", view(_LABELS, TEXT, f'<View><View visibleWhen="region-selected">{choices()}</View></View>'), says=("<View>", 'visibleWhen="region-selected"')),
    Row("conditional alone", view(_IMAGE, choices("i1", 'toName="i"'), TEXT, choices(attributes='toName="t" visibleWhen="choice-selected" whenTagName="i1"')), says=("FITLOOP_CONTROLS=c",)),
    Row("unless a choice is selected", view(_IMAGE, choices("i1", 'toName="i"'), TEXT, choices(attributes='toName="t" visibleWhen="choice-unselected" whenTagName="i1"')), says=('visibleWhen="choice-unselected"',)),
    Row("while no region is selected", view(_LABELS, TEXT, choices(attributes='toName="t" visibleWhen="no-region-selected"')), says=("FITLOOP_CONTROLS=c",)),
    Row("by a choice's value alone", view(TEXT, choices(attributes='toName="t" whenChoiceValue="A"')), says=('whenChoiceValue="A"',)),
    Row("a repeater", view('<Repeater on="$u"><View><Text name="u_{{idx}}" value="$u[{{idx}}].text"/>', choices("c_{{idx}}", 'toName="u_{{idx}}"'), "</View></Repeater>"), says=('<Repeater on="$u">', 'name="c_{{idx}}"')),
    Row("a repeater of texts", view('<Repeater on="$u" indexFlag="{{i}}"><Text name="t" value="$u[{{i}}]"/></Repeater>', choices()), says=("<Repeater",)),
    Row("a constant text", over('<Text name="t" value="Is it about shipping?"/>'), says=('value="Is it about shipping?"', "$variable")),
    Row("a variable in no letters of the editor", over('<Text name="t" value="$текст"/>'), says=('value="$текст"',)),
    Row("a price is no variable", over('<Text name="t" value="cost in $"/>'), says=('value="cost in $"',)),
    Row("several texts", view(TEXT, '<Text name="b" value="$b"/>', choices(attributes='toName="t,b"')), says=('toName="t,b"',)),
    Row("addresses", over('<Text name="t" value="$text" valueType="url"/>'), says=('valueType="url"', '<Text name="t">')),
    Row("addresses in lower case", over('<Text name="t" value="$text" valuetype="url"/>'), says=('valuetype="url"',)),
    Row("addresses in capitals", over('<HyperText name="t" value="$text" VALUETYPE="URL"/>'), says=('VALUETYPE="URL"',)),
    Row("Paragraphs at an address", over('<Paragraphs name="t" value="$talk" valueType="url"/>'), says=('valueType="url"', "<Paragraphs")),
    Row("a choice of the task", over(TEXT, inside='<Choice value="$opt_a"/><Choice value="$opt_b"/>'), says=('<Choice value="$opt_a">',)),
    Row("a part of a choice of the task", over(TEXT, inside='<Choice value="A"/><Choice value="Under $price"/>'), says=('<Choice value="Under $price">',)),
    Row("a price that the editor takes for a variable", over(TEXT, inside='<Choice value="A"/><Choice value="more than 5 US$."/>'), says=('<Choice value="more than 5 US$.">',)),
    Row("a choice of the task with an alias", over(TEXT, inside='<Choice value="$opt_a" alias="a"/><Choice value="B"/>'), says=('value="$opt_a"',)),
    Row("choices of the task", over(TEXT, 'toName="t" value="$options"', ""), says=('value="$options"',)),
    Row("choices of the task beside others", over(TEXT, 'toName="t" value="$options"'), says=('value="$options"',)),
    Row("choices of the task in capitals", over(TEXT, 'toName="t" VALUE="$options"'), says=('VALUE="$options"',)),
    Row("empty choices", over(TEXT, inside='<Choice value=""/>'), says=("no <Choice> with a value",)),
    Row("an unknown kind of choice", over(TEXT, 'toName="t" choice="radio"'), says=('choice="radio"',)),
    Row("read only", over(TEXT, 'toName="t" readOnly="true"'), says=('readOnly="true"',)),
    Row("inside of labels", f'<View>{TEXT}<Labels name="l" toName="t"><Label value="P"/>{choices()}</Labels></View>', says=('is inside <Labels name="l">',)),
    Row("inside of HyperText", f'<View><HyperText name="t" value="$x"><p>{choices()}</p></HyperText></View>', says=("it has no such control",)),
    Row("inside of a text", f'<View><Text name="t" value="$x">{choices()}</Text></View>', says=('is inside <Text name="t">',)),
    Row("no toName beside two objects", f'<View>{TEXT}{_IMAGE}<choices name="c">{AB}</choices></View>', says=("no toName",)),
    Row("paths that read alike", over(TEXT, 'toName="t" allowNested="true"', '<Choice value="X"><Choice value="A"/></Choice><Choice value="Y"><Choice value="A"/></Choice><Choice value="Z"><Choice value="X &gt; A"/></Choice>'), says=("several choices called 'X > A'",)),
    Row("a tag of another namespace", f'<View xmlns:x="urn:x">{TEXT}<x:Choices name="c" toName="t">{AB}</x:Choices></View>', says=("<x:Choices",)),
    Row("Rating per region", view(_LABELS, TEXT, '<Rating name="r" toName="t" perRegion="true"/>'), says=('<Rating name="r"> has perRegion="true"',)),
    Row("Rating of two texts", view(TEXT, '<Text name="b" value="$b"/><Rating name="r" toName="t,b"/>'), says=('toName="t,b"',)),
    Row("Rating of an image", view(_IMAGE, '<Rating name="r" toName="i"/>'), says=("<Image",)),
    Row("Rating without stars", view(TEXT, '<Rating name="r" toName="t" maxRating="0"/>'), says=('maxRating="0"', "from 1 to 100")),
    Row("Rating of too many stars", view(TEXT, '<Rating name="r" toName="t" maxRating="1000000000"/>'), says=('maxRating="1000000000"',)),
    Row("Taxonomy of a server", view(TEXT, '<Taxonomy name="x" toName="t" apiUrl="https://example.com/tree.json"/>'), says=('apiUrl="https://example.com/tree.json"', "come from a server")),
    Row("Taxonomy of parts of a text", view(TEXT, f'<Taxonomy name="x" toName="t" labeling="true">{_TREE}</Taxonomy>'), says=('labeling="true"',)),
    Row("Taxonomy of the tasks", view(TEXT, '<Taxonomy name="x" toName="t" value="$tree"/>'), says=('value="$tree"',)),
    Row("Taxonomy without choices", view(TEXT, '<Taxonomy name="x" toName="t"></Taxonomy>'), says=("no <Choice> with a value",)),
    Row("Taxonomy per region", view(_LABELS, TEXT, f'<Taxonomy name="x" toName="t" perRegion="true">{_TREE}</Taxonomy>'), says=('perRegion="true"',)),
    Row("Taxonomy of paths that the editor writes alike", view(TEXT, '<Taxonomy name="x" toName="t"><Choice value="A / B"/><Choice value="A"><Choice value="B"/></Choice></Taxonomy>'), says=("A / B", "pathSeparator")),
    Row("Taxonomy without a separator", view(TEXT, f'<Taxonomy name="x" toName="t" pathSeparator="">{_TREE}</Taxonomy>'), says=('pathSeparator=""', "letters")),
    Row("no name", f'<View>{TEXT}<Choices toName="t">{AB}</Choices></View>', says=("has no name",), accepted=False),
    Row("one name twice", view(TEXT, choices(), choices()), says=('name="c"', "as another tag"), accepted=False),
    Row("toName of nothing", over(TEXT, 'toName="x"'), says=('toName="x"',), accepted=False),
    Row("nothing", "", says=("cannot be read",), accepted=False),
    Row("no XML", "Choices over Text", says=("cannot be read",), accepted=False),
    Row("entities", f'<!DOCTYPE View [<!ENTITY e "x">]>{over(TEXT)}', says=("DOCTYPE",), accepted=False),
)  # fmt: skip

ROWS = LEARNT + REFUSED
