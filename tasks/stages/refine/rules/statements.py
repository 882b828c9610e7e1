"""Match statements of a syntax tree: their shapes, and the values that they return, assign or add. Trees are never changed in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

import libcst as cst
import libcst.matchers as m

LOOSE = (cst.BooleanOperation, cst.IfExp, cst.Lambda, cst.NamedExpr)
"""Expressions that bind less tightly than `and`."""


def mentions(node: cst.CSTNode) -> Counter[str]:
    """Count the occurrences of each name in a part of a program. Attributes and keywords count too, which is the safe choice."""
    return Counter(name.value for name in m.findall(node, m.Name()) if isinstance(name, cst.Name))


def in_pairs(body: Sequence[cst.BaseStatement]) -> Iterator[tuple[cst.BaseStatement, cst.BaseStatement | None]]:
    """Return pairs of each statement and the next; None in place of the next if joining the two would lose a comment."""
    pairs = zip_longest(body, body[1:])
    return iter([(first, None if second and _commented(first, second) else second) for first, second in pairs])


def _commented(first: cst.BaseStatement, second: cst.BaseStatement) -> bool:
    """Return True if there is a comment in two statements or between them. Comments before the first do not count: they are kept."""
    return bool(comments(second)) or len(comments(first)) > sum(line.comment is not None for line in lead(first))


def comments(node: cst.CSTNode) -> list[str]:
    """Return the comments in a part of a program, sorted."""
    return sorted(comment.value for comment in m.findall(node, m.Comment()) if isinstance(comment, cst.Comment))


def only(body: cst.BaseSuite) -> cst.BaseStatement | None:
    """Return the statement of a block that has exactly one, else None."""
    match body:
        case cst.IndentedBlock(body=[statement]):
            return statement if isinstance(statement, cst.BaseStatement) else None
    return None


def returned(statement: cst.BaseStatement | None) -> str:
    """Return the name that a statement returns; empty if it does anything else."""
    match statement:
        case cst.SimpleStatementLine(body=[cst.Return(value=cst.Name(value=name))]):
            return str(name)
    return ""


def condition_of_return(statement: cst.BaseStatement, name: str) -> cst.BaseExpression | None:
    """Return c of `if c: return NAME`; None for anything else."""
    match statement:
        case cst.If(test=test, body=body, orelse=None) if returned(only(body)) == name:
            return test
    return None


def assigned(statement: cst.BaseStatement) -> tuple[str, str]:
    """Return (variable, value as written) of a plain assignment; ("", "") for anything else."""
    match statement:
        case cst.SimpleStatementLine(
            body=[cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value)]
        ):
            return name, cst.Module([]).code_for_node(value)
    return "", ""


def added_to(name: str, start: str, statement: cst.BaseSmallStatement | None) -> cst.BaseExpression | None:
    """Return the element that a statement adds to a list or set called `name`; None if it does anything else."""
    method = {"[]": "append", "set()": "add"}.get(start)
    match statement:
        case cst.Expr(
            value=cst.Call(
                func=cst.Attribute(value=cst.Name(value=owner), attr=cst.Name(value=verb)),
                args=[cst.Arg(star="", keyword=None, value=element)],
            )
        ) if name and (owner, verb) == (name, method):
            return element
        case cst.Assign(
            targets=[cst.AssignTarget(target=cst.Name(value=target))],
            value=cst.BinaryOperation(
                left=cst.Name(value=before), operator=cst.Add(), right=cst.List(elements=[cst.Element(value=element)])
            ),
        ) if name and start == "[]" and target == before == name:
            return element
        case cst.AugAssign(
            target=cst.Name(value=target),
            operator=cst.AddAssign(),
            value=cst.List(elements=[cst.Element(value=element)]),
        ) if name and start == "[]" and target == name:
            return element
    return None


def kept_if(loop: cst.For) -> tuple[cst.BaseSmallStatement | None, cst.BaseExpression | None]:
    """Return the only statement of a loop and the condition around it, None for no condition; (None, None) for any other loop."""
    match only(loop.body):
        case cst.SimpleStatementLine(body=[statement]):
            return statement, None
        case cst.If(test=test, body=body, orelse=None):
            match only(body):
                case cst.SimpleStatementLine(body=[statement]):
                    return statement, test
    return None, None


def lead(statement: cst.BaseStatement) -> Sequence[cst.EmptyLine]:
    """Return the empty lines and comments before a statement."""
    lines: Sequence[cst.EmptyLine] = getattr(statement, "leading_lines", ())
    return lines


def after(lines: Sequence[cst.EmptyLine], body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
    """Yield the statements, the first with `lines` before it."""
    first, *others = body
    yield first.with_changes(leading_lines=[*lines, *lead(first)])
    yield from others


def return_instead(statement: cst.BaseStatement, value: cst.BaseExpression) -> cst.BaseStatement:
    """Return `return value` in place of a statement, under its comments."""
    return cst.SimpleStatementLine([cst.Return(value)], leading_lines=lead(statement))


def tight(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return the expression, in parentheses if `and` binds more tightly."""
    is_and = isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.And)
    return enclosed(node) if isinstance(node, LOOSE) and not is_and else node


def enclosed(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return the expression in parentheses; unchanged if it has some."""
    return node if node.lpar else node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])


def in_place_of(old: cst.BaseExpression, new: cst.BaseExpression) -> cst.BaseExpression:
    """Return an expression with the parentheses of the one that it replaces, which code such as `return(x)` needs."""
    return new.with_changes(lpar=[*old.lpar, *new.lpar], rpar=[*new.rpar, *old.rpar])
