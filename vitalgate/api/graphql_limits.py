"""How deep and how dear a GraphQL query may be, told from its text before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
)
from strawberry.extensions import SchemaExtension

#: Records that a list gives when `first` is not said: pages, and lists inside of a record.
PAGE = 50
NESTED = 20
_INTROSPECTION = ("__schema", "__type")
_MOST_NODES = 5000


class _Meter:
    def __init__(self, document: DocumentNode, variables: Mapping[str, Any]) -> None:
        self._fragments = {
            one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
        }
        self._variables = variables
        self._nodes = 0
        self.depth = 0
        self.cost = 0

    def measure(self, selections: SelectionSetNode | None, depth: int, times: int, inside: tuple[str, ...]) -> None:
        """Add up what is below; `times` is how often it is asked for."""
        if selections is None:
            return
        self.depth = max(self.depth, depth)
        for node in selections.selections:
            self._nodes += 1
            if self._nodes > _MOST_NODES:
                raise GraphQLError(f"The query has more than {_MOST_NODES} fields; ask for less at once.")
            match node:
                case FieldNode():
                    if node.name.value in _INTROSPECTION or node.selection_set is None:
                        continue
                    many = times * self._many(node, depth)
                    self.cost += many
                    # A page is an envelope: the records in it have been counted.
                    self.measure(node.selection_set, depth + 1, many, inside)
                case InlineFragmentNode():
                    self.measure(node.selection_set, depth, times, inside)
                case FragmentSpreadNode():
                    name = node.name.value
                    fragment = self._fragments.get(name)
                    if fragment is not None and name not in inside:  # a cycle is refused by validation
                        self.measure(fragment.selection_set, depth, times, (*inside, name))

    def _many(self, node: FieldNode, depth: int) -> int:
        if node.name.value == "data":
            return 1
        for argument in node.arguments or ():
            if argument.name.value == "first":
                value = argument.value
                if isinstance(value, IntValueNode):
                    return max(1, int(value.value))
                if isinstance(value, VariableNode):
                    found = self._variables.get(value.name.value, PAGE)
                    return max(1, found) if isinstance(found, int) else PAGE
        if depth == 1:
            return PAGE if self._is_page(node) else 1
        return NESTED if not self._is_single(node) else 1

    @staticmethod
    def _is_page(node: FieldNode) -> bool:
        return node.selection_set is not None and any(
            isinstance(one, FieldNode) and one.name.value == "data" for one in node.selection_set.selections
        )

    @staticmethod
    def _is_single(node: FieldNode) -> bool:
        return node.name.value in ("patientProfile", "node")


def meter(document: DocumentNode, variables: Mapping[str, Any]) -> tuple[int, int]:
    """(depth, records asked for at most) of the dearest operation of a document."""
    depth = cost = 0
    for one in document.definitions:
        if isinstance(one, OperationDefinitionNode):
            found = _Meter(document, variables)
            found.measure(one.selection_set, 1, 1, ())
            depth, cost = max(depth, found.depth), max(cost, found.cost)
    return depth, cost


class Limits(SchemaExtension):
    """Refuses a query that is deeper or dearer than the settings allow."""

    depth = 8
    cost = 2000

    def on_validate(self) -> Iterator[None]:
        """Before the library's own validation."""
        context = self.execution_context
        if context.graphql_document is not None:
            try:
                depth, cost = meter(context.graphql_document, context.variables or {})
                if depth > self.depth:
                    raise _refused(f"The query is {depth} levels deep; {self.depth} are allowed.")
                if cost > self.cost:
                    raise _refused(f"The query asks for up to {cost} records; {self.cost} are allowed. Lower `first`.")
            except GraphQLError as error:
                context.pre_execution_errors = [error]
        yield


def _refused(text: str) -> GraphQLError:
    return GraphQLError(text, extensions={"code": "too-dear", "status": 400})
