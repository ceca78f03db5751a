"""Text that a model or a person wrote, as HTML that is safe to show.

Markdown without raw HTML, code with colours, mathematics as MathML (drawn by the browser, no network), ``<Image, caption>``
tokens as chips; then everything through a sanitiser. Links open only when clicked; remote images become links.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import nh3
from latex2mathml import exceptions as latex_errors
from latex2mathml.converter import convert
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from studio.tokens import TOKEN

# latex2mathml has no base error, and some broken input ends in a plain IndexError or the like
LATEX_ERRORS: tuple[type[Exception], ...] = (*(e for e in vars(latex_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
                IndexError, ValueError, KeyError, TypeError, AttributeError, RecursionError)  # fmt: skip
MAX_TEXT = 200_000  # characters; beyond that a text is shown as it is, since drawing it would take seconds
MAX_MATHEMATICS = 5_000
MAX_HIGHLIGHT = 50_000  # characters; beyond that colours cost more than they help
BRACKETS = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
MATHML = """math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle msub msup msubsup munder mover munderover
    mtable mtr mtd mpadded mphantom menclose mmultiscripts semantics"""
TEXT = (
    """p br hr h1 h2 h3 h4 h5 h6 strong em s del code pre blockquote ul ol li table thead tbody tr th td a span div"""
)
TAGS = {*TEXT.split(), *MATHML.split()}
ATTRIBUTES = {
    "a": {"href", "title"}, "span": {"class", "title"}, "div": {"class"}, "code": {"class"}, "pre": {"class"}, "ol": {"start"},
    "th": {"style"}, "td": {"style"}, "math": {"display"}, "mo": {"stretchy", "fence", "form", "separator", "lspace", "rspace"},
    "mi": {"mathvariant"}, "mtable": {"columnalign"}, "mtd": {"columnalign"}, "mspace": {"width"}, "mover": {"accent"},
    "mstyle": {"displaystyle", "scriptlevel"}, "mfrac": {"linethickness"},
}  # fmt: skip


def render(text: str) -> str:
    """Markdown to sanitised HTML. Never raises on any text; unreadable mathematics is shown as it was written."""
    if len(text) > MAX_TEXT:
        return f"<pre>{html.escape(text)}</pre>"
    return nh3.clean(
        _markdown.render(text), tags=TAGS, attributes=ATTRIBUTES, url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow", set_tag_attribute_values={"a": {"target": "_blank"}},
        filter_style_properties={"text-align"},
    )  # fmt: skip


def _code(text: str, language: str, _attrs: str) -> str:
    if not language or len(text) > MAX_HIGHLIGHT:
        return ""
    try:
        return highlight(text, get_lexer_by_name(language), HtmlFormatter(nowrap=True))
    except ClassNotFound:
        return ""


def _mathematics(text: str, options: dict[str, Any]) -> str:
    try:
        if len(text) > MAX_MATHEMATICS:
            raise ValueError(f"{len(text)} characters of mathematics")
        return convert(text, display="block" if options["display_mode"] else "inline")
    except LATEX_ERRORS:
        return f'<code class="tex">{html.escape(text)}</code>'


def _image_token(state: StateInline, silent: bool) -> bool:
    found = TOKEN.match(state.src, state.pos)
    if not found:
        return False
    if not silent:
        state.push("image_token", "", 0).content = " ".join(found[1].split())
    state.pos = found.end()
    return True


def _bracketed(state: StateInline, silent: bool) -> bool:
    """The other way models write mathematics: ``\\( inline \\)`` and ``\\[ display \\]``."""
    found = BRACKETS.match(state.src, state.pos)
    if not found:
        return False
    if not silent:
        kind = "math_inline_double" if found[2] else "math_inline"
        state.push(kind, "math", 0).content = found[1] or found[2]
    state.pos = found.end()
    return True


def _draw_image_token(_r: RendererHTML, tokens: list[Token], i: int, _o: Any, _e: Mapping[str, Any]) -> str:
    caption = html.escape(tokens[i].content)
    return f'<span class="image-token" title="The model asked for this picture">{caption or "picture"}</span>'


def _draw_remote_image(_r: RendererHTML, tokens: list[Token], i: int, _o: Any, _e: Mapping[str, Any]) -> str:
    # loading it would tell its server that this text was read: a link asks first
    source, label = str(tokens[i].attrGet("src") or ""), tokens[i].content or "picture"
    return f'<a href="{html.escape(source)}">{html.escape(label)} (picture on another site)</a>'


_markdown = MarkdownIt("commonmark", {"html": False, "highlight": _code, "breaks": True}).enable(
    ["table", "strikethrough"]
)
_markdown.use(dollarmath_plugin, renderer=_mathematics, double_inline=True, allow_space=False, allow_digits=False)
_markdown.inline.ruler.before("autolink", "image_token", _image_token)
_markdown.inline.ruler.before("escape", "bracketed_mathematics", _bracketed)
_markdown.add_render_rule("image_token", _draw_image_token)
_markdown.add_render_rule("image", _draw_remote_image)
