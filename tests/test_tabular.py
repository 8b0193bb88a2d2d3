import hashlib
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch

from assay.benchmarks.registry import AssayError
from assay.benchmarks.table import read
from assay.datasets.tabular import tabular

torch.set_num_threads(1)
SHIPPED = ["breast_cancer", "wine", "diabetes", "digits"]


def draw(seed=0, csv=None, **parameters):
    parameters["csv"] = None if csv is None else Path(csv)
    return tabular(torch.Generator().manual_seed(seed), **parameters)


def original(name):
    return getattr(sklearn.datasets, f"load_{name}")()


def rows_of(problem, name):
    """For each row of the problem, the row of scikit-learn's table that it is, by its real columns."""
    bunch = original(name)
    raw, train = np.asarray(bunch.data), problem.n_train
    places = [problem.columns.index(column) for column in bunch.feature_names]
    x = problem.x[:, places].double().numpy()
    varies = x[:train].std(0) > 0
    # undo the scaling: the least-squares line through sorted values is exact only if the rows are the same
    scaled = np.empty_like(raw[:, varies])
    for i, column in enumerate(np.flatnonzero(varies)):
        slope, shift = np.polyfit(np.sort(x[:, column]), np.sort(raw[:, column]), 1)
        scaled[:, i] = (raw[:, column] - shift) / slope
    distance = np.abs(x[:, None, varies] - scaled[None]).max(-1)
    assert distance.min(1).max() < 1e-3
    return distance.argmin(1)


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_every_row_is_a_real_row_with_its_own_target(name):
    problem, bunch = draw(name=name, probes=3), original(name)
    rows = rows_of(problem, name)
    target = bunch.target[rows]
    if problem.task == "classification":
        assert problem.y.tolist() == target.tolist()
        assert sorted(rows) == list(range(len(bunch.data)))
    else:
        train = target[: problem.n_train]
        expected = (target - train.mean()) / train.std()
        assert np.allclose(problem.y.numpy(), expected, atol=1e-5)
    assert rows.tolist() != list(range(len(rows)))


@pytest.mark.parametrize("name", SHIPPED)
def test_shape_split_masks_and_names(name):
    problem, bunch = draw(name=name, probes=7), original(name)
    n, d = bunch.data.shape
    assert problem.x.shape == (n, d + 7)
    assert (problem.n_train, problem.n_validation) == (round(0.6 * n), round(0.15 * n))
    assert problem.n_explained == min(100, len(problem.x[problem.test]))
    assert problem.task == ("regression" if name == "diabetes" else "classification")
    assert problem.groups is None
    assert problem.oracle is None
    assert not problem.baseline.any()
    assert torch.equal(problem.background, problem.x[problem.train][:100])
    probe = torch.tensor([column.startswith("probe_") for column in problem.columns])
    assert torch.equal(problem.masks["distractor"][0], probe)
    constant = ~problem.x[problem.train].any(0)
    assert torch.equal(problem.masks["relevant"][0], ~probe & ~constant)
    assert {c for c in problem.columns if not c.startswith("probe_")} == set(bunch.feature_names)
    assert problem.masks["relevant"][0].nonzero().min() < problem.masks["distractor"][0].nonzero().max()
    assert not problem.masks["distractor"][0][:d].logical_not().all()  # probes do not all stand last


