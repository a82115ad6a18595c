"""The `vitalgate` script: one file a subcommand.

`vitalgate/cli/NAME.py` holds ``command: click.Command`` and becomes `vitalgate NAME` (an underscore becomes a dash).
The first line of its docstring is what `vitalgate --help` says of it, so that help imports nothing. Files whose name
begins with an underscore are helpers.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import click

from vitalgate.cli import _context

_FOLDER = Path(__file__).parent


class Subcommands(click.Group):
    """Finds subcommands by file name and imports only the one that is run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all subcommands."""
        return sorted(path.stem.replace("_", "-") for path in _FOLDER.glob("[!_]*.py"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand and give it the global options."""
        module = cmd_name.replace("-", "_")
        if cmd_name.startswith("_") or not (_FOLDER / f"{module}.py").is_file():
            return None
        command: click.Command = importlib.import_module(f"vitalgate.cli.{module}").command
        command.name = cmd_name
        _context.add_global_options(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands with the first line of their module's docstring."""
        rows = []
        for name in self.list_commands(ctx):
            text = (_FOLDER / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
            summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
            rows.append((name, summary.removeprefix(f"`vitalgate {name}`").lstrip(" :")))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


@click.command(
    cls=Subcommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings come from a TOML file, from VITALGATE_SECTION_NAME and from --set, in rising order; "
    "`vitalgate settings` lists them. Exit status: 0 done, 1 failed, 2 wrong usage or settings.",
)
@click.version_option(package_name="vitalgate", message="%(prog)s %(version)s")
def cli() -> None:
    """Home medical devices over MQTT to readings, ECG beats, clinician alerts and an audit trail.

    Begin with `vitalgate up --detach`, look with `vitalgate status`, end with `vitalgate down`.
    """


_context.add_global_options(cli)


def main() -> None:
    """Entry point of the script."""
    sys.exit(_context.run(cli))
