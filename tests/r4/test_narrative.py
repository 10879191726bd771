"""Which XHTML a narrative may hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.r4.narrative import what_is_wrong

OUTER = '<div xmlns="http://www.w3.org/1999/xhtml"'


@pytest.mark.parametrize(
    "content",
    [
        ">text</div>",
        "><p>text<br/>more</p></div>",
        "><!-- a note --><p>1 &lt; 2 &amp; &eacute; &#233;</p></div>",
        "><![CDATA[<script>]]></div>",
        ' class="grid" xml:lang="fr"><a href="http://example.org/" title="x">text</a></div>',
        '><img src="data:image/png;base64,aGVsbG8=" alt="x"/></div>',
        "><h:p xmlns:h='http://www.w3.org/1999/xhtml'>text</h:p></div>",
    ],
)
def test_basic_formatting_is_accepted(content: str) -> None:
    """Text, structure, links and images, however XML writes them."""
    assert what_is_wrong(OUTER + content) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("></div>", "txt-2"),
        ("> <p>&nbsp;</p><!-- text --></div>", "txt-2"),
        (">text", "well-formed"),
        (">text</div><div>more</div>", "well-formed"),
        ("><p>text</b></div>", "well-formed"),
        (">&unknown;</div>", "well-formed"),
        (">\x00text</div>", "well-formed"),
        (">\ud800text</div>", "well-formed"),
        ("><script>text</script></div>", "txt-1"),
        ("><object>text</object></div>", "txt-1"),
        ("><p xmlns='http://example.org/'>text</p></div>", "txt-1"),
        ("><svg xmlns='http://www.w3.org/2000/svg'>text</svg></div>", "txt-1"),
        (" onload='x()'>text</div>", "txt-1"),
        ("><a href='JavaScript:x()'>text</a></div>", "script"),
        ("><a href='java\tscript:x()'>text</a></div>", "script"),
        ("><img src='data:text/html,x'/></div>", "script"),
    ],
)
def test_what_acts_or_is_empty_is_refused(content: str, why: str) -> None:
    """With the rule that it breaks."""
    assert why in (what_is_wrong(OUTER + content) or "")


@pytest.mark.parametrize("text", ["", "text", "<p/>", "<divx/>", '<!DOCTYPE div [<!ENTITY a "b">]><div>&a;</div>'])
def test_what_is_not_one_div_is_refused(text: str) -> None:
    """So no document type, and no entity that unfolds."""
    assert what_is_wrong(text) is not None


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    """Nothing makes it raise."""
    assert isinstance(what_is_wrong(OUTER + ">" + text + "</div>"), str | None)
