"""Serve applications over HTTP: REST, GraphQL, live queries, files (one process)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vitalgate.cli._context import Failure, settings

if TYPE_CHECKING:
    from vitalgate.config.settings import Settings


@click.command(epilog="Example: vitalgate api --sample; then open the page that it names in a browser.")
@click.option(
    "--sample", is_flag=True,
    help="A playground: a database of its own with made-up people, and a page to try REST and GraphQL in a browser.",
)  # fmt: skip
def command(sample: bool) -> int:
    """Serve REST below /v1, GraphQL at /graphql and live queries at /v1/live, for patients and clinicians.

    It needs a migrated database and the key ring (security.keys_file). Several may run beside each other. SIGTERM ends
    live queries, which come back by their cursors, and lets running requests finish. The OpenAPI document is at
    /v1/openapi.json.
    """
    if sample:
        from vitalgate.cli._sample import run_sample

        return run_sample()
    return serve(settings().settings)


def serve(loaded: Settings, *, playground: str = "") -> int:
    """Run the process."""
    from vitalgate.api.app import make_app, make_services
    from vitalgate.api.serve import run
    from vitalgate.pki.keyring import BadKeyRing
    from vitalgate.storage.errors import StorageError
    from vitalgate.telemetry.health import Health

    try:
        services = make_services(loaded)
        health = Health()
        app = make_app(services, playground=playground)
        health.ready["database"] = services.reachable
        return run(loaded, health, app, lambda: app.state.hub.stop())
    except (BadKeyRing, StorageError, OSError) as error:
        raise Failure(f"the API cannot run: {error}") from error
