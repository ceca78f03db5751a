"""The screens: places the components and wires what the user does to ``studio.actions``. No domain logic, no SQL.

Gradio carries the composer, the settings and one stream of growing replies; everything else on the page calls
``studio.api`` through the bridge.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # must be set before the import: no telemetry

import gradio as gr
from fastapi import FastAPI

from backends import BackendError, ModelSpec
from components.annotate import annotate, judge
from components.composer import Composer, composer
from components.data import Data, data
from components.parts import Parts, bridge, place
from components.settings import Settings, settings
from studio import (
    StudioError,
    __version__,
    actions,
    api,
    exchange,
    pictures,
    statistics,
    statistics_section,
    steering,
    views,
)
from studio.actions import Studio
from studio.tree import Part

# our own files rather than Gradio's css parameter, which would confine every rule to its container
STYLES = "".join(
    f'<link rel="stylesheet" href="/studio/{name}.css">'
    for name in ("studio", "treemap", "feedback", "annotate", "judge", "learning", "panel", "statistics", "steering", "picture")
)
_serial = itertools.count()  # two equal answers in a row must still reach the page


def told(handler: Callable[..., Any]) -> Callable[..., Any]:
    """The one boundary: what the person can mend becomes a message on the screen, and nothing they typed is lost."""

    @functools.wraps(handler)
    def safe(*args: Any) -> Any:
        try:
            return handler(*args)
        except (StudioError, BackendError) as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from error

    return safe


def build(studio: Studio) -> gr.Blocks:
    """The whole page over an open studio."""

    def studio_call(request: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(request, dict):
            return {"error": "The page sent something that is no request. Reload it."}
        return api.handle(studio, str(request.get("name")), request.get("data") or {})

    with gr.Blocks(title="intermt-studio", fill_height=True, fill_width=True, analytics_enabled=False) as page:
        link = bridge(studio_call, __version__)
        with gr.Tabs(elem_id="screens"):
            with gr.Tab("Explore", id="explore"):
                parts, asking = _explore(studio, link)
            with gr.Tab("Annotate", id="annotate"):
                annotate()
            with gr.Tab("Judge", id="judge"):
                judge()
            with gr.Tab("Data", id="data") as data_tab:
                exchanging = data(_counts(studio))
            with gr.Tab("Settings", id="settings"):
                setting = settings(_model_rows(studio), _removable(studio), _about(studio))
        _wire_asking(studio, parts, asking, page)
        _wire_data(studio, parts, exchanging)
        _wire_statistics(studio, data_tab, exchanging)
        _wire_settings(studio, parts, setting, asking)
    return page


def mount(app: FastAPI, studio: Studio, max_upload_bytes: int) -> None:
    """Put the page at ``/`` of a web application, with everything off that talks to others or keeps copies in the browser."""
    theme = gr.themes.Base(primary_hue="indigo", neutral_hue="slate", radius_size="md",
                           font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])  # fmt: skip
    # Gradio's own greys are too faint to be read at these sizes
    theme = theme.set(body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_300",
                      input_placeholder_color="*neutral_500", input_placeholder_color_dark="*neutral_400")  # fmt: skip
    gr.mount_gradio_app(
        app, build(studio), path="/", theme=theme, head=STYLES, footer_links=[], run_history=False, max_file_size=max_upload_bytes,
        show_error=True, ssr_mode=False, enable_monitoring=False, pwa=False, mcp_server=False,
    )  # fmt: skip


def _explore(studio: Studio, link: gr.HTML) -> tuple[Parts, Composer]:
    names = [m.name for m in studio.config.models]
    with gr.Row(elem_id="explore", equal_height=True):
        with gr.Column(elem_id="pane-left", min_width=0):
            left = place("sidebar", "sidebar", "Dialogues")
        with gr.Column(elem_id="pane-centre", min_width=0):
            centre = place("transcript", "transcript", "The current path")
            asking = composer(names, names[:1], actions.MAX_REPLIES)
        with gr.Column(elem_id="pane-right", min_width=0):
            tree_map = place("map", "tree-map", "Tree map")
            inspector = place("inspector", "inspector", "Inspector")
    return Parts(link, left, centre, tree_map, inspector), asking


# ---- asking and watching


def _wire_asking(studio: Studio, parts: Parts, asking: Composer, page: gr.Blocks) -> None:
    def send(lanes: str, best: str, kept: str, message: dict[str, Any], *how: Any) -> tuple[Any, dict[str, Any]]:
        text = message.get("text") or ""
        files: list[Path | Part] = [Path(f) for f in message.get("files") or ()]
        shown = [str(lane) for lane in json.loads(lanes or "[]")]
        try:
            files += pictures.attached(studio, kept)
            replies = steering.ask(studio, shown, text, files, api.how_to_ask(*how), json.loads(best or "null"))
        except (StudioError, BackendError) as error:  # what was typed stays in the box
            return gr.skip(), {"message": str(error), "bad": True, "n": next(_serial)}
        return gr.MultimodalTextbox(value={"text": "", "files": []}), {"asked": replies, "n": next(_serial)}

    def follow(event: gr.EventData) -> Iterator[dict[str, Any]]:
        tree = str((event._data or {}).get("tree"))
        for runs in studio.live.follow(tree):
            over = all(r.over for r in runs)
            studio.judge.look(tree)
            yield {"live": [views.growing(studio, r) for r in runs], "tree": tree, "over": over, "n": next(_serial)}
        if studio.judge.name and studio.judge.settle(10.0):  # once more, now that the judge has read the whole reply
            yield {"judged": tree, "n": next(_serial)}

    def seed(event: gr.EventData) -> Any:
        return gr.MultimodalTextbox(value={"text": str((event._data or {}).get("text", ""))[:2000], "files": []})

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    asking.box.submit(
        send, [asking.lanes, asking.best, asking.pictures, asking.box, *asking.settings], [asking.box, parts.bridge],
        js="(lanes, best, kept, ...rest) => [studio.lanes(), studioSteering.wish(), studioPictures.attached(), ...rest]", **quick,
    )  # fmt: skip
    asking.stop.click(None, js="() => { studio.stop(); }", api_visibility="private")
    parts.bridge.follow(
        follow,
        outputs=parts.bridge,
        concurrency_limit=None,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="multiple",
    )  # the one stream of a page
    parts.bridge.seed(seed, outputs=asking.box, **quick)
    remember = "(...values) => { window.studioHow = values; }"  # at load our own scripts may not be there yet
    gr.on([page.load, *asking.changes], None, asking.settings, js=remember, api_visibility="private")
    page.load(lambda: gr.Dropdown(choices=[m.name for m in studio.config.models]), outputs=asking.models, **quick)


# ---- import and export


def _wire_data(studio: Studio, parts: Parts, ui: Data) -> None:
    @told
    def load(upload: str | None, path: str, images: str, skip_bad: bool, progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        source = upload or path.strip()
        if not source:
            raise StudioError("Choose a file, or type the path of a file or folder.")

        def show(done: int, total: int | None, what: str) -> None:
            progress((done, total) if total else None, desc=what)

        folder = Path(images.strip()).expanduser() if images.strip() else None
        report = exchange.import_path(studio.store, studio.media, Path(source).expanduser(), images=folder,
                                      skip_bad=skip_bad, progress=show)  # fmt: skip
        return report.sentence(), _counts(studio), {"changed": True, "n": next(_serial)}

    @told
    def save(progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        def show(done: int, total: int | None, what: str) -> None:
            progress((done, total) if total else None, desc=what)

        folder = studio.config.home / "exports"
        folder.mkdir(exist_ok=True)
        out = folder / "intermt-studio.zip"
        exchange.export_studio(studio.store, studio.media, out, progress=show, force=True)
        return gr.DownloadButton(f"Download ({out.stat().st_size / 2**20:.1f} MB)", value=str(out), visible=True)

    ui.load.click(
        load,
        [ui.upload, ui.path, ui.images, ui.skip_bad],
        [ui.imported, ui.counts, parts.bridge],
        api_visibility="private",
    )
    ui.save.click(save, outputs=ui.saved, api_visibility="private")


def _wire_statistics(studio: Studio, tab: gr.Tab, ui: Data) -> None:
    @functools.lru_cache(maxsize=1)  # nothing written since: the same figures
    def section(_stamp: int) -> str:
        return statistics_section.section(statistics.figures(studio.store, studio.config.annotator))

    @told
    def show() -> str:
        return section(studio.store.stamp())

    shown_at = [tab.select, ui.statistics.refresh.click, ui.imported.change]
    gr.on(shown_at, show, outputs=ui.statistics.shown, queue=False, api_visibility="private")


def _counts(studio: Studio) -> str:
    names = {"trees": "Trees", "nodes": "Questions and replies", "images": "Pictures", "scores": "Scores, changed ones included",
             "comparisons": "Comparisons", "feedback": "Feedback in words"}  # fmt: skip
    found = studio.store.counts()
    return "\n".join(["| | |", "|---|--:|", *(f"| {label} | {found[name]:,} |" for name, label in names.items())])


# ---- settings


def _wire_settings(studio: Studio, parts: Parts, ui: Settings, asking: Composer) -> None:
    def changed() -> tuple[Any, ...]:
        names = [m.name for m in studio.config.models]
        return gr.Dropdown(choices=names), _model_rows(studio), gr.Dropdown(choices=_removable(studio), value=None)

    @told
    def add(name: str, url: str, model: str, key: str) -> tuple[Any, ...]:
        if not url.strip() or not model.strip():
            raise StudioError("A server needs a base URL and the name of a model. Fill in both.")
        given = {"model": model.strip(), "base_url": url.strip(), "key_env": key.strip() or None}
        actions.add_model(studio, ModelSpec((name or model).strip(), "openai", {k: v for k, v in given.items() if v}))
        return changed()

    @told
    def remove(name: str | None) -> tuple[Any, ...]:
        if not name:
            raise StudioError("Choose a model to take out. The built-in ones stay.")
        actions.remove_model(studio, name)
        return changed()

    outputs = [asking.models, ui.models, ui.remove]
    ui.add.click(add, [ui.name, ui.url, ui.model, ui.key], outputs, api_visibility="private")
    ui.remove_button.click(remove, ui.remove, outputs, api_visibility="private")


def _model_rows(studio: Studio) -> list[list[str]]:
    return [[m.name, m.backend, ", ".join(f"{k} {v}" for k, v in m.settings.items())] for m in studio.config.models]


def _removable(studio: Studio) -> list[str]:
    return [m.name for m in studio.config.models if m.settings]


def _about(studio: Studio) -> str:
    lines = [f"Version {__version__}. Everything is kept in `{studio.config.home}`; judgements are signed “{studio.config.annotator}”.",
             "Models and the signature are set in `studio.toml` there."]  # fmt: skip
    return "\n\n".join([*lines, *studio.store.notices])
