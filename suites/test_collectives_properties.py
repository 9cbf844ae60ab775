"""Every collective of gloo against the model of it, on drawn values in groups of 1 to 4 ranks.

Dtypes, shapes (no elements and no dimensions included), places in memory, reductions, roots, splits
and groups are drawn. What torch or gloo do not carry out, or carry out wrongly, is left out of the
draws, listed in `test_collectives_limits.py`, and shown there to be still so.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from harness import run_tests, strategies
from suites import collectives_model as model
from suites.properties import EXAMPLES, WORLD_SIZE, PropertyTestCase, in_group, is_exact

SUM, AVG, MIN, MAX = (dist.ReduceOp.SUM, dist.ReduceOp.AVG, dist.ReduceOp.MIN, dist.ReduceOp.MAX)

EVERY_DTYPE = strategies.dtypes("floating", "integral", "bool", "complex")
#: gloo's gather has no complex numbers.
REAL = strategies.dtypes("floating", "integral", "bool")
ANY_NUMBER = {"extremes": True, "allow_nan": True, "allow_infinity": True}
ANY_STRIDES = {"contiguous": False, "same_strides": False}

OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=5,
)


def one_each(size, dtype=EVERY_DTYPE, **kwargs):
    """A tensor for each rank, for what only moves them: any number will do."""
    return strategies.per_rank_tensors(size, dtype, **kwargs, **ANY_NUMBER)


@st.composite
def lists(draw, size, dtype=EVERY_DTYPE, **kwargs):
    """For each rank a tensor for each rank."""
    values = draw(one_each(size * size, dtype, **kwargs))
    return tuple(values[r * size : (r + 1) * size] for r in range(size))


@st.composite
def reductions(draw, size, tensors_per_rank=1, **kwargs):
    """Tensors, by rank, and a reduction whose result does not depend on the order of the ranks.

    With extremes, sums of floating dtypes would depend on it. MIN and MAX are not given NaN, which
    gloo sometimes drops. gloo takes a complex number for two real ones, so that its mean of
    infinities is not the quotient of complex numbers.
    """
    dtype = draw(EVERY_DTYPE)
    op = draw(strategies.reduce_ops(dtype))
    values = draw(
        strategies.per_rank_tensors(
            size * tensors_per_rank,
            dtype,
            extremes=is_exact(dtype),
            allow_nan=op not in (MIN, MAX) and not dtype.is_complex,
            allow_infinity=not dtype.is_complex,
            **kwargs,
        )
    )
    return values, op


@st.composite
def splits(draw, size):
    """Tensors, by rank, and how many of their rows go to which rank."""
    table = draw(strategies.split_tables(size))
    dtype = draw(EVERY_DTYPE)
    row = draw(strategies.shapes(max_dims=2, max_side=2))
    values = [draw(strategies.tensors(dtype, (sum(sizes), *row), **ANY_NUMBER)) for sizes in table]
    return tuple(values), table


@st.composite
def messages(draw, size):
    """Up to four messages, each with its source, its destination and what is sent."""
    pairs = st.permutations(range(size)).map(lambda ranks: tuple(ranks[:2]))
    dtype = draw(EVERY_DTYPE)
    tensor = strategies.tensors(dtype, **ANY_NUMBER)
    return draw(st.lists(st.tuples(pairs, tensor), min_size=1, max_size=4))


def booleans(_):
    return st.booleans()


def rows_for(size):
    """Shapes whose first side can be divided among so many ranks."""
    return strategies.shapes(min_dims=1, max_side=2).map(lambda s: (s[0] * size, *s[1:]))


class TestReductions(PropertyTestCase):
    """Collectives that reduce."""

    @in_group(case=reductions, in_background=booleans)
    def test_all_reduce(self, group, case, in_background):
        values, op = case
        wanted = model.all_reduce(values, op)[group.index].clone()
        found = values[group.index]
        self.wait(dist.all_reduce(found, op, group.handle, async_op=in_background))
        self.assert_is(found, wanted, op)

    @in_group(case=reductions, root=strategies.roots)
    def test_reduce(self, group, case, root):
        values, op = case
        wanted = model.reduced(values, op).clone()
        found = values[group.index]
        dist.reduce(found, group.ranks[root], op, group.handle)
        if group.index == root:
            self.assert_is(found, wanted, op)

    @in_group(case=lambda n: reductions(n, tensors_per_rank=n), in_background=booleans)
    def test_reduce_scatter(self, group, case, in_background):
        values, op = case
        n = group.size
        table = [values[r * n : (r + 1) * n] for r in range(n)]
        found = torch.empty_like(values[0])
        mine = list(table[group.index])
        self.wait(dist.reduce_scatter(found, mine, op, group.handle, async_op=in_background))
        self.assert_is(found, model.reduce_scatter(table, op)[group.index], op)

    @in_group(case=lambda n: reductions(n, shape=rows_for(n), contiguous=False))
    def test_reduce_scatter_tensor(self, group, case):
        values, op = case
        wanted = model.reduce_scatter_tensor(values, op)[group.index]
        found = torch.empty_like(wanted, memory_format=torch.contiguous_format)
        dist.reduce_scatter_tensor(found, values[group.index], op, group.handle)
        self.assert_is(found, wanted, op)

    @in_group(case=lambda n: reductions(n, tensors_per_rank=2))
    def test_all_reduce_coalesced(self, group, case):
        values, op = case
        wanted = [model.reduced(values[i::2], op).clone() for i in range(2)]
        found = list(values[2 * group.index : 2 * group.index + 2])
        dist.all_reduce_coalesced(found, op, group.handle)
        self.assert_is(found, wanted, op)


class TestMovements(PropertyTestCase):
    """Collectives that move tensors; strides may differ between ranks where gloo copes with it."""

    @in_group(values=one_each, root=strategies.roots, by_rank_in_group=booleans)
    def test_broadcast(self, group, values, root, by_rank_in_group):
        wanted = model.broadcast(values, root)[group.index].clone()
        source = {"group_src": root} if by_rank_in_group else {"src": group.ranks[root]}
        dist.broadcast(values[group.index], **source, group=group.handle)
        self.assert_is(values[group.index], wanted)

    @in_group(values=lambda n: one_each(n, **ANY_STRIDES), in_background=booleans)
    def test_all_gather(self, group, values, in_background):
        found = [torch.empty_like(values[0]) for _ in values]
        mine = values[group.index]
        self.wait(dist.all_gather(found, mine, group.handle, async_op=in_background))
        self.assert_is(found, model.all_gather(values)[group.index])

    @in_group(
        values=lambda n: one_each(n, shape=strategies.shapes(min_dims=1), **ANY_STRIDES),
    )
    def test_all_gather_into_tensor(self, group, values):
        wanted = model.all_gather_into_tensor(values)[group.index]
        found = torch.empty_like(wanted)
        dist.all_gather_into_tensor(found, values[group.index], group.handle)
        self.assert_is(found, wanted)

    @in_group(values=lambda n: one_each(2 * n))
    def test_all_gather_coalesced(self, group, values):
        pairs = [list(values[2 * r : 2 * r + 2]) for r in range(group.size)]
        found = [[torch.empty_like(x) for x in pair] for pair in pairs]
        dist.all_gather_coalesced(found, pairs[group.index], group.handle)
        for tensors, pair in zip(found, model.all_gather(pairs)[group.index], strict=True):
            self.assert_is(tensors, pair)

    @in_group(values=lambda n: one_each(n, REAL, **ANY_STRIDES), root=strategies.roots)
    def test_gather(self, group, values, root):
        on_root = group.index == root
        found = [torch.empty_like(values[0]) for _ in values] if on_root else None
        dist.gather(values[group.index], found, group.ranks[root], group.handle)
        if on_root:
            self.assert_is(found, model.gather(values, root)[root])

    @in_group(table=lists, root=strategies.roots)
    def test_scatter(self, group, table, root):
        found = torch.empty_like(table[0][0])
        sent = list(table[root]) if group.index == root else None
        dist.scatter(found, sent, group.ranks[root], group.handle)
        self.assert_is(found, model.scatter(table, root)[group.index])

    @in_group(table=lambda n: lists(n, **ANY_STRIDES), in_background=booleans)
    def test_all_to_all(self, group, table, in_background):
        found = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in table[0]]
        sent = list(table[group.index])
        self.wait(dist.all_to_all(found, sent, group.handle, async_op=in_background))
        self.assert_is(found, model.all_to_all(table)[group.index])

    @in_group(case=splits)
    def test_all_to_all_single(self, group, case):
        values, table = case
        wanted = model.all_to_all_single(values, table)[group.index]
        found = torch.empty_like(wanted)
        received, sent = [sizes[group.index] for sizes in table], list(table[group.index])
        dist.all_to_all_single(found, values[group.index], received, sent, group.handle)
        self.assert_is(found, wanted)

    @in_group(values=lambda n: one_each(n, shape=rows_for(n)))
    def test_all_to_all_single_without_sizes(self, group, values):
        table = [[values[0].shape[0] // group.size] * group.size] * group.size
        found = torch.empty_like(values[group.index])
        dist.all_to_all_single(found, values[group.index], group=group.handle)
        self.assert_is(found, model.all_to_all_single(values, table)[group.index])


class TestMessages(PropertyTestCase):
    """From one rank to another."""

    @EXAMPLES
    @given(sent=messages(WORLD_SIZE), from_any=st.booleans())
    def test_send_and_recv(self, sent, from_any):
        for tag, ((source, destination), tensor) in enumerate(sent):
            if self.rank == source:
                dist.send(tensor, destination, tag=tag)
            if self.rank == destination:
                found = torch.empty_like(tensor)
                named = not from_any or tensor.numel() == 0  # gloo has to know who sends nothing
                sender = dist.recv(found, source if named else None, tag=tag)
                self.assertEqual(sender, source)
                self.assert_is(found, tensor)

    @EXAMPLES
    @given(sent=messages(WORLD_SIZE))
    def test_isend_and_irecv(self, sent):
        """Those of a pair of ranks arrive in the order in which they were sent."""
        works, arrivals = [], []
        for (source, destination), tensor in sent:
            if self.rank == source:
                works.append(dist.isend(tensor, destination))
            if self.rank == destination:
                arrivals.append((torch.empty_like(tensor), tensor))
                works.append(dist.irecv(arrivals[-1][0], source))
        self.complete(works, arrivals)

    @EXAMPLES
    @given(sent=messages(WORLD_SIZE))
    def test_batch_isend_irecv(self, sent):
        works, arrivals = [], []
        for (source, destination), tensor in sent:
            if self.rank == source:
                works.append(dist.P2POp(dist.isend, tensor, destination))
            if self.rank == destination:
                arrivals.append((torch.empty_like(tensor), tensor))
                works.append(dist.P2POp(dist.irecv, arrivals[-1][0], source))
        self.complete(dist.batch_isend_irecv(works) if works else [], arrivals)

    def complete(self, works, arrivals):
        for work in works:
            work.wait()
        for found, wanted in arrivals:
            self.assert_is(found, wanted)


def objects_each(size):
    return strategies.per_rank(OBJECTS, size)


class TestObjects(PropertyTestCase):
    """Collectives of objects that pickle carries."""

    @in_group(objects=objects_each)
    def test_all_gather_object(self, group, objects):
        found = [None] * group.size
        dist.all_gather_object(found, objects[group.index], group.handle)
        self.assertEqual(found, model.all_gather(objects)[group.index])

    @in_group(
        pairs=lambda n: strategies.per_rank(st.tuples(OBJECTS, OBJECTS), n), root=strategies.roots
    )
    def test_broadcast_object_list(self, group, pairs, root):
        found = list(pairs[group.index])
        dist.broadcast_object_list(found, group.ranks[root], group.handle)
        self.assertEqual(found, list(model.broadcast(pairs, root)[group.index]))

    @in_group(objects=objects_each, root=strategies.roots)
    def test_gather_object(self, group, objects, root):
        found = [None] * group.size if group.index == root else None
        dist.gather_object(objects[group.index], found, group.ranks[root], group.handle)
        self.assertEqual(found, model.gather(objects, root)[group.index])

    @in_group(objects=objects_each, root=strategies.roots)
    def test_scatter_object_list(self, group, objects, root):
        found = [None]
        sent = list(objects) if group.index == root else None
        dist.scatter_object_list(found, sent, group.ranks[root], group.handle)
        self.assertEqual(found, [objects[group.index]])


class TestGroups(PropertyTestCase):
    """Several groups at a time."""

    @EXAMPLES
    @given(partition=strategies.partitions(WORLD_SIZE), case=reductions(WORLD_SIZE))
    def test_all_reduce_in_all_groups_of_a_partition(self, partition, case):
        values, op = case
        wanted = model.in_groups(partition, values, lambda xs: model.all_reduce(xs, op))
        wanted = wanted[self.rank].clone()
        group, _ = dist.new_subgroups_by_enumeration([list(ranks) for ranks in partition])
        dist.all_reduce(values[self.rank], op, group=group)
        self.assert_is(values[self.rank], wanted, op)

    @in_group()
    def test_barrier(self, group):
        """Nobody is past it before all of the group have come to it."""
        folder = Path(self.file_name).parent
        mark = f"{group.ranks} {{}}".format
        (folder / mark(self.rank)).touch()
        dist.barrier(group.handle)
        missing = [rank for rank in group.ranks if not (folder / mark(rank)).exists()]
        dist.barrier(group.handle)
        (folder / mark(self.rank)).unlink()
        self.assertEqual(missing, [])


if __name__ == "__main__":
    run_tests()
