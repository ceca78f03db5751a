"""The data screen: import, export, what there is, and statistics."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from components.statistics import Statistics, statistics


class Data(NamedTuple):
    """Widgets of the data screen."""

    upload: gr.File
    path: gr.Textbox
    images: gr.Textbox
    skip_bad: gr.Checkbox
    labels: gr.Checkbox
    load: gr.Button
    imported: gr.Markdown
    save: gr.Button
    saved: gr.DownloadButton
    counts: gr.Markdown
    statistics: Statistics


def data(counts: str) -> Data:
    """Build the screen; ``counts`` is a Markdown table of what there is."""
    with gr.Column(elem_classes="page"):
        gr.Markdown(
            "## Import\nDialogues of this studio (`.zip`, `.jsonl`), of the InterMT web examples, rows of InterMT-Bench, or "
            "OpenAssistant's trees and messages (`.jsonl`, `.jsonl.gz`), with their ranks as comparisons. "
            "Importing the same file twice adds nothing."
        )
        with gr.Row():
            upload = gr.File(
                label="A file", file_count="single", file_types=[".json", ".jsonl", ".zip", ".gz"], height=130
            )
            with gr.Column():
                path = gr.Textbox(label="Or a file or folder on this computer", placeholder="/home/me/intermt_examples")
                images = gr.Textbox(
                    label="Folder with the pictures, if they are apart",
                    placeholder="Fills in pictures that were missing, too",
                )
        with gr.Row():
            skip_bad = gr.Checkbox(label="Leave out rows that cannot be read, and import the rest", value=False)
            labels = gr.Checkbox(label="Keep OpenAssistant's label averages as scores of own dimensions", value=False)
            load = gr.Button("Import", variant="primary", scale=0, min_width=160, elem_id="import-button")
        imported = gr.Markdown(elem_id="import-report")
        gr.Markdown(
            "## Export\nEvery tree with its pictures and judgements in one `.zip`, which another studio imports without loss."
        )
        with gr.Row():
            save = gr.Button("Make the file", scale=0, min_width=160)
            saved = gr.DownloadButton("Download", visible=False, scale=0, min_width=160)
        gr.Markdown("## What there is")
        table = gr.Markdown(counts, elem_id="counts")
        section = statistics()
    return Data(upload, path, images, skip_bad, labels, load, imported, save, saved, table, section)
