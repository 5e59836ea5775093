"""The `osr` command: one tree of commands. Nothing heavy is imported before one of them runs."""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from osr.errors import sentence_of
from osr.settings.guesses import did_you_mean, none_of
from osr.version import VERSION
from pipeline.arguments import (
    exported_folder,
    growing_folder,
    images_folder,
    new_file,
    new_folder,
    new_picture,
    new_stem,
    origin,
    path,
    source,
    verdicts,
)
from pipeline.commands import COMMANDS, full, reads_settings
from pipeline.workspace.interrupts import LINE, STATUS, is_interrupt, while_ending, while_working
from pipeline.workspace.logs import start_logging
from pipeline.workspace.stages import PARAMS

_READ = (path, source, origin, verdicts, images_folder, exported_folder)
_PATHS = (*_READ, new_file, new_folder, growing_folder, new_picture, new_stem)
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


class Parser(argparse.ArgumentParser):
    """Says of a mistyped choice or option, such as a command, which one was meant; options are whole."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As `argparse`, but a command refuses what it does not know itself, with its own usage."""
        if self._subparsers is None:  # before what follows an unknown option is taken for something else
            options = [text for text in takewhile("--".__ne__, args or ()) if text.startswith("--")]
            known = self._option_string_actions
            self._refuse([text for text in options if text.partition("=")[0] not in known])
        found, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return found, unknown

    def _refuse(self, unknown: Sequence[str]) -> None:
        if not unknown:
            return
        nearest = did_you_mean(unknown[0].partition("=")[0], self._option_string_actions)
        if not nearest and "-S" in self._option_string_actions:
            nearest = "; a setting is given as -S KEY=VALUE"
        self.error(f"unrecognized arguments: {' '.join(unknown)}{nearest}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            choices = [str(choice) for choice in action.choices or ()]
            error.message = none_of(f"it is {value!r}", str(value), choices, f"one of {', '.join(choices)}")
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; bad input ends with its sentence on standard error and status 1."""
    _mend_streams()
    options = make_parser().parse_args(arguments)
    try:
        here = str(Path.cwd())
    except FileNotFoundError:
        sys.stderr.write("ERROR: the working directory is no longer there.\n")
        return 1
    if here not in sys.path:  # modules of the user's own stand beside params.yaml
        sys.path.insert(0, here)
    start_logging()
    try:
        if reads_settings(options) and not PARAMS.exists():
            importlib.import_module("osr.settings.reading").read_yaml(PARAMS)  # which says what to do
        if any(action.type in _PATHS for action in options.actions):
            importlib.import_module("pipeline.places").check_places(options.actions, options)
        module = importlib.import_module(options.module)
        while_working()
        status: int = module.run(options)
        sys.stdout.flush()  # here, where a reader that went away is no error
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor when the interpreter ends
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, Exception) as error:
        if is_interrupt(error):
            sys.stderr.write(LINE.decode())
            return STATUS
        if (sentence := _sentence(error)) is None:
            raise
        sys.stderr.write(f"ERROR: {sentence}\n")
        return 1
    finally:
        while_ending()
    return status


def _mend_streams() -> None:
    """Streams that were closed lead nowhere; characters that a terminal lacks have backslashes."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123, for as long as the process is
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _sentence(error: BaseException) -> str | None:
    """What to say of an error that is no mistake of ours."""
    if (told := sentence_of(error)) is not None:
        return told
    if isinstance(error, OSError) and error.errno in PLACES:
        return f"{error.filename or 'the output'} cannot be read or written: {error.strerror}."
    return None


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
        command.set_defaults(command=name, module=module, actions=command._actions)
        add_arguments(command)
    return parser


class _PrintCompletion(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, _namespace: Any, shell: Any, _option: str | None = None
    ) -> None:
        import shtab

        for action in _actions(parser):
            if action.type in _PATHS:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
        sys.stdout.write(shtab.complete(parser, shell) + "\n")
        parser.exit()


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Of the parser and of all below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


if __name__ == "__main__":
    sys.exit(main())
