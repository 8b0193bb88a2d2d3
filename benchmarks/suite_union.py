"""Suites that are parts of one suite -> the smallest suite that plans all that they plan."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import pydantic

from .registry import AssayError
from .suite import KINDS, Block, Suite

MAY_DIFFER = ("grid", "seeds", "first_seed", "model_seeds", "method_seeds")  # in parts; all else must agree


def joined_suite(configs: Sequence[Mapping[str, Any]], written: Suite | None = None) -> Suite:
    """The smallest suite that plans all that these plan: their blocks, and the seeds from first to last.

    Two blocks that differ in one list become one with both lists, in the order of the suite as `written`,
    what is not in that last.  Parts that make up the suite as written are that suite again.

    Args:
        configs: of the parts, as their manifests have them.
        written: the suite before it was split.

    Raises:
        AssayError: a configuration is not of a suite, or their seeds leave a gap.
    """
    texts = written.grid if written else []
    order = {kind: [text for block in texts for text in getattr(block, kind)] for kind in KINDS}
    grids = (_read(config).grid for config in configs)
    blocks = [_placed(block, order) for block in _fused([block for grid in grids for block in grid])]
    whole = [_placed(block, order) for block in _fused(texts)]
    if _texts(blocks) == _texts(whole):
        blocks = [*texts]
    grid = {"grid": [block.model_dump() for block in blocks]}
    return with_seeds_of({**configs[0], **grid}, configs)


def with_seeds_of(config: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]) -> Suite:
    """The suite of `config`, with the seeds from the first to the last of `configs`.

    Raises:
        AssayError: it is not of a suite, or there are seeds between those that none of them has, which a
            suite cannot say.
    """
    suites = [_read(one) for one in configs]
    spans = sorted((suite.first_seed, suite.first_seed + suite.seeds) for suite in suites)
    end = spans[0][1]
    for start, after in spans:
        if start > end:
            raise AssayError(
                f"none of the folders has seeds {end} to {start - 1}, and a suite's seeds follow each other; "
                "run those too, or merge only folders whose seeds leave no gap."
            )
        end = max(end, after)
    first = min(suite.first_seed for suite in suites)
    seeds = {
        "first_seed": first,
        "seeds": max(suite.first_seed + suite.seeds for suite in suites) - first,
        "model_seeds": max(suite.model_seeds for suite in suites),
        "method_seeds": max(suite.method_seeds for suite in suites),
    }
    return _read({**config, **seeds})


def _read(config: Mapping[str, Any]) -> Suite:
    try:
        return Suite.model_validate(config)
    except pydantic.ValidationError as error:
        raise AssayError(
            f"the suite of a manifest cannot be read ({error.errors()[0]['msg'].lower()}); use the program's "
            "version that made it."
        ) from None


def _fused(blocks: Sequence[Block]) -> list[Block]:
    """The blocks with each two that differ in one list at most made one, until there are none such."""
    found = [*blocks]
    while True:
        for (i, a), (j, b) in combinations(enumerate(found), 2):
            apart = [kind for kind in KINDS if getattr(a, kind) != getattr(b, kind)]
            if len(apart) <= 1:
                both = {kind: list(dict.fromkeys([*getattr(a, kind), *getattr(b, kind)])) for kind in apart}
                found[i] = a.model_copy(update=both)
                del found[j]
                break
        else:
            return found


def _placed(block: Block, order: Mapping[str, list[str]]) -> Block:
    """The block with its lists in this order, what is not in it last."""
    lists = {}
    for kind in KINDS:
        texts = getattr(block, kind)
        lists[kind] = list(dict.fromkeys([*(text for text in order[kind] if text in texts), *texts]))
    return block.model_copy(update=lists)


def _texts(blocks: Sequence[Block]) -> list[str]:
    return sorted(block.model_dump_json() for block in blocks)
