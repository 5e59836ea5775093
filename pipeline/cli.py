"""The `osr` command: one tree of commands. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.version import VERSION
from pipeline.arguments import path
from pipeline.commands import COMMANDS, full

Parser = argparse.ArgumentParser

SHELLS = ("bash", "zsh", "tcsh")
# What a place can have against a file, and is no mistake of ours: it is full, read-only, forbidden ...
PLACES = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input ends with its sentence on standard error and status 1."""
    options = make_parser().parse_args(arguments)
    if (here := str(Path.cwd())) not in sys.path:  # modules of the user's own stand beside params.yaml
        sys.path.insert(0, here)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        status: int = importlib.import_module(options.module).run(options)
        sys.stdout.flush()  # here, where a reader that went away is no error
    except InputError as error:
        sys.stderr.write(f"ERROR: {error}\n")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor when the interpreter ends
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in PLACES:
            raise
        sys.stderr.write(
            f"ERROR: {error.filename or 'the output'} cannot be read or written: {error.strerror}.\n"
        )
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("ERROR: interrupted.\n")
        return 128 + signal.SIGINT
    return status


def make_parser() -> Parser:
    """The whole tree; each command names the module whose `run(options)` does it."""
    parser = Parser(
        prog="osr",
        description="Open-set recognition: train, judge, compare. Run it where params.yaml and dvc.yaml are.",
        epilog="`osr COMMAND --help` says more. A single stage is `osr run STAGE`, or `dvc repro STAGE`.",
    )
    parser.add_argument("--version", action="version", version=f"osr {VERSION}")
    parser.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=_PrintCompletion,
        help='print completion for a shell: eval "$(osr --print-completion bash)"',
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, (module, told, add_arguments) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=told,
            description=full(name, told),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(module=module)
        add_arguments(command)
    return parser


class _PrintCompletion(argparse.Action):
    def __call__(self, parser: Parser, _namespace: Any, shell: Any, _option: str | None = None) -> None:
        import shtab

        for action in _actions(parser):
            if action.type is path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(shtab.complete(parser, shell) + "\n")
        parser.exit()


def _actions(parser: Parser) -> Iterator[argparse.Action]:
    """Of the parser and of all below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


if __name__ == "__main__":
    sys.exit(main())
