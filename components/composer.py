"""The composer: the message with its pictures, the models to ask, and how to sample. Builds widgets, nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr


class Composer(NamedTuple):
    """Widgets of the composer; the page fills ``lanes`` with the paths that are shown, ``best`` with the wish for the
    best of n, ``pictures`` with those of the message that are in the store already, ``more`` with the sampling options
    that it draws itself, and ``kept`` with the settings that this browser remembers, all as JSON."""

    lanes: gr.Textbox
    best: gr.Textbox
    pictures: gr.Textbox
    more: gr.Textbox
    kept: gr.Textbox
    box: gr.MultimodalTextbox
    models: gr.Dropdown
    replies: gr.Number
    temperature: gr.Slider
    max_tokens: gr.Slider
    seed: gr.Textbox
    system: gr.Textbox
    stop: gr.Button

    @property
    def settings(self) -> list[gr.components.Component]:
        """What decides how to ask, in the order of ``studio.api.how_to_ask``."""
        return [self.models, self.replies, self.temperature, self.max_tokens, self.seed, self.system, self.more]

    @property
    def changes(self) -> list[Any]:
        """The events by which the page learns of a changed setting."""
        widgets = (self.models, self.replies, self.temperature, self.max_tokens, self.seed, self.system)
        return [w.change for w in widgets]


def composer(models: list[str], chosen: list[str], max_replies: int) -> Composer:
    """Build the composer with the models that can be asked and those chosen at first."""
    with gr.Column(elem_id="composer"):
        lanes, best, pictures, more, kept = (gr.Textbox(visible=False) for _ in range(5))
        gr.HTML(
            '<div id="judge-state" role="status" hidden></div><div id="steer-run"></div><div id="lane-note"></div><div id="picture-chips"></div>',
            elem_id="lane-note-place",
        )
        with gr.Row(elem_id="composer-row"):
            box = gr.MultimodalTextbox(
                placeholder="Ask a question. Paste or drop pictures. Enter sends, Shift+Enter makes a new line.",
                file_types=[".png", ".jpg", ".jpeg", ".webp", ".gif"], file_count="multiple", show_label=False, label="Message",
                lines=1, max_lines=8, max_plain_text_length=250_000, submit_btn=True, elem_id="message",
            )  # fmt: skip
            stop = gr.Button("Stop", variant="stop", elem_id="stop", scale=0, min_width=64)
        with gr.Row(elem_id="ask-row"):
            picked = gr.Dropdown(
                models, value=chosen, multiselect=True, label="Models", elem_id="models", scale=3, min_width=200
            )
            replies = gr.Number(1, minimum=1, maximum=max_replies, precision=0, label="Replies of each", elem_id="replies", scale=0,
                                min_width=205)  # fmt: skip
        gr.HTML('<div id="steer-best"></div>', elem_id="steer-best-place")
        with gr.Accordion("Sampling and system prompt", open=False, elem_id="sampling"):
            with gr.Row():
                temperature = gr.Slider(0, 2, 0.7, step=0.05, label="Temperature", min_width=120)
                max_tokens = gr.Slider(1, 4096, 512, step=1, label="Longest reply (tokens)", min_width=120)
                # no Number: Gradio makes 0 of an empty one as soon as it is seen, and every reply would be the same
                seed = gr.Textbox(label="Seed", placeholder="Empty: a new one each time", max_lines=1, min_width=120)
            system = gr.Textbox(label="System prompt", lines=1, placeholder="None", max_lines=6)
            gr.HTML('<div id="sampling-more"></div>', elem_id="sampling-more-place")
        gr.HTML('<div id="sampling-set"></div>', elem_id="sampling-set-place")
    return Composer(
        lanes, best, pictures, more, kept, box, picked, replies, temperature, max_tokens, seed, system, stop
    )
