"""The annotate screen: one empty place that ``assets/annotate.js`` fills. No domain logic."""

from __future__ import annotations

import gradio as gr

from components.parts import place


def annotate() -> gr.HTML:
    """Build the screen."""
    return place("annotate", "annotate", "Things to judge")
