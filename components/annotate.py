"""The annotate and judge screens: empty places that ``assets/annotate.js`` and ``judge.js`` fill. No domain logic."""

from __future__ import annotations

import gradio as gr

from components.parts import place


def annotate() -> gr.HTML:
    """Build the screen."""
    return place("annotate", "annotate", "Things to judge")


def judge() -> gr.HTML:
    """Build the screen on which judges are trained and chosen."""
    return place("judge", "judge", "Judges")
