"""The statistics on the data screen: a button and a place for one piece of HTML. No domain logic."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr


class Statistics(NamedTuple):
    """Widgets of the section."""

    refresh: gr.Button
    shown: gr.HTML


def statistics() -> Statistics:
    """Build the section, empty: what it shows is computed when the screen is opened."""
    with gr.Row():
        gr.Markdown("## Statistics")
        refresh = gr.Button("Refresh", scale=0, min_width=160, elem_id="statistics-refresh")
    shown = gr.HTML(elem_id="statistics", apply_default_css=False, js_on_load=None, min_height=120)
    return Statistics(refresh, shown)
