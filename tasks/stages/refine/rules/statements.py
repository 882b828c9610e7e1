"""What statements of a program are: which shape they have, and what they return, set or add to. Read, and never changed in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import libcst as cst
import libcst.matchers as m

LOOSE = (cst.BooleanOperation, cst.IfExp, cst.Lambda, cst.NamedExpr)
"""What binds less tightly than `and` does."""


def mentions(node: cst.CSTNode) -> Counter[str]:
    """How often each variable is named in a program's part. Attributes and keywords count, which errs on the safe side."""
    return Counter(name.value for name in m.findall(node, m.Name()) if isinstance(name, cst.Name))


def in_pairs(body: Sequence[cst.BaseStatement]) -> Iterator[tuple[cst.BaseStatement, cst.BaseStatement | None]]:
    """Each statement with the one after it."""
    return iter([(one, body[place + 1] if place + 1 < len(body) else None) for place, one in enumerate(body)])


def only(body: cst.BaseSuite) -> cst.BaseStatement | None:
    """The statement of a block that has one."""
    match body:
        case cst.IndentedBlock(body=[statement]):
            return statement if isinstance(statement, cst.BaseStatement) else None
    return None


def returned(statement: cst.BaseStatement | None) -> str:
    """The name that a statement returns; empty where it does something else."""
    match statement:
        case cst.SimpleStatementLine(body=[cst.Return(value=cst.Name(value=name))]):
            return str(name)
    return ""


def condition_of_return(statement: cst.BaseStatement, name: str) -> cst.BaseExpression | None:
    """c of `if c: return NAME`."""
    match statement:
        case cst.If(test=test, body=body, orelse=None) if returned(only(body)) == name:
            return test
    return None


def assigned(statement: cst.BaseStatement) -> tuple[str, str]:
    """(variable, value as written) of a plain assignment; ("", "") of anything else."""
    match statement:
        case cst.SimpleStatementLine(
            body=[cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value)]
        ):
            return name, cst.Module([]).code_for_node(value)
    return "", ""


def added_to(name: str, start: str, statement: cst.BaseSmallStatement | None) -> cst.BaseExpression | None:
    """What a statement adds to a list or set called `name`, and nothing else."""
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
    """The one thing that a loop does, and the condition of it."""
    match only(loop.body):
        case cst.SimpleStatementLine(body=[statement]):
            return statement, None
        case cst.If(test=test, body=body, orelse=None):
            match only(body):
                case cst.SimpleStatementLine(body=[statement]):
                    return statement, test
    return None, None


def lead(statement: cst.BaseStatement) -> Sequence[cst.EmptyLine]:
    """The empty lines and comments before a statement."""
    lines: Sequence[cst.EmptyLine] = getattr(statement, "leading_lines", ())
    return lines


def after(lines: Sequence[cst.EmptyLine], body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
    """The statements, the first with some lines before it."""
    first, *others = body
    yield first.with_changes(leading_lines=[*lines, *lead(first)])
    yield from others


def return_instead(statement: cst.BaseStatement, value: cst.BaseExpression) -> cst.BaseStatement:
    """`return value` where a statement was, under its comments."""
    return cst.SimpleStatementLine([cst.Return(value)], leading_lines=lead(statement))


def tight(node: cst.BaseExpression) -> cst.BaseExpression:
    """The expression, in parentheses where `and` would part it."""
    if (
        isinstance(node, LOOSE)
        and not node.lpar
        and not (isinstance(node, cst.BooleanOperation) and isinstance(node.operator, cst.And))
    ):
        return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return node
