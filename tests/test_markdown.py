"""Text as HTML: what is drawn, and what never gets through."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.markdown import render


@pytest.mark.parametrize(
    ("text", "shows"),
    [
        ("**bold** and `code`", "<strong>bold</strong> and <code>code</code>"),
        ("| a |\n|--:|\n| 1 |", '<td style="text-align:right">1</td>'),
        ("```python\nx = 1\n```", '<span class="mi">1</span>'),
        ("$x^2$", "<msup>"),
        (r"\(a+b\)", "<math"),
        ("$$\\frac{1}{2}$$", 'display="block"'),
        ("it costs $5 and $6", "it costs $5 and $6"),
        (
            "see <Image, a red kite> here",
            '<span class="image-token" title="The model asked for this picture">a red kite</span>',
        ),
        ("![a](http://example.com/x.png)", "(picture on another site)"),
        ("broken $\\frac{$", '<code class="tex">'),
    ],
)
def test_is_drawn(text: str, shows: str) -> None:
    assert shows in render(text)


ATTACKS = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "[x](javascript:alert(1))", "[x](data:text/html,<script>)",
    "[x](vbscript:x)", "![x](javascript:alert(1))", "![](http://evil.test/x.png)", "<iframe src=http://evil.test>", "<Image, <script>alert(1)</script>>",
    '<Image, " onmouseover="alert(1)>', "```html\n<script>alert(1)</script>\n```", "$\\href{javascript:alert(1)}{x}$", '[x](http://a" onclick="alert(1))',
    "<math><mtext><script>x</script></mtext></math>", "<style>@import 'http://evil.test'</style>", "<a href='jAvAsCrIpT:x'>x</a>", "\x00<b>", "<!--<img src=x>-->",
]  # fmt: skip


@pytest.mark.parametrize("text", ATTACKS)
def test_is_harmless(text: str) -> None:
    html = render(text)
    tags = re.findall(r"<[^>]+>", html)
    assert not [
        t
        for t in tags
        if re.search(
            r"<(script|img|svg|iframe|style|object|embed|form|link|meta|base)\b|\son\w+\s*=|javascript:|data:|vbscript:",
            t,
            re.I,
        )
    ], html


@given(st.text(alphabet="<>&\"'`*_[]()!$\\|~#- \nab1{}^/:", max_size=200))
def test_any_text_is_drawn(text: str) -> None:
    assert not re.search(r"<(script|img|iframe)\b", render(text), re.I)


def test_a_huge_text_is_quick_and_escaped() -> None:
    assert render("<b>" * 100_000).startswith("<pre>&lt;b&gt;")
