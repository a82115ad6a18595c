"""What every subcommand shares: global options, settings, errors in one line, JSON.

A subcommand calls ``settings()`` and gets the merged settings; it raises ``Failure`` (exit status 1) or ``Misuse``
(exit status 2) with "what was wrong, the value, the limit, the remedy".
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from vitalgate.config.loading import Loaded, SettingsError, load
from vitalgate.config.settings import Settings

EXIT_FAILURE = 1
EXIT_USAGE = 2
_AnyCallable = TypeVar("_AnyCallable", bound=Callable[..., Any])


class Failure(click.ClickException):
    """The command could not do its work."""

    exit_code = EXIT_FAILURE


class Misuse(click.ClickException):
    """The command was called in a way that cannot work."""

    exit_code = EXIT_USAGE


@dataclass
class Options:
    """The global options as given, before or after the subcommand."""

    config: Path | None = None
    data: str | None = None
    flags: dict[str, str] = field(default_factory=dict)
    loaded: Loaded | None = None


def options() -> Options:
    """The global options of the running command."""
    return click.get_current_context().ensure_object(Options)


def settings() -> Loaded:
    """The merged settings, loaded once.

    Raises
    ------
    Misuse
        When a setting is unknown or unusable.
    """
    given = options()
    if given.loaded is None:
        _wait_at_gate()
        try:
            given.loaded = load(config=given.config, flags=given.flags, data=given.data)
        except SettingsError as error:
            raise Misuse(str(error)) from error
    return given.loaded


def _wait_at_gate() -> None:
    """Under `vitalgate up`, wait until the parts that a command relies on are there.

    The stack starts our processes together with Kafka and the database, so that they import their libraries
    meanwhile, and lets them go on by closing the pipe that this variable names.
    """
    gate = os.environ.pop("VITALGATE_START_GATE", "")
    if gate.isdigit():
        try:
            os.read(int(gate), 1)
            os.close(int(gate))
        except OSError:  # not ours: started by hand from a copied environment
            return


def data_directory() -> Path:
    """The data directory of the one-machine stack."""
    return Path(settings().settings.stack.data)


def _take_config(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
    if value is not None:
        options_of(_ctx).config = value


def _take_data(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        options_of(_ctx).data = value


def _take_flags(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> None:
    for text in values:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not of the form section.name=value", ctx=_ctx, param=_param)
        options_of(_ctx).flags[name.strip()] = value


def options_of(ctx: click.Context) -> Options:
    """The global options shared by a context and its parents."""
    return ctx.find_root().ensure_object(Options)


def _global_options() -> list[click.Option]:
    return [
        click.Option(
            ["--config"], type=click.Path(path_type=Path, dir_okay=False, exists=True), expose_value=False,
            callback=_take_config, help="Settings file (TOML).", metavar="FILE",
        ),
        click.Option(
            ["--data"], expose_value=False, callback=_take_data, metavar="DIR",
            help="Data directory of the one-machine stack (default .vitalgate).",
        ),
        click.Option(
            ["--set"], multiple=True, expose_value=False, callback=_take_flags, metavar="SECTION.NAME=VALUE",
            help="One setting; may be repeated.",
        ),
    ]  # fmt: skip


def add_global_options(command: click.Command) -> None:
    """Let a command, and all below it, take the global options too."""
    there = {name for param in command.params for name in param.opts}
    command.params.extend(option for option in _global_options() if not there & set(option.opts))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            add_global_options(below)


def json_option(function: _AnyCallable) -> _AnyCallable:
    """Add `--json`, passed on as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(function)


def print_json(document: Any) -> None:
    """Print a document for a program."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def check_setting(name: str) -> None:
    """Refuse a setting that does not exist.

    Raises
    ------
    Misuse
        Naming it and where all are listed.
    """
    section, _, key = name.partition(".")
    if section not in Settings.model_fields or not key:
        raise Misuse(f"unknown setting {name!r}; `vitalgate settings` lists all of them")


def run(command: click.Command) -> int:
    """Run a command; every error is one line on standard error and an exit status."""
    from vitalgate.local.errors import StackError

    try:
        result = command.main(prog_name="vitalgate", standalone_mode=False)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        _complain(error.format_message())
        return error.exit_code
    except SettingsError as error:
        _complain(str(error))
        return EXIT_USAGE
    except StackError as error:
        _complain(str(error))
        return EXIT_FAILURE
    except (click.Abort, KeyboardInterrupt):
        click.echo(err=True)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return result if isinstance(result, int) and not isinstance(result, bool) else 0


def _complain(message: str) -> None:
    click.echo(f"vitalgate: {message}", err=True)
