"""Normalise idioms: of several equivalent ways to write something, use one. All rules are ours; the paper leaves rewriting to a model.

Each rule holds for all values, by the definition of the language. If a rule needs a condition (nothing else reads a variable, no builtin
is rebound), the condition is checked, not assumed. The behaviour of a program stays the same, except for tracebacks and for
operators that are defined to raise StopIteration.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import libcst as cst
import libcst.matchers as m

from tasks.stages.refine.rules.statements import (
    LOOSE,
    added_to,
    after,
    assigned,
    comments,
    condition_of_return,
    enclosed,
    in_pairs,
    in_place_of,
    kept_if,
    lead,
    mentions,
    only,
    return_instead,
    returned,
    tight,
)
from tasks.stages.refine.rules.variable_names import bound, is_opaque, module_of, parsed

WIDTH = 88
"""Longest line that a rule may write, in characters. If a line would be longer, the code is left unchanged."""
PASSES = 4
TRUTHS = ("isinstance", "issubclass", "callable", "hasattr", "any", "all", "bool")
"""Builtins that return True or False."""
QUIET = frozenset(
    {*TRUTHS, "len", "abs", "ord", "chr", "str", "int", "float", "repr", "min", "max", "round", "type", "id"}
)
LEAVES = m.SimpleStatementLine(body=[m.ZeroOrMore(), m.Return() | m.Raise() | m.Continue() | m.Break()])

Rule = Callable[[cst.Module, set[str]], cst.CSTTransformer]


def normalize_idioms(code: str, around: str = "") -> str:
    """Return a program after all rules, unchanged if none applies. Raises SyntaxError if it cannot be parsed.

    `around` is other code that runs with the program. A builtin that is rebound there is not treated as a builtin.
    """
    tree = parsed(code)
    if is_opaque(tree) or any(isinstance(node, ast.ClassDef) for node in ast.walk(tree)):
        return code
    taken = bound(tree) | bound(parsed(around))
    if "*" in taken:
        return code
    for _ in range(PASSES):
        before = code
        for rule in RULES:
            code = _applied(rule, code, taken)
        if code == before:
            break
    return code


def _applied(rule: Rule, code: str, taken: set[str]) -> str:
    """Return the code after a rule; unchanged if a comment would be lost or the result would not parse.

    For example, `not(a in b)and c` does not parse without its parentheses.
    """
    module = module_of(code)
    try:
        changed = module.visit(rule(module, taken))
        parsed(changed.code)
    except SyntaxError:  # libcst's CSTValidationError is one
        return code
    return changed.code if comments(changed) == comments(module) else code


class _Rule(cst.CSTTransformer):
    """A rule applied to one program, with the counts of its names and the set of all names that it binds."""

    def __init__(self, module: cst.Module, taken: set[str]) -> None:
        super().__init__()
        self.module, self.taken = module, taken
        self.mentions = mentions(module)

    def text(self, node: cst.CSTNode) -> str:
        return self.module.code_for_node(node)

    def fits(self, node: cst.CSTNode) -> bool:
        """Return True if a node fits on one line."""
        text = self.text(node).strip()
        return "\n" not in text and len(text) <= WIDTH

    def is_builtin(self, node: cst.CSTNode, *names: str) -> bool:
        return isinstance(node, cst.Name) and node.value in names and node.value not in self.taken


class Negations(_Rule):
    """Write `not a in b` as `a not in b`, `not a is b` as `a is not b`."""

    def leave_UnaryOperation(
        self, original_node: cst.UnaryOperation, updated_node: cst.UnaryOperation
    ) -> cst.BaseExpression:
        inner = updated_node.expression
        single = isinstance(inner, cst.Comparison) and len(inner.comparisons) == 1
        if not (isinstance(updated_node.operator, cst.Not) and single and self.fits(updated_node)):
            return updated_node
        assert isinstance(inner, cst.Comparison)
        (target,) = inner.comparisons
        opposite = {cst.In: cst.NotIn, cst.Is: cst.IsNot}.get(type(target.operator))
        if opposite is None:
            return updated_node
        turned = target.with_changes(operator=opposite())
        return inner.with_changes(comparisons=[turned], lpar=updated_node.lpar, rpar=updated_node.rpar)


class Branches(_Rule):
    """Write `if not c: A` with `else: B` as `if c: B` with `else: A`, and nested ifs as one with `and`."""

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:
        test, other = updated_node.test, updated_node.orelse
        match test, other:
            case cst.UnaryOperation(operator=cst.Not()), cst.Else():
                assert isinstance(test, cst.UnaryOperation)
                assert isinstance(other, cst.Else)
                bodies = {"body": other.body, "orelse": other.with_changes(body=updated_node.body)}
                return updated_node.with_changes(test=in_place_of(test, test.expression), **bodies)
            case _, None:
                return self._joined(updated_node)
        return updated_node

    def _joined(self, node: cst.If) -> cst.If:
        inner = only(node.body)
        if not isinstance(inner, cst.If) or inner.orelse or "#" in self.text(node.body).split(":")[0]:
            return node
        test = cst.BooleanOperation(tight(node.test), cst.And(), tight(inner.test))
        return node.with_changes(test=test, body=inner.body) if self.fits(test) else node


@dataclass
class _Scope:
    """The function in which a rule is applied."""

    function: cst.FunctionDef
    guards: int = 0
    """The number of `try` and `with` statements around the position. Inside them, execution may continue after an error."""


class Blocks(_Rule):
    """Rules on consecutive statements of a block. Each method has one rule."""

    def __init__(self, module: cst.Module, taken: set[str]) -> None:
        super().__init__(module, taken)
        self.scopes: list[_Scope] = []

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self.scopes.append(_Scope(node))

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:
        self.scopes.pop()
        return updated_node

    def on_visit(self, node: cst.CSTNode) -> bool:
        self._guard(node, 1)
        return super().on_visit(node)

    def on_leave(self, original_node: Any, updated_node: Any) -> Any:
        self._guard(original_node, -1)
        return super().on_leave(original_node, updated_node)

    def _guard(self, node: cst.CSTNode, change: int) -> None:
        if self.scopes and isinstance(node, cst.Try | cst.TryStar | cst.With):
            self.scopes[-1].guards += change

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.IndentedBlock:
        body = list(updated_node.body)
        for rule in (
            self._else_after_leaving,
            self._truth,
            self._collected,
            self._first_match,
            self._named_and_returned,
        ):
            body = list(rule(body))
        return updated_node.with_changes(body=body)

    def _else_after_leaving(self, body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
        """Remove `else` after `if c: … return`."""
        for statement in body:
            match statement:
                case cst.If(body=cst.IndentedBlock() as taken, orelse=cst.Else(body=cst.IndentedBlock() as rest)) if (
                    m.matches(taken.body[-1], LEAVES)
                ):
                    assert isinstance(statement.orelse, cst.Else)
                    yield statement.with_changes(orelse=None)
                    yield from after(statement.orelse.leading_lines, rest.body)
                case _:
                    yield statement

    def _truth(self, body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
        """Write `if c: return True` and `return False` as `return bool(c)`, without `bool` if c is already a boolean."""
        pairs = in_pairs(body)
        for first, second in pairs:
            test = condition_of_return(first, "True")
            if test is not None and returned(second) == "False" and "bool" not in self.taken and self.fits(test):
                call = cst.Call(cst.Name("bool"), [cst.Arg(test)])
                yield return_instead(first, test if self._is_truth(test) else call)
                next(pairs)
            else:
                yield first

    def _is_truth(self, node: cst.BaseExpression) -> bool:
        match node:
            case cst.UnaryOperation(operator=cst.Not()):
                return True
            case cst.Comparison(
                comparisons=[cst.ComparisonTarget(operator=cst.In() | cst.NotIn() | cst.Is() | cst.IsNot())]
            ):
                return True
            case cst.BooleanOperation(left=left, right=right):
                return self._is_truth(left) and self._is_truth(right)
            case cst.Call(func=function):
                return self.is_builtin(function, *TRUTHS)
        return False

    def _collected(self, body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
        """Write an empty list or set and a loop that only adds to it as a comprehension."""
        pairs = in_pairs(body)
        for first, second in pairs:
            built = self._comprehension(first, second) if isinstance(second, cst.For) else None
            yield built or first
            if built:
                next(pairs)

    def _comprehension(self, first: cst.BaseStatement, loop: cst.For) -> cst.BaseStatement | None:
        name, start = assigned(first)
        statement, test = kept_if(loop)
        element = added_to(name, start, statement)
        if element is None or not self._is_own(loop) or (start == "set()" and "set" in self.taken):
            return None
        if not self._is_unseen(name):
            return None  # a partial result could be read
        if self.mentions_in(loop)[name] != self.mentions_in(statement)[name] - self.mentions_in(element)[name]:
            return None  # the loop reads its own result
        kind = cst.ListComp if start == "[]" else cst.SetComp
        if isinstance(element, cst.GeneratorExp):  # as an argument, it may lack parentheses
            element = enclosed(element)
        built = kind(element, self._for_in(loop, test))
        assignment = cst.SimpleStatementLine([cst.Assign([cst.AssignTarget(cst.Name(name))], built)])
        return assignment.with_changes(leading_lines=lead(first)) if self.fits(assignment) else None

    def _first_match(self, body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
        """Write a loop that returns True at the first match, and `return False` after it, as `any`; the opposite as `all`."""
        pairs = in_pairs(body)
        for first, second in pairs:
            built = self._any_or_all(first, returned(second)) if isinstance(first, cst.For) and second else None
            yield built or first
            if built:
                next(pairs)

    def _any_or_all(self, loop: cst.For, otherwise: str) -> cst.BaseStatement | None:
        inner = only(loop.body)
        test = condition_of_return(inner, {"False": "True", "True": "False"}.get(otherwise, "?")) if inner else None
        if test is None or not self._is_own(loop) or not self._is_quiet(test):
            return None
        word = "any"
        if otherwise == "True":
            match test:
                case cst.UnaryOperation(operator=cst.Not(), expression=inside):
                    word, test = "all", inside
                case _:
                    return None
        if word in self.taken:
            return None
        every = cst.GeneratorExp(test, self._for_in(loop, None), lpar=[], rpar=[])
        built = return_instead(loop, cst.Call(cst.Name(word), [cst.Arg(every)]))
        return built if self.fits(built) else None

    def _named_and_returned(self, body: Sequence[cst.BaseStatement]) -> Iterator[cst.BaseStatement]:
        """Write `x = e` and `return x` as `return e` if nothing else uses x."""
        pairs = in_pairs(body)
        for first, second in pairs:
            name, _ = assigned(first)
            if name and second and returned(second) == name and self.mentions[name] == 2:
                match first:
                    case cst.SimpleStatementLine(body=[cst.Assign(value=value)]):
                        yield return_instead(first, enclosed(value) if isinstance(value, cst.Yield) else value)
                        next(pairs)
                        continue
            yield first

    def _is_own(self, loop: cst.For) -> bool:
        """Return True if nothing outside the loop uses its variables, and the loop can move into a scope of its own."""
        inside = self.mentions_in(loop)
        targets = mentions(loop.target)
        alone = all(inside[name] == self.mentions[name] for name in targets)
        special = m.findall(loop, m.Await() | m.Yield() | m.NamedExpr() | m.Lambda() | m.Del())
        simple = m.findall(loop.target, m.Attribute() | m.Subscript())
        return alone and not special and not simple and not loop.orelse and not loop.asynchronous

    def _is_unseen(self, name: str) -> bool:
        """Return True if a variable is local to the current function, and nothing reads it while a statement runs.

        An inner function could read it, and so could the code after a statement that was interrupted by an error.
        """
        if not self.scopes or self.scopes[-1].guards:
            return False
        body = self.scopes[-1].function.body
        inner = m.findall(body, m.FunctionDef() | m.Lambda() | m.GeneratorExp())
        shared = m.findall(body, m.NameItem(name=m.Name(name)))  # global, or nonlocal
        return not shared and not any(self.mentions_in(node)[name] for node in inner)

    def _is_quiet(self, test: cst.BaseExpression) -> bool:
        """Return True if a test calls nothing that could raise StopIteration, which a generator turns into RuntimeError."""
        return all(
            isinstance(call, cst.Call) and self.is_builtin(call.func, *QUIET) for call in m.findall(test, m.Call())
        )

    def _for_in(self, loop: cst.For, test: cst.BaseExpression | None) -> cst.CompFor:
        source = loop.iter
        if isinstance(source, (*LOOSE, cst.Tuple)):
            source = enclosed(source)
        ifs = [cst.CompIf(tight(test) if isinstance(test, cst.IfExp | cst.Lambda) else test)] if test else []
        return cst.CompFor(target=loop.target, iter=source, ifs=ifs)

    def mentions_in(self, node: cst.CSTNode | None) -> Counter[str]:
        return mentions(node) if node else Counter()


class Displays(_Rule):
    """Write `list()`, `dict()` and `tuple()` as `[]`, `{}` and `()`, and `True if c else False` as `bool(c)`."""

    def visit_FormattedStringExpression(self, node: cst.FormattedStringExpression) -> bool:
        return False  # `{` followed by another brace would be text

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        if updated_node.args or not self.is_builtin(updated_node.func, "list", "dict", "tuple"):
            return updated_node
        assert isinstance(updated_node.func, cst.Name)
        display = {"list": "[]", "dict": "{}", "tuple": "()"}[updated_node.func.value]
        return in_place_of(updated_node, cst.parse_expression(display))

    def leave_IfExp(self, original_node: cst.IfExp, updated_node: cst.IfExp) -> cst.BaseExpression:
        truth = self.text(updated_node.body) == "True" and self.text(updated_node.orelse) == "False"
        if not truth or "bool" in self.taken:
            return updated_node
        return in_place_of(updated_node, cst.Call(cst.Name("bool"), [cst.Arg(updated_node.test)]))


class Formats(_Rule):
    """Write `"{} of {}".format(a, b)`, whose arguments are names, as `f"{a} of {b}"`."""

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:
        match updated_node:
            case cst.Call(func=cst.Attribute(value=cst.SimpleString(prefix="") as text, attr=cst.Name(value="format"))):
                names = [arg.value.value for arg in updated_node.args if isinstance(arg.value, cst.Name)]
                plain = len(names) == len(updated_node.args) and not any(a.keyword or a.star for a in updated_node.args)
                pieces = text.value.split("{}")
                if (
                    plain
                    and len(pieces) == len(names) + 1 > 1
                    and not any(set(piece) & set("{}\\") for piece in pieces)
                ):
                    filled = "".join(f"{piece}{{{name}}}" for piece, name in zip(pieces, names, strict=False))
                    return in_place_of(updated_node, cst.parse_expression(f"f{filled}{pieces[-1]}"))
        return updated_node


RULES: Sequence[Rule] = (
    Negations, Branches, Blocks, Displays, Formats,
)  # fmt: skip
