"""Give our processes their rights in Kafka (`config/kafka_rights.toml`), and take away what the table does not say."""

from __future__ import annotations

from typing import Any

from vitalgate.config.kafka_rights import Right, people, rights
from vitalgate.config.settings import KafkaSettings
from vitalgate.config.transport import kafka_python_options
from vitalgate.local.errors import StackError


def apply_rights(kafka: KafkaSettings) -> tuple[int, int]:
    """Make Kafka's bindings of the table's names equal to the table; how many were added and taken away.

    Raises
    ------
    StackError
        When Kafka does not answer, has no authorizer, or we may not.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(**kafka_python_options(kafka), client_id="vitalgate-rights")
        try:
            there = _there(admin, kafka)
            wanted = set(rights(kafka))
            new, old = sorted(wanted - there), sorted(there - wanted)
            if new and (failed := admin.create_acls([_acl(right) for right in new])["failed"]):
                raise failed[0][1]
            if old:
                for _, _, error in admin.delete_acls([_filter(right) for right in old]):
                    if getattr(error, "errno", 0):
                        raise error
        finally:
            admin.close()
    except KafkaError as error:
        raise StackError(
            f"rights could not be given in Kafka at {kafka.bootstrap}: {error}; the cluster needs an authorizer "
            "(authorizer.class.name), and whoever calls this must be one of its super.users"
        ) from error
    return len(new), len(old)


def _there(admin: Any, kafka: KafkaSettings) -> set[Right]:
    """The table's names' bindings of this deployment: another one in the cluster has another prefix."""
    from kafka.admin import (
        ACLFilter,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePatternFilter,
        ResourceType,
    )

    every = ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY)
    answer: tuple[list[Any], Any] = admin.describe_acls(
        ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, every)
    )
    found, error = answer
    if getattr(error, "errno", 0):
        raise error
    names = {f"User:{who}" for who in people()}
    return {
        _right(acl) for acl in found
        if acl.principal in names and acl.resource_pattern.resource_name.startswith(kafka.prefix)
    }  # fmt: skip


def _right(acl: Any) -> Right:
    from kafka.admin import ACLResourcePatternType

    pattern = acl.resource_pattern
    return Right(
        acl.principal.removeprefix("User:"),
        pattern.resource_type.name.lower(),
        pattern.resource_name,
        acl.operation.name.lower(),
        pattern.pattern_type == ACLResourcePatternType.PREFIXED,
    )


def _pattern(right: Right) -> Any:
    from kafka.admin import ACLResourcePatternType, ResourcePattern, ResourceType

    kind = ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL
    return ResourcePattern(ResourceType[right.resource.upper()], right.name, kind)


def _acl(right: Right) -> Any:
    from kafka.admin import ACL, ACLOperation, ACLPermissionType

    operation = ACLOperation[right.operation.upper()]
    return ACL(f"User:{right.who}", "*", operation, ACLPermissionType.ALLOW, _pattern(right))


def _filter(right: Right) -> Any:
    from kafka.admin import ACLFilter, ACLOperation, ACLPermissionType

    operation = ACLOperation[right.operation.upper()]
    return ACLFilter(f"User:{right.who}", "*", operation, ACLPermissionType.ALLOW, _pattern(right))
