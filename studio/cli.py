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

from studio import StudioError, __version__
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
    except StudioError as error:
        if args.json:
            print(json.dumps({"error": str(error)}))
        else:
            print(f"intermt-studio: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("intermt-studio: stopped; what was finished before stays.", file=sys.stderr)
        return 130
    if args.json and answer is not None:
        print(json.dumps(answer, ensure_ascii=False))
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

    read = _command(commands, "import", _import, "bring dialogues in; twice adds nothing", shared)
    read.add_argument("path", type=Path, help="a file, or a folder of them")
    read.add_argument("--format", default="auto", choices=("auto", "intermt-bench", "intermt-web", "studio"))
    read.add_argument(
        "--images", type=Path, help="folder with pictures that the file refers to; fills in missing ones too"
    )
    read.add_argument("--skip-bad", action="store_true", help="leave out rows that cannot be read, and import the rest")

    write = _command(
        commands, "export", _export, "write trees, pictures and judgements to a file that another studio reads", shared
    )
    write.add_argument("out", type=Path, help="a .zip, or a folder to make")
    write.add_argument("--format", default="studio", choices=("studio",))
    write.add_argument("--force", action="store_true", help="replace what is there")

    _train_options(
        _command(
            commands,
            "train",
            _train,
            "train a judge on what is rated; the same command again goes on after a stop",
            shared,
        )
    )

    judged = _command(commands, "score", _score, "score replies with a judge and keep the scores", shared)
    judged.add_argument("--judge", required=True, help="name of a trained judge")
    judged.add_argument("--tree", help="id of one tree; without it, all")

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


def _train_options(train: argparse.ArgumentParser) -> None:
    asked = train.add_mutually_exclusive_group(required=True)
    asked.add_argument("--name", help="what the judge is called; judges never change, so each has its own")
    asked.add_argument(
        "--curve", action="store_true",
        help="train no judge: measure accuracy against the number of ratings, with --base, --level and --seed",
    )  # fmt: skip
    train.add_argument(
        "--base", default="builtin", help="backbone: builtin (SmolLM2-135M), a folder, a .gguf file, or owner/model"
    )
    train.add_argument("--level", default="both", choices=("local", "global", "both"))
    train.add_argument("--epochs", type=float, default=3.0)
    train.add_argument(
        "--seed", type=int, default=0, help="deals trees into training, validation and test; orders them"
    )
    train.add_argument("--rank", type=int, default=16, help="of LoRA; 0 trains the score head alone")
    train.add_argument("--rate", type=float, default=2e-4, help="learning rate of LoRA")
    train.add_argument("--max-tokens", type=int, default=2048, help="of a packed sequence: less needs less memory")


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

    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:
        media = Media(store.home)
        report = exchange.import_path(store, media, args.path, args.format, args.images, args.skip_bad, bar)
    return _told(args, report)


def _export(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import exchange
    from studio.media import Media
    from studio.store import Store

    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:
        report = exchange.export_studio(store, Media(store.home), args.out, progress=bar, force=args.force)
    if not args.json:
        print(
            f"{report.trees} trees, {report.nodes} messages, {report.images} pictures and {report.scores} scores are in {args.out}."
        )
    return asdict(report), 0


def _train(args: argparse.Namespace) -> tuple[Answer | None, int]:
    if args.curve:
        return _curve(args)
    from studio import teaching
    from studio.media import Media
    from studio.store import Store

    load_rubric(home_folder(args.home))
    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar, teaching.judging():
        from judge.model import LoraSettings
        from judge.training import Settings

        settings = Settings(base=args.base, level=args.level, epochs=args.epochs, seed=args.seed, learning_rate=args.rate,
                            max_tokens=args.max_tokens, lora=LoraSettings(rank=args.rank, alpha=2 * args.rank))  # fmt: skip

        def line(told: Answer) -> None:
            if args.json:
                print(json.dumps(told), file=sys.stderr)
            elif "step" in told:
                bar(told["step"], told["steps"], "steps")
            else:
                for warning in told.get("data", {}).get("warnings", [f"{told['stage']} ..."]):
                    print(warning, file=sys.stderr)

        found = teaching.train(store, Media(store.home), args.name, settings, bar, line)
    if int(os.environ.get("RANK", "0")):  # one of several processes: the first one speaks for all
        return None, 0
    if not args.json:
        print(teaching.sentence(found))
    return found, 130 if found["interrupted"] else 0


def _curve(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import learning
    from studio.media import Media
    from studio.store import Store

    load_rubric(home_folder(args.home))
    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:

        def step(done: int, total: int, left: float | None) -> None:
            if args.json:
                line = {"step": done, "steps": total, "eta_s": None if left is None else round(left, 1)}
                print(json.dumps(line), file=sys.stderr, flush=True)
            else:
                bar(done, total, "steps")

        found = learning.draw(store, Media(store.home), args.base, args.level, args.seed, step)
    if not args.json:
        print(learning.sentences(found))
    return found, 0


def _score(args: argparse.Namespace) -> tuple[Answer, int]:
    from studio import teaching
    from studio.media import Media
    from studio.store import Store

    load_rubric(home_folder(args.home))
    store = Store(home_folder(args.home))
    with closing(store), closing(Bar({})) as bar:
        trees = [args.tree] if args.tree else store.tree_ids()
        found = teaching.score(store, Media(store.home), args.judge, trees, bar)
    if not args.json:
        print(f"{found['replies']} replies of {found['trees']} trees are scored by {args.judge}.")
    return found, 0


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
