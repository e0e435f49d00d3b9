"""The program behind ./inv: invoke, with exit codes, errors and completion as users need them.

Stock invoke ends with 1 for a mistyped task, which is the exit code of 'the answer is no', and
its completion asks a program on PATH that is in the virtual environment only.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

if __name__ == "__main__":
    # Ctrl-C while the rest loads ends us without a traceback; a task then has its own way out.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Started by its path: the project's rooms are importable, not what lies beside this file.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from invoke.completion.complete import print_completion_script
from invoke.exceptions import Exit, ParseError
from invoke.program import Program as Invoke

from lab.errors import Fault, LabError
from lab.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

USAGE, INTERRUPTED = 2, 130  # exit codes; commands.cli has those of tasks

#: How each shell's script is made to ask the very program whose command line is completed.
ASK_ITSELF = {
    "bash": ("`inv --complete", '`"${COMP_WORDS[0]}" --complete'),
    "zsh": ("$(inv $", '$("${words[1]}" $'),
    "fish": (
        "inv --complete -- (commandline --tokenize)",
        "set -l words (commandline --tokenize)\n    $words[1] --complete -- $words",
    ),
}


def _told(
    stage: Callable[Concatenate[Program, P], None],
) -> Callable[Concatenate[Program, P], None]:
    """Say in one screen what is wrong with a command line; exit codes 2, and 130 for Ctrl-C."""

    @functools.wraps(stage)
    def wrapper(self: Program, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            stage(self, *args, **kwargs)
        except ParseError as error:
            raise Exit(str(self.fault(error)), USAGE) from None
        except KeyboardInterrupt:
            raise Exit("\ninterrupted", INTERRUPTED) from None

    return wrapper


#: Options whose name may be left out, which invoke does not know: `bench NAME`.
LEFT_OUT = {"bench": "--only"}


def _named(argv: list[str]) -> list[str]:
    """Put the names of such options in, where the word after the task is no option itself."""
    for index, word in enumerate(argv[:-1]):
        if word in LEFT_OUT and not argv[index + 1].startswith("-"):
            return [*argv[: index + 1], LEFT_OUT[word], *argv[index + 1 :]]
        if word == "--":
            break
    return argv


class Program(Invoke):
    """Invoke for this project."""

    @_told
    def parse_core(self, argv: list[str] | None) -> None:
        """Read the options before any task."""
        argv = _named(sys.argv if argv is None else argv)
        self.normalize_argv(argv)
        self.parse_core_args()
        if shell := self.args["print-completion-script"].value:
            text = io.StringIO()
            with contextlib.redirect_stdout(text):
                print_completion_script(shell, ["inv"])
            print(text.getvalue().replace(*ASK_ITSELF[shell]))  # noqa: T201 - what was asked for
            raise Exit
        super().parse_core(argv)

    @_told
    def parse_collection(self) -> None:
        """Load tasks.py."""
        super().parse_collection()

    @_told
    def parse_tasks(self) -> None:
        """Read the tasks and their options; TASK … --help is --help TASK.

        Invoke would take the word for the value of a positional argument.
        """
        if "--help" in self.core.unparsed:
            self.args["help"].value = self.core.unparsed[0]
            self.core.unparsed = []
        self.core.unparsed = self.with_flags(self.core.unparsed)
        super().parse_tasks()

    def with_flags(self, words: list[str]) -> list[str]:
        """Return words with each file of `analyze a.pcap b.pcap` as --capture FILE.

        Invoke has no argument that takes several words. Here the first argument of a task that
        may be given many times takes every word that is no option's; so such a task is the last.
        """
        contexts = {context.name: context for context in self.collection.to_contexts()}
        task = contexts.get(words[0]) if words else None
        many = [arg for arg in task.args.values() if arg.kind is list] if task else []
        if not task or not many:
            return words
        done, rest = words[:1], iter(words[1:])
        for word in rest:
            if word != "-" and word.startswith("-"):
                done.append(word)
                flag = task.flags.get(word)
                if flag is not None and flag.takes_value:
                    done += [value for value in [next(rest, None)] if value is not None]
            else:
                done += [f"--{many[0].name}", word]
        return done

    @_told
    def parse_cleanup(self) -> None:
        """Answer --help, --list and --complete."""
        super().parse_cleanup()

    def print_help(self) -> None:
        """Show the options before any task, and where the tasks are."""
        super().print_help()
        print("./inv --list shows the tasks, ./inv TASK --help the options of one")  # noqa: T201 - as above

    def fault(self, error: ParseError) -> LabError:
        """Return what is wrong with the command line, with what was probably meant."""
        said, context = str(error), error.context
        flags = context.flag_names() if context else ()
        tasks = self.collection.task_names if hasattr(self, "collection") else ()
        if unknown := re.fullmatch(r"No idea what '(.+)' is!", said):
            near = difflib.get_close_matches(unknown[1], [*flags, *tasks], n=3)
            said = f"there is no {unknown[1]!r}"
            said += f"; did you mean {' or '.join(near)}?" if near else ""
        named = context is not None and context.name
        return LabError(
            "reading the command line",
            said,
            fault=Fault.USER,
            todo=f"./inv {context.name} --help" if context and named else "./inv --list",
        )


# The name in a completed command line may be any path to ./inv.
program = Program(version=VERSION, name="imlab", binary="./inv", binary_names=[r"\S*inv"])

if __name__ == "__main__":
    try:
        program.run()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone: nothing to say to nobody, at exit neither
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
