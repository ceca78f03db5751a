"""The command line: serve, import, export, train, score, doctor. Imports what a command needs when it runs, so that --help is quick."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from studio import StudioError, __version__, cli_judge
from studio.bar import Bar
from studio.config import home_folder, load, load_rubric

COMMANDS = ("serve", "import", "export", "train", "score", "download", "doctor")
Answer = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Returns 0, 1 with one line for what the person can fix, or 130 after Ctrl+C; 2 for wrong usage (argparse)."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or (given[0] not in COMMANDS and given[0] not in ("-h", "--help", "--version")):
        given = ["serve", *given]  # plain `intermt-studio --port 8000` opens the studio
    args = parser().parse_args(given)
    try:
        answer, code = args.run(args)
        if args.json and answer is not None:
            print(json.dumps(answer, ensure_ascii=False))
        sys.stdout.flush()
    except BrokenPipeError:  # who reads has read enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StudioError as error:
        if args.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"intermt-studio: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("intermt-studio: stopped; what was finished before stays.", file=sys.stderr)
        return 130
    return int(code)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--home", type=Path, help="folder with the database, pictures and settings (or INTERMT_STUDIO_HOME)"
    )
    shared.add_argument(
        "--json", action="store_true", help="one JSON object on standard output, progress on standard error"
    )
    top = argparse.ArgumentParser(
        prog="intermt-studio", description="Chat, branch, rate: multimodal dialogues as trees, kept on this computer."
    )
    top.add_argument("--version", action="version", version=f"intermt-studio {__version__}")
    commands = top.add_subparsers(title="commands", required=True)
    _serve_options(_command(commands, "serve", _serve, "open the studio in the browser (the default)", shared))

    _import_options(_command(commands, "import", _import, "bring dialogues in; twice adds nothing", shared))

    write = _command(
        commands, "export", _export, "write trees, pictures and judgements to a file that another studio reads", shared
    )
    write.add_argument("out", type=Path, help="a .zip, or a folder to make")
    write.add_argument("--format", default="studio", choices=("studio",))
    write.add_argument("--force", action="store_true", help="replace what is there")

    cli_judge.train_options(
        _command(
            commands,
            "train",
            cli_judge.train,
            "train a judge on what is rated; the same command again goes on after a stop",
            shared,
        )
    )

    cli_judge.score_options(
        _command(commands, "score", cli_judge.score, "score replies with a judge and keep the scores", shared)
    )

    fetch = _command(commands, "download", _download, "fetch a model from the hub; again goes on after a cut", shared)
    fetch.add_argument("repository", help="owner/model")
    fetch.add_argument(
        "files", nargs="*", help="a GGUF and its mmproj; without, all that transformers or diffusers reads"
    )

    _command(commands, "doctor", _doctor, "say what works here and what to do about the rest", shared)
    return top


def _command(
    commands: Any, name: str, run: Callable[..., Any], about: str, shared: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, parents=[shared], help=about, description=about)
    made.set_defaults(run=run)
    return made


def _import_options(read: argparse.ArgumentParser) -> None:
    read.add_argument("path", type=Path, help="a file, or a folder of them")
    read.add_argument("--format", default="auto", choices=("auto", "intermt-bench", "intermt-web", "oasst", "studio"))
    read.add_argument(
        "--images", type=Path, help="folder with pictures that the file refers to; fills in missing ones too"
    )
    read.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be read, and import the rest")
    read.add_argument(
        "--states",
        default="",
        help="OpenAssistant: states of trees to import, by commas; all; without: ready_for_export",
    )
    read.add_argument(
        "--labels",
        default="",
        help="OpenAssistant: label averages to keep as scores, such as quality,helpfulness; or all",
    )


def _serve_options(serve: argparse.ArgumentParser) -> None:
    serve.add_argument("--port", type=int, help="7860 if free; 0 takes any free one")
    serve.add_argument("--host", help="127.0.0.1: this computer only")
    serve.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    serve.add_argument(
        "--demo", action="store_true", help="use a temporary folder with a demo dialogue; nothing is kept"
    )
    serve.add_argument("--allow-remote", action="store_true", help="let other computers in; needs --password-env")
    serve.add_argument(
        "--password-env", metavar="NAME", help="environment variable with the password for --allow-remote"
    )


def _serve(args: argparse.Namespace) -> tuple[Answer | None, int]:
    from studio.server import serve

    password = os.environ.get(args.password_env) if args.password_env else None
    flags = {"port": args.port, "host": args.host}
    if not args.demo:
        serve(load(home_folder(args.home), **flags), not args.no_browser, args.allow_remote, password)
        return None, 0
    with tempfile.TemporaryDirectory(prefix="intermt-studio-demo-", ignore_cleanup_errors=True) as folder:
        from studio.demo import fill

        fill(Path(folder))
        serve(load(Path(folder), **flags), not args.no_browser, args.allow_remote, password)
    return None, 0


def _import(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import exchange
    from studio.media import Media
    from studio.store import Store

    home = home_folder(args.home)
    load_rubric(home)
    me = load(home).annotator
    states, labels = ([x.strip() for x in given.split(",") if x.strip()] for given in (args.states, args.labels))
    store = Store(home)
    with closing(store), closing(Bar({})) as bar:
        media = Media(store.home)
        report = exchange.import_path(
            store,
            media,
            args.path,
            args.format,
            args.images,
            args.skip_bad,
            bar,
            annotator=me,
            states=states,
            labels=labels,
        )
    return _told(args, report)


def _export(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import exchange
    from studio.media import Media
    from studio.store import Store

    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:
        me = load(store.home).annotator
        report = exchange.export_studio(
            store, Media(store.home), args.out, progress=bar, force=args.force, annotator=me
        )
    if not args.json:
        print(
            f"{report.trees} trees, {report.nodes} messages, {report.images} pictures and {report.scores} scores are in {args.out}."
        )
    return asdict(report), 0


def _download(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import downloads

    with closing(Bar({})) as bar:

        def tell(line: Answer) -> None:
            if args.json:
                print(json.dumps(line), file=sys.stderr, flush=True)
            elif "step" in line:
                bar(line["step"], line["steps"], "bytes")

        found = downloads.fetch(home_folder(args.home), args.repository, args.files, tell)
    if not args.json:
        print(f"{args.repository}: {len(found['files'])} files, {found['bytes']:,} bytes, are in {found['folder']}.")
    return found, 0


def _told(args: argparse.Namespace, report: Any) -> tuple[Answer, int]:
    if not args.json:
        print(report.sentence())
        for line in report.skipped:
            print(f"left out: {line}", file=sys.stderr)
    return asdict(report), 0


def _doctor(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import doctor

    findings = doctor.inspect(home_folder(args.home))
    if not args.json:
        wide = max(len(f.area) for f in findings) + 2  # names of models are as long as people make them
        for f in findings:
            print(f"{f.state:8}{f.area:{wide}}{f.text}")
            if f.next_step:
                print(f"{'':{8 + wide}}-> {f.next_step}")
    return {"findings": [asdict(f) for f in findings]}, int(any(f.state == "missing" for f in findings))


if __name__ == "__main__":
    sys.exit(main())
