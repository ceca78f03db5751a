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

from backends import BackendError, keys
from backends.servers import presets
from components import settings
from components.annotate import annotate, judge
from components.composer import Composer, composer
from components.data import Data, data
from components.parts import Parts, bridge, place
from components.servers import ServerForm
from studio import (
    StudioError,
    __version__,
    actions,
    api,
    exchange,
    pictures,
    sampling,
    statistics,
    statistics_section,
    views,
    waiting,
)
from studio.actions import Studio, models, servers
from studio.tree import Part

# our own files rather than Gradio's css parameter, which would confine every rule to its container
STYLES = "".join(
    f'<link rel="stylesheet" href="/studio/{name}.css">'
    for name in ("studio", "treemap", "feedback", "annotate", "judge", "learning", "panel", "statistics", "steering", "models", "picture", "retrieve",
                 "checks", "sampling", "waiting", "generate", "proposals")
)  # fmt: skip
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
                exchanging = data(views.counted(studio))
            with gr.Tab("Settings", id="settings"):
                place("models", "models", "Models on this machine")
                server = settings.server([p.name for p in presets()], keys.trouble(), servers.CAN)
                place("image-models", "models", "Models that draw")
                settings.about(models.about(studio))
        _wire_asking(studio, parts, asking, page)
        _wire_data(studio, parts, exchanging)
        _wire_statistics(studio, data_tab, exchanging)
        _wire_settings(studio, parts, server, asking)
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
            replies = waiting.ask(studio, shown, text, files, api.how_to_ask(*how), json.loads(best or "null"))
        except (StudioError, BackendError) as error:  # what was typed stays in the box
            return gr.skip(), {"message": str(error), "bad": True, "n": next(_serial)}
        return gr.MultimodalTextbox(value={"text": "", "files": []}), {"asked": replies, "n": next(_serial)}

    def follow(event: gr.EventData) -> Iterator[dict[str, Any]]:
        tree = str((event._data or {}).get("tree"))
        for runs, over in waiting.follow(studio, tree):
            studio.judge.look(tree)
            yield {"live": [views.growing(studio, r) for r in runs], "tree": tree, "over": over, "n": next(_serial)}
        if studio.judge.name and studio.judge.settle(10.0):  # once more, now that the judge has read the whole reply
            yield {"judged": tree, "n": next(_serial)}

    def seed(event: gr.EventData) -> Any:
        return gr.MultimodalTextbox(value={"text": str((event._data or {}).get("text", ""))[:2000], "files": []})

    quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    asking.box.submit(
        send, [asking.lanes, asking.best, asking.pictures, asking.box, *asking.settings], [asking.box, parts.bridge],
        js="(lanes, best, kept, ...rest) => [studio.lanes(), studioSteering.wish(), studioPictures.attached(), "
           "...rest.slice(0, -1), studioSampling.more()]",
        **quick,
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
    _wire_memory(studio, asking, page)


def _wire_memory(studio: Studio, asking: Composer, page: gr.Blocks) -> None:
    """The settings below the message: known to our scripts, and as this browser left them."""

    def remembered(kept: str) -> list[Any]:
        chosen, *others = sampling.remembered(studio, kept)
        models_box = gr.Dropdown(choices=[m.name for m in studio.config.models], value=chosen)
        return [models_box, *(gr.skip() if v is None else v for v in others), gr.skip()]

    # at load our own scripts may not be there yet
    remember = "(...values) => { window.studioHow = values; window.studio?.emit('how'); }"
    gr.on([page.load, *asking.changes], None, asking.settings, js=remember, api_visibility="private")
    page.load(
        remembered,
        asking.kept,
        asking.settings,
        js="() => [localStorage.getItem('studio-how') || '']",
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    ).then(None, None, None, js="() => { window.studioKept = true; }", api_visibility="private")


# ---- import and export


def _steps(progress: gr.Progress) -> exchange.Progress:
    return lambda done, total, what: progress((done, total) if total else None, desc=what)


def _wire_data(studio: Studio, parts: Parts, ui: Data) -> None:
    @told
    def load(
        upload: str | None,
        path: str,
        images: str,
        skip_bad: bool,
        labels: bool,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        source = upload or path.strip()
        if not source:
            raise StudioError("Choose a file, or type the path of a file or folder.")

        folder = Path(images.strip()).expanduser() if images.strip() else None
        kept: Any = {"annotator": studio.config.annotator, "labels": ("all",) if labels else ()}
        file, steps = Path(source).expanduser(), _steps(progress)
        report = exchange.import_path(studio.store, studio.media, file, "auto", folder, skip_bad, steps, **kept)
        return report.sentence(), views.counted(studio), {"changed": True, "n": next(_serial)}

    @told
    def save(progress: gr.Progress = gr.Progress()) -> Any:  # noqa: B008
        folder = studio.config.home / "exports"
        folder.mkdir(exist_ok=True)
        out = folder / "intermt-studio.zip"
        me = studio.config.annotator
        exchange.export_studio(studio.store, studio.media, out, None, _steps(progress), True, me)
        return gr.DownloadButton(f"Download ({out.stat().st_size / 2**20:.1f} MB)", value=str(out), visible=True)

    ui.load.click(
        load,
        [ui.upload, ui.path, ui.images, ui.skip_bad, ui.labels],
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


# ---- settings


def _wire_settings(studio: Studio, parts: Parts, server: ServerForm, asking: Composer) -> None:
    def changed() -> Any:
        return gr.Dropdown(choices=[m.name for m in studio.config.models])

    parts.bridge.models(changed, outputs=asking.models, queue=False, show_progress="hidden", api_visibility="private")
    _wire_server(studio, server, asking.models, changed)


def _wire_server(studio: Studio, ui: ServerForm, listed: gr.Dropdown, changed: Callable[[], Any]) -> None:
    def fill(name: str) -> Any:
        return servers.fill(name) or gr.skip()  # another one: what was typed stays

    def tried(act: Callable[..., dict[Any, Any]]) -> Callable[..., dict[Any, Any]]:
        def safe(*given: Any) -> dict[Any, Any]:
            try:
                return act(*given)
            except (StudioError, BackendError) as error:  # it stays beside the form, longer than a toast
                return {ui.said: str(error)}

        return safe

    @tried
    def offered(*where: Any) -> dict[Any, Any]:
        names = servers.listed(servers.form(*where))
        chosen = names[0] if len(names) == 1 else None
        return {
            ui.model: gr.Dropdown(choices=names, value=chosen),
            ui.said: f"It offers {len(names)}: {', '.join(names)[:600]}",
        }

    @tried
    def test(model: str, *where: Any) -> dict[Any, Any]:
        return {ui.said: servers.tried(servers.form(*where), model)}

    @tried
    def add(name: str, model: str, *where: Any) -> dict[Any, Any]:
        said = servers.add(studio, servers.form(*where), model, name, where[ui.where.index(ui.key)])
        return {ui.said: said, ui.name: "", ui.key: "", listed: changed()}

    ui.preset.change(fill, ui.preset, [ui.url, ui.key_env, ui.said], queue=False, api_visibility="private")
    ui.offered.click(offered, ui.where, [ui.model, ui.said], api_visibility="private")
    ui.test.click(test, [ui.model, *ui.where], ui.said, api_visibility="private")
    ui.add.click(
        add, [ui.name, ui.model, *ui.where], [ui.said, ui.name, ui.key, listed], api_visibility="private"
    ).then(None, None, None, js="() => { studio.emit('models'); }", api_visibility="private")
