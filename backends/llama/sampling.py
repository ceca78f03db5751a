"""From logits to a reply's text: llama.cpp's samplers, one chain a candidate, and where a reply ends.

Owns a candidate's seed, its bytes on their way to characters, and its stop strings. Never decodes.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import threading
from collections.abc import Sequence
from typing import Any

from backends.base import BackendError, Delta, Options
from backends.llama.loading import COMPLAINTS, Loaded, complaint

TOP_K, MIN_P = 40, 0.05  # what llama.cpp's own tools do unless they are told otherwise
PENALTY_LAST_N = 64
ANY_SEED = 2**32 - 1  # llama.cpp takes this for "a new one"


class Candidate:
    """One reply on its way: which sequence it writes, what it has drawn, and what of that can be shown."""

    def __init__(
        self, loaded: Loaded, number: int, options: Options, limit: int, stop: threading.Event, sampler: Sampler
    ) -> None:
        self.loaded, self.number, self.limit, self.stop, self.sampler = loaded, number, limit, stop, sampler
        self.sequence = -1
        self.token = -1  # drawn last, not read yet
        self.count = 0
        self.finish: str | None = None
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")  # a character may need several tokens
        self._stops = [s for s in options.stop_strings if s]
        self._cut = False  # at a stop string
        self._held = ""  # may be the beginning of a stop string

    @property
    def over(self) -> bool:
        """Whether nothing more is to be drawn."""
        return bool(self.finish) or self.count >= self.limit or self.stop.is_set()

    def draw(self, row: int) -> str:
        """Draw from the logits in ``row`` of the last batch (-1: its last); returns the text that can be shown."""
        self.token = self.sampler.draw(row)
        if self.loaded.lib.llama_vocab_is_eog(self.loaded.vocab, self.token):
            self.finish = "stop"
            return ""
        self.count += 1
        return self._shown(self._utf8.decode(self.loaded.piece(self.token)))

    def last(self, prompt_tokens: int) -> Delta:
        """What ends the reply: the text still held back, why it ended, and the counts."""
        if not self.finish and not self.stop.is_set():
            self.finish = "length"
        rest = "" if self._cut else self._held + self._utf8.decode(b"", final=True)
        return Delta(rest, self.finish, prompt_tokens=prompt_tokens, completion_tokens=self.count)

    def _shown(self, text: str) -> str:
        text = self._held + text
        found = [i for i in map(text.find, self._stops) if i >= 0]
        if found:
            self.finish, self._cut, self._held = "stop", True, ""
            return text[: min(found)]
        keep = max((_overlap(text, s) for s in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of ``text`` may begin ``stop``."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:])), 0)


class Sampler:
    """A chain of llama.cpp's samplers, in the order in which llama-cpp-python has them."""

    def __init__(self, loaded: Loaded, options: Options, seed: int, recent: Sequence[int]) -> None:
        """``recent``: the prompt's last tokens, which the repetition penalty counts too.

        Raises:
            BackendError: a grammar or a JSON schema that cannot be used.
        """
        lib = loaded.lib
        rules = grammar_of(options)
        self.loaded, self.grammar = loaded, _grammar(loaded, rules) if rules else None
        self.chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        add = lib.llama_sampler_chain_add
        if options.repetition_penalty != 1:
            words = lib.llama_vocab_n_tokens(loaded.vocab)
            punish = lib.llama_sampler_init_penalties(words, PENALTY_LAST_N, options.repetition_penalty, 0.0, 0.0)
            for token in recent[-PENALTY_LAST_N:]:
                lib.llama_sampler_accept(punish, token)
            add(self.chain, punish)
        if self.grammar:
            add(self.chain, self.grammar)
            self._row = (lib.llama_token_data * lib.llama_vocab_n_tokens(loaded.vocab))()
        if options.temperature <= 0:
            add(self.chain, lib.llama_sampler_init_greedy())
            return
        add(self.chain, lib.llama_sampler_init_top_k(TOP_K if options.top_k is None else options.top_k))
        add(self.chain, lib.llama_sampler_init_top_p(options.top_p, 1))
        add(self.chain, lib.llama_sampler_init_min_p(MIN_P if options.min_p is None else options.min_p, 1))
        add(self.chain, lib.llama_sampler_init_temp(options.temperature))
        add(self.chain, lib.llama_sampler_init_dist(seed % ANY_SEED))

    def draw(self, row: int) -> int:
        """A token from the logits of that row. Raises BackendError when the grammar allows none."""
        lib = self.loaded.lib
        if self.grammar is None:
            return int(lib.llama_sampler_sample(self.chain, self.loaded.context, row))
        # llama_sampler_sample would end the whole program over a token that the grammar forbids
        found = self._candidates(row)
        lib.llama_sampler_apply(self.chain, ctypes.byref(found))
        chosen = found.data[found.selected]
        if chosen.logit == float("-inf"):
            raise BackendError("The grammar allows no token after these. Mend the grammar or the JSON schema.")
        lib.llama_sampler_accept(self.chain, chosen.id)
        return int(chosen.id)

    def _candidates(self, row: int) -> Any:
        import numpy as np

        lib, size = self.loaded.lib, len(self._row)
        logits = np.ctypeslib.as_array(lib.llama_get_logits_ith(self.loaded.context, row), shape=(size,))
        view = np.frombuffer(self._row, dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        view["id"], view["logit"], view["p"] = np.arange(size), logits, 0
        return lib.llama_token_data_array(data=self._row, size=size, selected=-1, sorted=False)

    def free(self) -> None:
        """Give the chain back."""
        if self.chain:
            self.loaded.lib.llama_sampler_free(self.chain)
        self.chain = None


def _grammar(loaded: Loaded, rules: str) -> Any:
    COMPLAINTS.clear()
    made = loaded.lib.llama_sampler_init_grammar(loaded.vocab, rules.encode(), b"root")
    if not made:
        raise BackendError(
            f"llama.cpp cannot read the grammar{complaint()}. Write it in GBNF, beginning with root ::=."
        )
    return made


def grammar_of(options: Options) -> str:
    """The grammar that a reply must follow, in GBNF; empty for none. Raises BackendError for an impossible schema."""
    if options.grammar or options.json_schema is None:
        return options.grammar
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        return str(json_schema_to_gbnf(json.dumps(options.json_schema)))
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
        NotImplementedError,
        RecursionError,
    ) as error:
        raise BackendError(f"The JSON schema cannot be used: {error!r:.200}. Mend it, or ask without.") from error
