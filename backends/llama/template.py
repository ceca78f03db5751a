"""A dialogue as text, by the chat template inside a GGUF: a program of unknown origin, kept on a short lead.

Owns Jinja's sandbox around it and its limits of time and size. Never sees tokens or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from backends.base import BackendError
from backends.deadline import Deadline

TEMPLATE_S = 5.0
MAX_CHARACTERS = 4_000_000  # of a prompt: more than any context here holds
MAX_POWER = 64
MAX_WIDTH = 10_000
PADDING = {"center", "ljust", "rjust", "zfill", "expandtabs"}  # make a text as long as a number says
BIG_WIDTH = re.compile(r"\d{5}|\*")


class Template:
    """The compiled chat template of one model; ``name`` is for messages, ``special`` what nobody's text may contain."""

    def __init__(self, name: str, source: str, bos: str, eos: str, special: Sequence[str]) -> None:
        """Compile. Raises BackendError when the source is no template."""
        import jinja2

        self.name, self.bos, self.eos = name, bos, eos
        # long ones first, so that none is taken for the beginning of another
        marks = sorted((m for m in special if len(m) > 1), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, marks))) if marks else None
        try:
            with Deadline(TEMPLATE_S):
                self._compiled = _sandbox().from_string(source)
        except (jinja2.TemplateError, RecursionError, TimeoutError, MemoryError) as error:
            raise BackendError(f"The chat template of {name} is broken: {error}. Choose another model.") from error

    def plain(self, text: str) -> str:
        """The text with no special token left in it: a question must not end itself and begin a reply."""
        return self._special.sub(lambda m: f"{m[0][0]}\u200b{m[0][1:]}", text) if self._special else text

    def render(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt up to where the reply begins.

        Raises:
            BackendError: the template refuses this dialogue, is not done in time, or makes too much of it.
        """
        import jinja2

        try:
            with Deadline(TEMPLATE_S):
                text = self._joined(messages)
        except (jinja2.TemplateError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError, TimeoutError,
                MemoryError) as error:  # fmt: skip
            raise BackendError(
                f"The chat template of {self.name} refuses this dialogue: {error}. Choose another model."
            ) from error
        return text

    def _joined(self, messages: Sequence[dict[str, Any]]) -> str:
        pieces, size = [], 0
        for piece in self._compiled.generate(
            messages=messages, bos_token=self.bos, eos_token=self.eos, add_generation_prompt=True,
            raise_exception=_refuse, strftime_now=_now, tools=None, functions=None, function_call=None, tool_choice=None,
        ):  # fmt: skip
            size += len(piece)
            if size > MAX_CHARACTERS:
                raise ValueError(f"it makes a prompt of over {MAX_CHARACTERS:,} characters")
            pieces.append(piece)
        return "".join(pieces)


def _sandbox() -> Any:
    """Jinja as transformers sets it up for chat templates, without what grows a value beyond measure in one step."""
    import json

    import jinja2
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

    class Generation(Extension):
        """``{% generation %}`` marks the reply for training; here it changes nothing."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            parser.stream.skip(1)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    class Sandbox(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**", "%"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and not (abs(left) < 2**31 and abs(right) <= MAX_POWER):
                raise SecurityError("it raises a number to too high a power")
            if operator == "*":
                for many, times in ((left, right), (right, left)):
                    if isinstance(many, (str, list, tuple)) and len(many) * times > MAX_CHARACTERS:
                        raise SecurityError("it repeats a text too often")
            if operator == "%" and isinstance(left, str) and BIG_WIDTH.search(left):
                raise SecurityError("it pads a text too far")
            return super().call_binop(context, operator, left, right)

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            name = getattr(__obj, "__name__", "")
            owner = getattr(getattr(__obj, "__wrapped__", __obj), "__self__", "")  # Jinja wraps what formats
            if name in PADDING and any(isinstance(a, int) and a > MAX_WIDTH for a in args):
                raise SecurityError("it pads a text too far")
            if (
                name in ("format", "format_map")
                and isinstance(owner, str)
                and ("{:{" in owner or BIG_WIDTH.search(owner))
            ):
                raise SecurityError("it pads a text too far")
            return super().call(__context, __obj, *args, **kwargs)

    made = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = lambda x, ensure_ascii=False, **more: json.dumps(x, ensure_ascii=ensure_ascii, **more)
    for name in ("center", "indent", "format", "wordwrap"):  # as above, as filters; no chat template wants them
        del made.filters[name]
    return made


def _refuse(message: str) -> None:
    raise ValueError(message)


def _now(form: str) -> str:
    from datetime import datetime

    return datetime.now().strftime(form)
