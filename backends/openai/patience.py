"""How long to wait before a busy server is asked again.

Owns the waits and their limits. Never asks: whoever does may be stopped while it waits.
"""

from __future__ import annotations

import math
import random
import time
from email.utils import parsedate_to_datetime
from typing import Any

BUSY = (429, 502, 503, 504, 529)  # it says itself that later is better; other errors would only come again
FIRST_S, FACTOR = 0.5, 2.0
MOST_S = 60.0  # of waiting for one reply, all in all: then a person should decide
NO_MORE = ("insufficient_quota", "billing_hard_limit_reached")  # status 429, and waiting does not fill an account


class Patience:
    """The waits of one reply: what the server asks for with Retry-After, else 0.5 s, doubled each time, and a little chance."""

    def __init__(self, retries: int) -> None:
        self.left, self.waited_s, self._next_s = retries, 0.0, FIRST_S

    def wait_s(self, error: Any) -> float | None:
        """Seconds until the next try after an ``openai.APIStatusError``; None when there should be none."""
        body = error.body if isinstance(error.body, dict) else {}
        if error.status_code not in BUSY or not self.left or body.get("code") in NO_MORE:
            return None
        asked = asked_s(error.response.headers)
        wait = self._next_s * random.uniform(0.8, 1.2) if asked is None else asked
        if self.waited_s + wait > MOST_S:
            return None
        self.left, self.waited_s, self._next_s = self.left - 1, self.waited_s + wait, self._next_s * FACTOR
        return wait


def asked_s(headers: Any) -> float | None:
    """What Retry-After asks for, in seconds: a number or a date (RFC 9110, 10.2.3). None: nothing that can be read."""
    asked = str(headers.get("retry-after", "")).strip()
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(asked).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
