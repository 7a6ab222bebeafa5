"""Tags and tasks, and the text that the tag shows: for the reading of it, and for the editor that shows it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr


@dataclass(frozen=True)
class Row:
    """A task under a tag."""

    tag: str
    """With its attributes, as they stand in the config after the name."""
    data: dict[str, Any]
    text: str | None
    """What Fitloop reads."""
    shown: str | None = None
    """What the editor shows where that is something else."""

    @property
    def config(self) -> str:
        """A question over that tag."""
        kind, _, attributes = self.tag.partition(" ")
        choices = "".join(f"<Choice value={quoteattr(label)}/>" for label in "AB")
        return f'<View><{kind} name="t" {attributes}/><Choices name="c" toName="t">{choices}</Choices></View>'


def _encoded(text: str, codec: str = "utf-8") -> str:
    return b64encode(text.encode(codec)).decode()


PLAIN = 'Text value="$text"'
TITLED = 'Text value="Subject: $subject Body: $body"'
UNICODE = 'Text value="$text" encoding="base64unicode"'
BASE64 = 'Text value="$text" encoding="base64"'
HTML = 'HyperText value="$text"'
DIALOGUE = 'Paragraphs value="$talk"'
NAMED = 'Paragraphs value="$talk" nameKey="who" TEXTKEY="said" layout="dialogue"'

ROWS = (
    *(Row(PLAIN, {"text": text}, text) for text in (
        "hello", "👍", "???", ":)", "-5", "ok 👨‍👩‍👧", "می‌خواهم بروم", "दिन और दान", "กินข้าว", "שִׁיר", "C++", "1.5 mg",
        "<b>no tag</b> & &amp; <script>x</script>", "two\nlines", "$text", "e\u0301t\u00e9",
    )),
    Row(PLAIN, {"text": 1984}, "1984"),
    Row(PLAIN, {"text": 0}, "0"),
    Row(PLAIN, {"text": 1.0}, "1"),
    Row(PLAIN, {"text": 1.5}, "1.5"),
    Row(PLAIN, {"text": 1e21}, "1e+21"),
    Row(PLAIN, {"text": 1e16}, "1e+16"),
    Row(PLAIN, {"text": 2**60}, "1152921504606846976"),
    Row(PLAIN, {"text": 2**53}, "9007199254740992"),
    Row(PLAIN, {"text": -12345678901234567890}, "-12345678901234567890"),
    Row(PLAIN, {"text": 123456789.125}, "123456789.125"),
    Row(PLAIN, {"text": 0.1 + 0.2}, "0.30000000000000004"),
    Row(PLAIN, {"text": 1e-7}, "1e-7"),
    Row(PLAIN, {"text": 0.000001}, "0.000001"),
    Row(PLAIN, {"text": True}, "true"),
    Row(PLAIN, {"text": False}, "false"),
    Row(PLAIN, {"text": ["a", None, 2, ["b", True]]}, "a,,2,b,true"),
    Row(PLAIN, {"text": {"a": 1}}, "[object Object]"),
    Row(PLAIN, {"text": None}, None, ""),
    Row(PLAIN, {"text": ""}, None, ""),
    Row(PLAIN, {"text": " \n\t"}, None, ""),
    Row(TITLED, {"subject": "Hello", "body": "there"}, "Subject: Hello Body: there"),
    Row(TITLED, {"subject": "Hello", "body": None}, "Subject: Hello Body: ", "Subject: Hello Body: null"),
    Row(TITLED, {"subject": 17, "body": [1, 2]}, "Subject: 17 Body: 1,2"),
    Row(TITLED, {"subject": "", "body": ""}, None, "Subject: Body:"),
    Row('Text value="Order $order_id: $body."', {"order_id": 17, "body": "late"}, "Order 17: late"),
    Row('Text value="$a.b"', {"a": {"b": "deep"}}, "deep"),
    Row('Text value="$a.b"', {"a.b": "flat", "a": {"b": "deep"}}, "flat"),
    Row('Text value="$a[1]"', {"a": ["x", "y"]}, "y"),
    Row('Text value="$a.1"', {"a": ["x", "y"]}, "y"),
    Row('Text value="$a[0].b[1]"', {"a": [{"b": [1, 2]}]}, "2"),
    Row('Text value="$a.b and $c[0]"', {"a": {"b": "one"}, "c": ["two"]}, "one and two"),
    Row('Text value="$$text"', {"text": "5"}, "$5"),
    Row('Text value="$text-b"', {"text": "a", "text-b": "x"}, "a-b"),
    Row('Text value="&lt;$text&gt; &amp;amp;"', {"text": "a"}, "<a> &amp;"),
    Row(BASE64, {"text": _encoded("plain")}, "plain"),
    Row(BASE64, {"text": _encoded("café", "latin-1")}, "café"),
    Row(UNICODE, {"text": _encoded("привет 👍 दिन")}, "привет 👍 दिन"),
    Row(HTML, {"text": "<p>Hello <b>wor</b>ld</p><p>again</p>"}, "Hello world\nagain"),
    Row(HTML, {"text": "plain 👍 &lt;b&gt; &amp;amp; &eacute;"}, "plain 👍 <b> &amp; é"),
    Row(HTML, {"text": "a<script>x()</script><style>p{}</style><!-- no --> b"}, "a b"),
    Row(HTML, {"text": "one<br>two<ul><li>three</li><li>four</li></ul>"}, "one\ntwo\nthree\nfour"),
    Row(HTML, {"text": "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>"}, "a b\nc"),
    Row(HTML, {"text": '<div>seen</div><div style="display:none">not</div><div hidden="hidden">nor</div>'}, "seen"),
    Row(HTML, {"text": "<div>seen</div><div hidden>too</div>"}, "seen\ntoo"),  # the editor drops the attribute
    Row(HTML, {"text": "<ol><li>a</li></ol><pre>x  y</pre>z"}, "a\nx  y\nz"),
    Row(HTML, {"text": "a<textarea>t</textarea><title>u</title><template>v</template><noscript>w</noscript>b"}, "ab"),
    Row(HTML, {"text": "5 < 6 and 7 > 6"}, "5 < 6 and 7 > 6"),
    Row(HTML, {"text": "<p> </p>"}, None, ""),
    Row(HTML, {"text": "<html><head><title>no</title></head><body><h1>a</h1>b</body></html>"}, "a\nb"),
    Row('HyperText value="$text" encoding="base64unicode"', {"text": _encoded("<i>да</i>")}, "да"),
    Row('HyperText value="$text" inline="true"', {"text": "<p>a</p>b"}, "a\nb"),
    Row('HyperText value="&lt;b&gt;$a&lt;/b&gt;: $b"', {"a": "x", "b": 1}, "x: 1"),
    Row(DIALOGUE, {"talk": [{"author": "Ann", "text": "Hi"}, {"author": "Bo", "text": "👍"}]}, "Ann\nHi\nBo\n👍"),
    Row(DIALOGUE, {"talk": [{"author": "Ann", "text": 5}, {"text": "alone"}]}, "Ann\n5\nalone"),
    Row(NAMED, {"talk": [{"who": "Ann", "said": "<b>Hi</b>"}]}, "Ann\n<b>Hi</b>"),
)  # fmt: skip

UNSHOWN = (
    Row(TITLED, {"subject": "Hello"}, "Subject: Hello Body: "),
    Row(TITLED, {}, None),
    Row(PLAIN, {}, None),
    Row(PLAIN, {"$undefined$": "imported without a name"}, "imported without a name"),
    Row('Text value="$a[7]"', {"a": ["x"]}, None),
    Row('Text value="$a.b"', {"a": 3}, None),
    Row(UNICODE, {"text": "no base64!"}, None),
    Row(UNICODE, {"text": _encoded("\xff", "latin-1")}, None),
    Row(PLAIN, {"text": " \x00 "}, None),
    Row(DIALOGUE, {"talk": '[{"author": "a", "text": "b"}]'}, None),
    Row(DIALOGUE, {"talk": []}, None),
    Row(DIALOGUE, {"talk": [{"author": "Ann"}]}, None),
    Row(DIALOGUE, {"talk": ["a"]}, None),
)
"""Tasks that Label Studio does not take under that config, or that its editor reports as an error."""
