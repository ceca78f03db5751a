"""Empty places that our own scripts fill: the list, the transcript, the map, the inspector, and the bridge to the server.

Builds Gradio's HTML components with a constant template; what they show comes from ``assets/*.js``. No domain logic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

SCRIPTS = ("boot", "studio", "feedback", "rating", "claim", "judgebar", "waiting", "transcript", "places", "notes",
           "crucial", "steering", "picture_view", "picture_tools", "picture_lineage", "picture_mask", "picture_model",
           "checks", "picture", "picture_chips", "retrieve",
           "generate_runs", "generate", "generate_models",
           "proposal_forms", "proposals", "sampling", "sidebar", "treemap_layout", "treemap_paint", "treemap", "inspector",
           "keys", "verify", "annotate", "panel", "learning", "judgecurves", "judge_state", "judge_form",
           "judge_jobs", "judge_versions", "judge", "models")  # fmt: skip


class Parts(NamedTuple):
    """The mounted places, and the bridge that carries calls, streams and asked-for reloads."""

    bridge: gr.HTML
    sidebar: gr.HTML
    transcript: gr.HTML
    map: gr.HTML
    inspector: gr.HTML


def bridge(call: Callable[[dict[str, Any]], dict[str, Any]], version: str) -> gr.HTML:
    """The invisible component through which the page calls ``call`` and receives streams; also loads the scripts, in order."""
    # async = false keeps their order; Gradio waits for all of them before it runs js_on_load
    head = "".join(f'<script src="/studio/{name}.js?v={version}"></script>' for name in SCRIPTS)
    return gr.HTML(
        value=None, html_template="", elem_id="bridge", visible="hidden", head=head, server_functions=[call],
        js_on_load="studio.connect({element, trigger, watch, props, server}); // triggers 'follow', 'seed' and 'models'",
    )  # fmt: skip


def place(name: str, inner: str, label: str) -> gr.HTML:
    """One empty place, ``<div class=inner>``, that the script of that name fills."""
    template = f'<div class="{inner}" role="region" aria-label="{label}"></div>'
    return gr.HTML(
        value=None, html_template=template, elem_id=f"part-{name}", apply_default_css=False,
        js_on_load=(
            f"const join = () => window.studio ? studio.part('{name}', element) : setTimeout(join, 10); join();"
        ),
    )  # fmt: skip
