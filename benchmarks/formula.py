"""A user's formula as text -> the exact torch function.  Nothing is ever handed to Python's own eval."""

import ast
import operator
import re
import warnings
from collections.abc import Callable
from itertools import chain
from typing import Any, Final, TypeAlias

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from .registry import AssayError, near_miss

LONGEST: Final = 1_000  # characters
DEEPEST: Final = 100  # levels of nesting; a sum of 101 terms is 100 levels
MOST_VARIABLES: Final = 50
LARGEST: Final = 1e6  # constant
STEEPEST: Final = 20.0  # exponent
ROUNDING: Final = 1e-12  # a slope this small relative to the steepest is a zero that was rounded

_FUNCTIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "tanh": torch.tanh,
}
_UNARY: Final[dict[str, Callable[[Any], Any]]] = {**_FUNCTIONS, "-": operator.neg, "+": operator.pos}
_BINARY: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
}
_SIGNS: Final[dict[type[ast.AST], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.UAdd: "+",
    ast.USub: "-",
}
_ALLOWED: Final = f"use numbers, variables, + - * / ** and {', '.join(_FUNCTIONS)} of one argument"

# One step of a program in reverse Polish notation, so that forward() needs no recursion and pickles:
# a constant, the index of a variable, or an operation and how many operands it takes.
Step: TypeAlias = float | int | tuple[str, int]
Program: TypeAlias = tuple[Step, ...]


class Formula(nn.Module):
    """An exact, differentiable function of some columns of x; make one with `parse`.

    Attributes:
        text: the formula as it was written.
        variables: sorted names of the variables that its value depends on.
        positions: the column in which each variable stands; by default the first ones, in order.
    """

    positions: Int[Tensor, " variables"]

    def __init__(
        self,
        text: str,
        program: Program,
        variables: tuple[str, ...],
        positions: Int[Tensor, " variables"] | None = None,
    ) -> None:
        super().__init__()
        self.text, self.program, self.variables = text, program, variables
        self.register_buffer("positions", torch.arange(len(variables)) if positions is None else positions)

    def at(self, positions: Int[Tensor, " variables"]) -> "Formula":
        """The same function of other columns: `positions[i]` is the column of `variables[i]`."""
        return Formula(self.text, self.program, self.variables, positions)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n 1"]:
        """The value of every row, in the dtype of `x`."""
        columns = x.index_select(1, self.positions).unbind(1)
        stack: list[Any] = []
        for step in self.program:
            if isinstance(step, tuple):
                stack.append(_apply(step, stack))
            else:
                stack.append(step if isinstance(step, float) else columns[step])
        value: Tensor = stack.pop()
        return value[:, None]

    def extra_repr(self) -> str:
        """The text, for print()."""
        return repr(self.text)


def parse(text: str) -> Formula:
    """The function that `text` writes down.

    Allowed are numbers up to 1e6, variables, + - * /, ** with a constant exponent up to 20, and sin, cos,
    tan, exp, log, sqrt, abs, tanh of one argument.  A variable whose slope is 0 everywhere (b in a + 0*b)
    is not among the function's `variables`.

    Raises:
        AssayError: `text` holds anything else, is longer than 1000 characters, nests deeper than 100
            levels, depends on no variable, has more than 50, or is not finite and of finite slope wherever
            all variables lie in [-1, 1] (looked for at fixed points, among them all 0 and all +-1).
    """
    tree = _tree(text)
    names: dict[str, int | float] = {}
    program = _compile(text, tree, names)
    if not 0 < len(names) <= MOST_VARIABLES:
        raise _refusal(text, f"has {len(names)} variables, and 1 to {MOST_VARIABLES} are allowed; change it")
    slopes = _slopes(Formula(text, program, tuple(names)))
    variables = tuple(sorted(name for name, slope in zip(names, slopes, strict=True) if slope))
    if not variables:
        raise _refusal(text, "has the same value whatever its variables are; let it depend on one of them")
    # Those that do not matter become the constant 0, so that they need no column.
    final = {name: variables.index(name) if name in variables else 0.0 for name in names}
    return Formula(text, _compile(text, tree, final), variables)


def checked(text: str) -> str:
    """`text` itself, for pydantic's AfterValidator; the empty text stands for no formula.

    Raises:
        ValueError: `parse` refuses it; the message is the same.
    """
    try:
        return parse(text).text if text else ""
    except AssayError as error:
        raise ValueError(str(error)) from None


def _refusal(text: str, why: str) -> AssayError:
    """The one sentence that a user reads."""
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return AssayError(f"formula {shown!r} {why}.")


def _tree(text: str) -> ast.expr:
    """The syntax tree of `text`, not yet checked."""
    if len(text) > LONGEST:
        raise _refusal(text, f"has {len(text)} characters, more than the {LONGEST} allowed; shorten it")
    if "^" in text:
        raise _refusal(text, "contains '^', which is not a power in Python; write ** instead")
    strange = re.search(r"[^A-Za-z0-9_ .+\-*/(),]", text)
    if strange:
        raise _refusal(text, f"contains {strange[0]!r}, which is not allowed; {_ALLOWED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of "1if a", which is refused below
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise _refusal(text, f"cannot be read ({error.msg}); {_ALLOWED}") from None
    except (RecursionError, MemoryError):
        raise _refusal(text, f"nests deeper than {DEEPEST} levels; shorten it") from None


def _compile(text: str, node: ast.expr, names: dict[str, int | float], depth: int = 0) -> Program:
    """The program of `node`; variables without a number are numbered as they are met."""
    if depth > DEEPEST:
        raise _refusal(text, f"nests deeper than {DEEPEST} levels; shorten it")
    operands: list[ast.expr]
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return (_constant(text, number),)
        case ast.Name(id=name):
            return (names.setdefault(_variable(text, name), len(names)),)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            operation, operands = _SIGNS[type(sign)], [operand]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _SIGNS:
            operation, operands = _SIGNS[type(op)], [left, right]
        case ast.Call(func=ast.Name(id=operation), args=[operand], keywords=[]):
            operands = [operand]
        case _:
            raise _refusal(text, f"contains {ast.unparse(node)[:40]!r}, which is not allowed; {_ALLOWED}")
    programs = [_compile(text, operand, names, depth + 1) for operand in operands]
    return _operation(text, operation, programs)


def _operation(text: str, name: str, operands: list[Program]) -> Program:
    """The program that applies the operation to its operands; of constants alone, the constant it gives."""
    if len(operands) == 1 and name not in _UNARY:
        raise _refusal(
            text, f"calls {name!r}, which is not a function here.{near_miss(name, _FUNCTIONS)[:-1]}"
        )
    if name == "**":
        exponent = operands[1][0] if len(operands[1]) == 1 else None
        if not isinstance(exponent, float) or abs(exponent) > STEEPEST:
            raise _refusal(
                text,
                f"has an exponent that is not a constant from -{STEEPEST:.0f} to {STEEPEST:.0f}; "
                "for a positive u, write u**v as exp(v * log(u))",
            )
    steps = tuple(chain(*operands))
    operation = (name, len(operands))
    if not all(isinstance(step, float) for step in steps):
        return (*steps, operation)
    values = [torch.tensor(step, dtype=torch.float64) for step in steps]
    return (_constant(text, float(_apply(operation, values))),)


def _apply(step: tuple[str, int], stack: list[Any]) -> Any:
    """The result of an operation on the operands that end the stack, which it takes away."""
    name, operands = step
    if operands == 1:
        return _UNARY[name](stack.pop())
    right = stack.pop()
    return _BINARY[name](stack.pop(), right)


def _constant(text: str, number: int | float) -> float:
    """`number`, unless it is too large or not a number (of 1/0, log(-1))."""
    if not abs(number) <= LARGEST:
        raise _refusal(
            text, f"contains a constant that is not a number from -{LARGEST:.0f} to {LARGEST:.0f}; scale it"
        )
    return float(number)


def _variable(text: str, name: str) -> str:
    """`name`, unless it cannot be a column."""
    if name in _FUNCTIONS:
        raise _refusal(text, f"names the function {name!r} without its argument; write {name}(...)")
    if name == "pi":
        raise _refusal(text, "contains 'pi', which would become a column; write the number 3.14159265358979")
    if name.startswith("_"):
        raise _refusal(text, f"contains the name {name!r}; a variable begins with a letter")
    return name


def _points(width: int) -> Float64[Tensor, "m width"]:
    """Fixed points of [-1, 1]^width: spread, all 0, all +-1, and each variable alone at 0 and +-1.

    0 is the baseline, and clipping puts many values at exactly +-1, so that those must be safe too.
    """
    spread = 2 * SobolEngine(width).draw(512, dtype=torch.float64) - 1
    ends = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    alone = spread[2 : 2 + width].repeat(3, 1, 1)
    alone[:, range(width), range(width)] = ends[:, None]
    return torch.cat([spread, ends[:, None].expand(3, width), alone.flatten(0, 1)])


def _slopes(formula: Formula) -> Float64[Tensor, " variables"]:
    """The largest |slope| along each variable, 0 if rounding; refuses a formula not finite somewhere."""
    x = _points(len(formula.variables)).requires_grad_()
    value = formula(x)
    slope = torch.autograd.grad(value.sum(), x)[0]
    finite = (value.isfinite() & slope.isfinite()).all(1)
    if not finite.all():
        worst = x[~finite][0].tolist()
        where = ", ".join(f"{n} = {v:.4g}" for n, v in sorted(zip(formula.variables, worst, strict=True)))
        raise _refusal(
            formula.text,
            f"is not finite, or not of finite slope, at {where[:120]}; it must be wherever all variables "
            "lie in [-1, 1]",
        )
    steepest = slope.abs().amax(0)
    return steepest * (steepest > ROUNDING * steepest.max())
