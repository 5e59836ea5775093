"""Largest values, tiles, threads and chunks: the answers are those of numpy, however work is divided."""

import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from osr.detectors import chunks, kth_neighbor, selection, threads
from osr.detectors.chunks import Batch, Images, as_tensor
from osr.detectors.contract import CLASSES, FEATURES, known
from osr.detectors.kth_neighbor import kth_distances
from osr.detectors.logit_scores import Msp
from osr.detectors.selection import argmax, most_similar, top_products, top_values
from osr.detectors.threads import on_threads
from osr.outputs import BACKGROUND

CPU = torch.device("cpu")


@pytest.fixture(params=["numpy", "torch"])
def way(request, monkeypatch):
    """Both ways of selecting: numpy's, and the one of graphs and GPUs."""
    if request.param == "torch":
        monkeypatch.setattr(selection, "_in_torch", lambda _: True)
    return request.param


def drawn(rows, width, *, values=None, seed=0):
    """Random float32 numbers, of a few different ones if asked."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, width)) if values is None else rng.integers(0, values, (rows, width))
    return torch.from_numpy(found.astype(np.float32))


@pytest.mark.parametrize("values", [None, 3, 1])
@pytest.mark.usefixtures("way")
def test_the_first_of_equal_ones_is_the_largest(values):
    numbers = drawn(50, 9, values=values)
    found = argmax(numbers)
    assert found.dtype == torch.int64
    assert_array_equal(found, numbers.numpy().argmax(1))


@pytest.mark.parametrize("values", [None, 4])
@pytest.mark.parametrize(("width", "count"), [(9, 1), (9, 4), (9, 9), (1, 1)])
@pytest.mark.usefixtures("way")
def test_top_values_are_the_largest(width, count, values):
    numbers = drawn(40, width, values=values)
    assert_array_equal(np.sort(top_values(numbers, count), axis=1), np.sort(numbers, axis=1)[:, -count:])


@pytest.mark.parametrize("values", [None, 5, 1])
@pytest.mark.parametrize(
    ("width", "count"),
    [(8, 3), (64, 1), (65, 2), (67, 1), (167, 5), (168, 5), (199, 4), (328, 10), (336, 10)],
)
def test_columns_of_the_largest_are_found_in_groups_and_without(width, count, values):
    """Groups of eight are looked at where there are more than four times as many as columns."""
    numbers = drawn(30, width, values=values).numpy()
    expected = np.sort(numbers, axis=1)[:, -count:]
    columns = selection._columns_of_largest(numbers, count)
    assert columns.shape == (30, count)
    assert (np.diff(np.sort(columns, axis=1), axis=1) > 0).all(), "each column once"
    assert_array_equal(np.sort(np.take_along_axis(numbers, columns, 1), axis=1), expected)
    found, places = selection._largest_in_torch(torch.from_numpy(numbers), count)
    assert_array_equal(np.sort(found, axis=1), expected)
    assert (np.diff(np.sort(places, axis=1), axis=1) > 0).all()
    assert_array_equal(np.take_along_axis(numbers, places.numpy(), 1), found)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_equal_values_are_told_apart_by_their_columns(count):
    """More are as large as the smallest one that counts than there is room for."""
    numbers = np.zeros((6, 20), np.float32)
    numbers[:, 3], numbers[2:, 7] = 2, 1
    columns = selection._partitioned(numbers, count)
    assert columns.shape == (6, count)
    taken = np.sort(np.take_along_axis(numbers, columns, 1), axis=1)
    assert_array_equal(taken, np.sort(numbers, axis=1)[:, -count:])


@pytest.mark.parametrize("sorted_at_once", [3, 7, 50, 51])
@pytest.mark.usefixtures("way")
def test_top_products_of_tiles_are_those_of_the_whole(sorted_at_once, monkeypatch):
    monkeypatch.setattr(selection, "_SORTED", sorted_at_once)
    features, bank = drawn(11, 6), drawn(50, 6, seed=1)
    for count in (1, 4, 50):
        found = np.sort(top_products(features, bank, count), axis=1)
        assert_allclose(found, np.sort((features @ bank.T).numpy(), axis=1)[:, -count:], rtol=1e-5, atol=1e-6)


def similar(features, bank, count):
    """By all products, and 1/2 for rows of zeros."""
    sizes = np.linalg.norm(bank.numpy().astype(float), axis=1)
    unit = bank.numpy() / np.where(sizes == 0, 1, sizes)[:, None]
    products = features.numpy() @ unit.T + 0.5 * (sizes == 0)
    rows = np.argsort(-products, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(products, rows, 1), rows, torch.from_numpy(sizes)


@pytest.mark.parametrize("zeros", [0, 3])
@pytest.mark.parametrize(
    ("tile", "at_once", "in_cache"), [(1000, 1 << 23, 1 << 18), (40, 90, 50), (7, 60, 1)]
)
@pytest.mark.usefixtures("way")
def test_the_most_similar_rows_are_those_of_all_products(tile, at_once, in_cache, zeros, monkeypatch):
    for name, value in (("_TILE", tile), ("_AT_ONCE", at_once), ("_IN_CACHE", in_cache)):
        monkeypatch.setattr(selection, name, value)
    bank, features = drawn(90, 5), drawn(40, 5, seed=1).double()
    bank[20 : 20 + zeros] = 0
    features /= torch.linalg.vector_norm(features, dim=1, keepdim=True)
    before = bank.clone(), features.clone()
    for count in (1, 6, 90):
        expected, rows, sizes = similar(features, bank, count)
        values, found = most_similar(features, bank, count, sizes)
        assert_allclose(values, expected, rtol=1e-6, atol=1e-7)
        if not zeros:
            assert_array_equal(found, rows)
    assert torch.equal(bank, before[0])
    assert torch.equal(features, before[1])


@pytest.mark.parametrize("count", [1, 2, 9, 40, 60])
@pytest.mark.parametrize("margins", [(1, 4, 16), (1,), (2, 3)])
@pytest.mark.parametrize("noise", [1.0, 1e-4, 0.0])
def test_the_kth_distance_is_exact_whatever_is_compared_first(count, margins, noise, monkeypatch):
    """Of neighbours that are far apart, nearly equal to float32, and equal."""
    monkeypatch.setattr(kth_neighbor, "_MARGINS", margins)
    monkeypatch.setattr(kth_neighbor, "_AT_ONCE", 100)
    rng = np.random.default_rng(0)
    bank = torch.from_numpy((rng.normal(size=5) + noise * rng.normal(size=(60, 5))).astype(np.float32))
    images = torch.from_numpy((rng.normal(size=(20, 5))).astype(np.float32))
    if noise:
        bank[7] = 0
    images[3] = 0
    wide = [values.numpy().astype(float) for values in (images, bank)]
    sizes = [np.linalg.norm(values, axis=1, keepdims=True) for values in wide]
    units = [values / np.where(size == 0, 1, size) for values, size in zip(wide, sizes, strict=True)]
    gaps = np.sort(np.linalg.norm(units[0][:, None] - units[1], axis=2), axis=1)[:, count - 1]
    found = kth_distances(images, bank, torch.from_numpy(sizes[1][:, 0]), count)
    assert_allclose(found, gaps, rtol=1e-12, atol=1e-15)


def test_the_error_of_a_product_is_bounded_as_the_docstring_says():
    """Half the distance of float32 numbers, times the width or eight of its roots, and four for the rows."""
    half = 2.0**-24
    assert kth_neighbor._largest_error(torch.float32, 10) == pytest.approx(14 * half)
    assert kth_neighbor._largest_error(torch.float32, 64) == pytest.approx(68 * half)
    assert kth_neighbor._largest_error(torch.float32, 100) == pytest.approx(84 * half)
    assert kth_neighbor._largest_error(torch.float64, 10) == pytest.approx(14 * 2.0**-53)


@pytest.mark.parametrize(
    ("count", "step", "num_threads", "expected"),
    [
        (0, 5, 1, []),
        (10, 4, 1, [4, 4, 2]),
        (10, 100, 1, [10]),
        (100, 100, 3, [34, 34, 32]),  # a part for each
        (60, 100, 3, [32, 28]),  # but not of fewer than 32 rows
        (60, 8, 3, [8] * 7 + [4]),
        (5, 0, 2, [1] * 5),
    ],
)
def test_rows_are_divided_among_threads(count, step, num_threads, expected, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: num_threads)
    done, parts, names = np.zeros(count, int), [], set()

    def work(part):
        done[part] += 1
        parts.append(part)
        names.add(threading.current_thread() is threading.main_thread())

    on_threads(work, count, step=step)
    assert (done == 1).all()
    assert sorted((part.start, part.stop - part.start) for part in parts) == list(
        zip(np.cumsum([0, *expected[:-1]]) if expected else [], expected, strict=True)
    )
    assert names == ({num_threads == 1 or len(expected) == 1} if expected else set())


def test_an_error_in_a_thread_is_not_lost(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)

    def work(part):
        if part.start:
            raise ValueError("here")

    with pytest.raises(ValueError, match="here"):
        on_threads(work, 100, step=50)
    assert threads._matrix_products() is threads._matrix_products()


@pytest.mark.parametrize("rows", [1, 7, 599, 600, 1000])
def test_chunks_hold_all_rows_in_order_and_as_many_as_their_bytes(rows, monkeypatch):
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 4 * (CLASSES + FEATURES) * rows)
    images = Images(known(0), None, CPU)
    sizes = [len(batch.logits) for batch in images.batches()]
    assert sizes == [rows] * (600 // rows) + ([600 % rows] if 600 % rows else [])
    joined = [
        torch.cat([getattr(batch, name) for batch in images.batches()]) for name in ("logits", "labels")
    ]
    assert_array_equal(joined[0], known(0).logits)
    assert_array_equal(joined[1], known(0).labels)
    assert [len(batch.logits) for batch in images.batches(min_rows=600)] == [max(600, rows)][:1] or rows > 600
    assert min(len(batch.logits) for batch in images.batches(min_rows=20)) >= min(
        20, 600 % max(rows, 20) or 20
    )


def test_a_chunk_of_a_few_bytes_is_one_image(monkeypatch):
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 1)
    assert len(list(Images(known(0), None, CPU).batches())) == 600
    assert len(list(Images(known(0), None, CPU).batches(min_rows=300))) == 2


def test_only_rows_that_count_are_in_a_chunk(monkeypatch):
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 4 * (CLASSES + FEATURES) * 100)
    keep = np.ones(600, bool)
    keep[100:200] = False  # a chunk of which nothing counts is passed over
    keep[250:300] = False
    images = Images(known(0), keep, CPU)
    assert (len(images), images.num_classes, images.num_features) == (450, CLASSES, FEATURES)
    assert_array_equal(images.rows, np.flatnonzero(keep))
    batches = list(images.batches())
    assert [(batch.rows.start, batch.rows.stop) for batch in batches] == [
        (0, 100), (200, 300), (300, 400), (400, 500), (500, 600),
    ]  # fmt: skip
    assert [batch.keep is None for batch in batches] == [True, False, True, True, True]
    assert_array_equal(torch.cat([batch.features for batch in batches]), known(0).features[keep])
    few = images.only(np.array([5, 299, 300]))
    assert_array_equal(few.rows, [5, 299, 300])
    assert len(Images(known(0), None, CPU)) == 600
    assert_array_equal(Images(known(0), None, CPU).rows, np.arange(600))
    assert list(Images(known(0), np.zeros(600, bool), CPU).batches()) == []


def test_a_batch_is_float32_but_for_features_of_length_1():
    outputs = known(0).select(np.arange(4))
    outputs = replace(outputs, features=outputs.features.astype(np.float16))
    outputs.features[2] = 0
    batch = Batch(outputs, slice(0, 4), None, CPU)
    unit = replace(batch, unit=True)
    assert {getattr(batch, name).dtype for name in ("logits", "features", "weight", "bias")} == {
        torch.float32
    }
    assert (batch.labels.dtype, batch.extra_logits.dtype) == (torch.int64, torch.float32)
    assert unit.features.dtype == torch.float64
    wide = outputs.features.astype(float)
    sizes = np.linalg.norm(wide, axis=1, keepdims=True)
    assert_allclose(unit.features, wide / np.where(sizes == 0, 1, sizes), rtol=1e-15)
    assert_array_equal(batch.space("features"), wide)
    assert_array_equal(batch.space("logits"), outputs.logits)
    assert_array_equal(batch.predictions, outputs.predictions)


def test_tensors_of_arrays_that_nobody_may_write_to_share_their_memory():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = as_tensor(array, CPU)
        assert found.data_ptr() == array.ctypes.data
        assert_array_equal(as_tensor(array[::-1], CPU), array[::-1])
    given = torch.zeros(2)
    assert as_tensor(given, CPU) is given
    assert as_tensor(np.ones(2), CPU).dtype == torch.float64


def test_background_rows_do_not_count():
    outputs = known(0)
    outputs.labels[::3] = BACKGROUND
    images = Msp()._known(outputs)
    assert len(images) == 400
    assert images.keep is not None
    assert Msp()._known(known(0)).keep is None