@pytest.mark.parametrize("name", SHIPPED)
def test_scaled_by_the_train_rows_alone(name):
    problem = draw(name=name)
    train = problem.x[problem.train].double()
    varies = train.any(0)
    assert train.mean(0).abs().max() < 1e-6
    assert train[:, varies].std(0, correction=0).sub(1).abs().max() < 1e-5
    assert not problem.x[:, ~varies].any()  # even where a test row differs
    whole = problem.x.double()
    assert whole.mean(0).abs().max() > 1e-3  # all rows together would have given 0
    if problem.task == "regression":
        y = problem.y[problem.train].double()
        assert y.mean().abs() < 1e-6
        assert abs(y.std(correction=0).item() - 1) < 1e-5


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "digits"])
def test_a_probe_is_a_shuffled_real_column_that_knows_nothing(name):
    problem = draw(name=name, probes=40)
    y = problem.y.double()
    correlations = []
    for place, column in enumerate(problem.columns):
        if not column.startswith("probe_"):
            continue
        source = problem.x[:, problem.columns.index(column.partition(":")[2])]
        probe = problem.x[:, place]
        for part in (problem.train, problem.validation, problem.test):
            assert torch.equal(probe[part].sort().values, source[part].sort().values)
        assert not torch.equal(probe, source)
        assert probe[problem.train].any()
        correlations.append(torch.corrcoef(torch.stack([probe.double(), y]))[0, 1].item())
    assert len(correlations) == 40
    assert np.std(correlations) == pytest.approx(1 / np.sqrt(len(y)), rel=0.35)  # as for independent ones


def test_probes_differ_from_one_another():
    problem = draw(probes=200)
    probes = problem.x[:, problem.masks["distractor"][0]]
    assert len(torch.unique(probes, dim=1)[0]) == 200
    assert len(set(problem.columns)) == 230


@pytest.mark.parametrize("name", SHIPPED)
def test_same_seed_same_bits_and_seed_0_is_a_seed(name):
    np.random.seed(1)  # noqa: NPY002 - the global state must not matter
    first = draw(0, name=name)
    np.random.seed(2)  # noqa: NPY002
    second, other = draw(0, name=name), draw(1, name=name)
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.y, second.y)
    assert first.columns == second.columns
    assert first.columns != other.columns
    assert not torch.equal(first.y, other.y)


def test_every_part_has_its_share_of_every_class():
    for seed in range(5):
        problem = draw(seed, name="wine")
        for part in (problem.train, problem.validation, problem.test):
            shares = torch.bincount(problem.y[part], minlength=3) / len(problem.y[part])
            assert (shares - torch.bincount(problem.y) / 178).abs().max() < 0.06


def test_chance_is_what_guessing_scores():
    problem = draw(name="wine")
    commonest = problem.y[problem.train].mode().values
    assert problem.facts["chance"] == pytest.approx(
        (problem.y[problem.test] == commonest).double().mean().item()
    )
    assert draw(name="diabetes").facts["chance"] == 0
    assert problem.facts["classes"] == "class_0, class_1, class_2"


def test_no_probes():
    problem = draw(probes=0, explained=7)
    assert problem.x.shape[1] == 30
    assert not problem.masks["distractor"].any()
    assert problem.n_explained == 7


# A user's own file

GOOD = [
    "age,colour,city ,income",
    *(f"{20 + i},{'red' if i % 3 else 'blue'},c{i % 2},{i * 1.5}" for i in range(60)),
]


@pytest.fixture
def write(tmp_path):
    def write(lines, name="mine.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding))
        return str(path)

    return write


def changed(line, text):
    """GOOD with line `line` (the header is 1) replaced."""
    return [*GOOD[: line - 1], text, *GOOD[line:]]


def test_a_good_file(write):
    lines = changed(5, "NA,,c1,7")
    lines[10] = '  33 ,"re""d, dark",c0,1e1'
    lines.insert(20, "")
    table = read(write([*lines, ""]), "income")
    assert table.columns == (
        "age",
        "colour=blue",
        'colour=re"d, dark',
        "colour=red",
        "colour=(missing)",
        "city=c0",
        "city=c1",
    )
    assert table.names == ("age", "colour", "city")
    assert table.units.tolist() == [0, 1, 1, 1, 1, 2, 2]
    assert table.classes == ()
    assert table.values.shape == (60, 7)
    assert np.isnan(table.values[3, 0])
    assert np.isnan(table.values).sum() == 1
    assert table.values[3, 1:].tolist() == [0, 0, 0, 1, 0, 1]
    assert table.values[9].tolist() == [33, 0, 1, 0, 0, 1, 0]
    assert table.target[9] == 10
    assert table.target[59] == 59 * 1.5


def test_a_byte_order_mark_is_no_part_of_the_first_name(write):
    assert read(write(GOOD, encoding="utf-8-sig"), "income").names[0] == "age"


def test_the_task_follows_the_target(write):
    path = write(GOOD)
    assert read(path, "colour").classes == ("blue", "red")
    assert read(path, "income").classes == ()
    with pytest.raises(AssayError, match="class '0' has 1 of the 60 rows"):
        read(path, "income", "classification")
    numeric = write(["a,y", *(f"{i},{(10, 2, '2.0')[i % 3]}" for i in range(60))], "numeric.csv")
    table = read(numeric, "y")
    assert table.classes == ("2", "10")
    assert table.target.tolist() == [int(i % 3 == 0) for i in range(60)]
    assert read(numeric, "y", "regression").target.tolist() == [10.0, 2.0, 2.0] * 20


def test_a_users_file_becomes_a_problem(write):
    path = write(changed(5, ",,c1,7"))
    problem = draw(csv=path, target="income", probes=30, explained=5)
    assert problem.task == "regression"
    assert problem.facts["rows"] == 60
    with open(path, "rb") as file:  # noqa: PTH123
        assert problem.facts["sha256"] == hashlib.sha256(file.read()).hexdigest()
    units = problem.groups
    assert units.unique().tolist() == list(range(33))
    for unit in range(33):  # a category's columns stand together, are masked together and shuffled together
        places = (units == unit).nonzero().flatten()
        names = [problem.columns[place] for place in places]
        assert places.tolist() == list(range(places[0], places[-1] + 1))
        assert len(set(problem.masks["distractor"][0, places].tolist())) == 1
        assert len(names) == {"age": 1, "city": 2, "colour": 3}[names[0].split("=")[0].split(":")[-1]]
        source = [problem.columns.index(name.split(":")[-1]) for name in names]
        for part in (problem.train, problem.test):
            mine, real = problem.x[part][:, places].tolist(), problem.x[part][:, source].tolist()
            assert sorted(mine) == sorted(real)
    assert problem.masks["relevant"].sum() + problem.masks["distractor"].sum() == len(problem.columns)


def test_a_missing_number_is_the_baseline(write):
    lines = ["a,b,y", *(f"{'' if i % 4 == 0 else i},{i * i},{i}" for i in range(80))]
    problem = draw(csv=write(lines), target="y", probes=0)
    a, b = (problem.x[:, problem.columns.index(name)].double() for name in "ab")
    squares = np.sort(np.arange(80) ** 2)
    row = b.argsort().argsort()  # the rank of b is the row of the file
    assert len(squares) == len(row)
    missing = row % 4 == 0
    assert not a[missing].any()
    train = row[: problem.n_train]
    known = train[train % 4 != 0].double()
    expected = (row.double() - known.mean()) / known.std(correction=0)
    assert torch.allclose(a[~missing], expected[~missing], atol=1e-5)


def test_constant_columns_are_zero_and_never_copied(write):
    lines = ["k,t,a,y", *(f"0.1,same,{i},{i}" for i in range(50))]
    problem = draw(csv=write(lines), target="y", probes=20)
    assert all(c.endswith(":a") for c in problem.columns if c.startswith("probe_"))
    for name in ("k", "t=same"):
        place = problem.columns.index(name)
        assert not problem.x[:, place].any()
        assert not problem.masks["relevant"][0, place]
        assert not problem.masks["distractor"][0, place]


BAD = [
    (GOOD, "incme", ["no column 'incme'", "Did you mean 'income'?"]),
    ([], "income", ["is empty"]),
    (["", "  "], "income", ["is empty"]),
    (GOOD[:1], "income", ["0 rows", "30"]),
    (GOOD[:25], "income", ["24 rows", "30"]),
    (["income", *map(str, range(40))], "income", ["no column but the target"]),
    (changed(1, "age,age,city,income"), "income", ["more than one column 'age'"]),
    (changed(1, ",colour,city,income"), "income", ["column 1", "no name"]),
    (changed(7, "1,red,c0"), "income", ["line 7", "3 values", "header 4"]),
    (changed(9, "1,red,c0,2,5"), "income", ["line 9", "5 values", "header 4"]),
    (changed(7, '1,"re\nd",c0'), "income", ["line 8", "3 values"]),
    (changed(61, '1,"red,c0,2'), "income", ["line 61", "quotes"]),
    (changed(8, "1,red,c0,"), "income", ["line 8", "column 'income'", "missing"]),
    (changed(8, "1,red,c0,?"), "income", ["line 8", "column 'income'", "missing"]),
    (changed(12, '"12,5",red,c0,3'), "income", ["line 12", "column 'age'", "'12,5'", "decimal point"]),
    (changed(13, "n/a?,red,c0,3"), "income", ["line 13", "column 'age'", "'n/a?'"]),
    (changed(13, "1_000,red,c0,3"), "income", ["line 13", "'1_000'"]),
    (changed(14, "5,red,c0,x"), "income", ["line 14", "column 'income'", "'x'"]),
    (["", *changed(14, "5,red,c0,x")], "income", ["line 15", "'x'"]),
    (changed(15, "inf,red,c0,3"), "income", ["line 15", "column 'age'", "'inf'", "infinite"]),
    (changed(15, "-1e999,red,c0,3"), "income", ["line 15", "'-1e999'"]),
    (changed(15, "1e31,red,c0,3"), "income", ["line 15", "'1e31'"]),
    (["a,b,y", *(f'"{i},5",{i},{i}' for i in range(40))], "y", ["line 2", "'0,5'", "decimal point"]),
    (["id,b,y", *(f"x{i},{i},{i}" for i in range(60))], "y", ["column 'id'", "60 distinct", "50", "drop it"]),
    (["a,b,y", *(f",{i},{i}" for i in range(40))], "y", ["column 'a'", "no value"]),
    (["a,y", *(f"{i},7" for i in range(40))], "y", ["column 'y'", "'7' in every row"]),
    (["a,y", *(f"{i},{'1' if i % 2 else '1.0'}" for i in range(40))], "y", ["in every row"]),
    (
        ["a,y", *(f"{i},{'no' if i > 1 else 'yes'}" for i in range(40))],
        "y",
        ["class 'yes' has 2 of the 40"],
    ),
    (["a,y", *(f"{i},{'no' if i > 9 else 3}" for i in range(40))], "y", None),
    (["a,y", *(f"7,{i}" for i in range(40))], "y", ["no feature", "varies"]),
]


@pytest.mark.parametrize(("lines", "target", "hints"), BAD)
def test_a_bad_file_gets_one_line_that_says_where(write, lines, target, hints):
    path = write(lines)
    if hints is None:  # few numbers among texts are just classes
        assert draw(csv=path, target=target).facts["classes"] == "3, no"
        return
    with pytest.raises(AssayError) as caught:
        draw(csv=path, target=target)
    message = str(caught.value)
    assert "\n" not in message
    for hint in ["mine.csv", *hints]:
        assert hint in message


def test_text_is_no_target_of_a_regression(write):
    with pytest.raises(AssayError, match=r"line 2, column 'colour': 'blue' is no target of a regression"):
        draw(csv=write(GOOD), target="colour", task="regression")


def test_what_cannot_be_opened_is_named(tmp_path, write):
    for path, hint in [
        (str(tmp_path / "none.csv"), "No such file"),
        (str(tmp_path), "it is no file"),
        ("nul\x00.csv", "null"),
        (write(["ä,y", *(f"é{i},{i}" for i in range(40))], "latin.csv", "latin-1"), "UTF-8"),
        (write(GOOD, "wide.csv", "utf-16"), "UTF-8"),
    ]:
        with pytest.raises(AssayError) as caught:
            draw(csv=path, target="y")
        assert hint in str(caught.value)
        assert "\n" not in str(caught.value)
        assert repr(path) in str(caught.value)


def test_a_file_needs_a_target_and_a_target_a_file(write):
    with pytest.raises(AssayError, match="needs both"):
        draw(csv=write(GOOD))
    with pytest.raises(AssayError, match="needs both"):
        draw(target="income")
