"""What was trained once is loaded to the bit; what was changed on the way is found and trained anew."""

import errno
import functools
import hashlib
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import nn

from assay.benchmarks import cache, folders
from assay.benchmarks.evaluation import run_unit
from assay.benchmarks.fingerprint import Fingerprint
from assay.benchmarks.grid import plan
from assay.benchmarks.linear_task import linear_problem, pattern_problem
from assay.benchmarks.loading import load_plugins
from assay.benchmarks.plugin import MODELS
from assay.benchmarks.randomness import seeded
from assay.benchmarks.registry import AssayError
from assay.benchmarks.runner import planned_rows
from assay.benchmarks.spec import settings
from assay.benchmarks.store import Ledger
from assay.benchmarks.suite import Suite
from assay.benchmarks.training import Recipe, descend, perceptron, plain_loss

torch.set_num_threads(1)
load_plugins()
RECIPE = Recipe(
    lr=1e-2,
    epochs=2,
    batch=32,
    weight_decay=0.1,
    one_cycle=True,
    patience=2,
    least_steps=0,
    standardise=False,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No cache from outside, and none that remembers what it met in another test."""
    monkeypatch.delenv(cache.VARIABLE, raising=False)
    monkeypatch.delenv("ASSAY_STACKED", raising=False)
    cache._cache.cache_clear()


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def small(problem=None, seed=0, loss=plain_loss, net=None, recipe=RECIPE):
    """A quick training, and what both generators draw after it."""
    problem, rng = problem or linear_problem(), generator(seed)
    with seeded(rng):
        net = descend(net or perceptron(problem, 1, 8, "relu"), problem, rng, recipe, loss)
        return net, torch.rand(3, generator=rng), torch.rand(3)


def bits(found):
    net, *draws = found
    assert not net.training
    assert all(not p.requires_grad and p.grad is None for p in net.parameters())
    tensors = [*net.state_dict().items(), *enumerate(draws)]
    return {name: (value.dtype, value.shape, value.numpy().tobytes()) for name, value in tensors}


def entries(store):
    return sorted(file for file in store.rglob("*") if file.is_file())


# ---- the same to the bit --------------------------------------------------------------------------------

PICTURES, SOUND = functools.partial(pattern_problem, (1, 8, 8)), functools.partial(pattern_problem, (2, 200))
MODELS_TRAINED = {
    "mlp[width=20,dropout=0.3]": functools.partial(linear_problem, 2),
    "mlp_adversarial[steps=1,width=8,depth=1]": linear_problem,  # the loss draws from the generator
    "mlp_igr[width=8,depth=1]": linear_problem,
    "cnn[epochs=1,depth=1]": PICTURES,  # batch norm: buffers change, one of them a whole number
    "rnn[epochs=1,hidden=4]": SOUND,  # the loss draws from the global generator
}


def modelled(text, problem):
    (setting,) = settings(MODELS, text)
    rng = generator(3)
    with seeded(rng):
        net = MODELS[setting.name].function(problem, rng, **setting.params)
        return net, torch.rand(3, generator=rng), torch.rand(3)


@pytest.mark.parametrize("text", MODELS_TRAINED)
def test_without_a_cache_and_with_an_empty_and_a_full_one_all_bits_and_all_later_draws_are_equal(
    text, tmp_path, monkeypatch, trainings
):
    problem = MODELS_TRAINED[text]()
    without = bits(modelled(text, problem))
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path))
    empty = bits(modelled(text, problem))
    assert len(trainings) == 2
    full = bits(modelled(text, problem))
    assert len(trainings) == 2  # nothing was trained
    assert without == empty == full
    x = problem.x[problem.test]
    assert modelled(text, problem)[0](x).numpy().tobytes() == modelled(text, problem)[0](x).numpy().tobytes()


def run_all(folder, given):
    """The tables of a run in this process, as bytes."""
    ledger, planned = Ledger(folder), plan(Suite(name="t", grid=[given]))
    ledger.set_plan(planned_rows(planned))
    for unit, cells in planned.items():
        for record in run_unit(unit, cells):
            if record.row:
                ledger.write(record.table, record.key, record.row)
    ledger.export()
    ledger.close()
    return {name: (folder / name).read_bytes() for name in ("scores.csv", "agreement.csv", "models.csv")}


def test_a_run_has_the_same_tables_with_no_cache_an_empty_and_a_full_one(tmp_path, monkeypatch, trainings):
    given = {
        "dataset": ["symbolic[function=9,columns=2,rows=300,explained=5]"],
        "model": [
            "mlp[width=20,depth=1]",
            "mlp_adversarial[steps=1,width=8,depth=1]",
            "boosted_trees[trees=3]",
        ],
        "method": ["saliency", "gradient_shap[budget=20]", "kernel_shap[budget=20]"],
        "metric": ["auroc", "spearman", "deletion"],
    }
    without = run_all(tmp_path / "without", given)
    count = len(trainings)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "cache"))
    empty = run_all(tmp_path / "empty", given)
    assert (count, len(trainings)) == (2, 4)
    count = len(trainings)
    full = run_all(tmp_path / "full", given)
    assert len(trainings) == count == 4
    assert without == empty == full
    assert b"boosted_trees" in full["scores.csv"]


# ---- what a training depends on -------------------------------------------------------------------------


def other_loss(net, x, y):
    return 2 * plain_loss(net, x, y)


def scaled_loss(factor):
    return lambda net, x, y: factor * plain_loss(net, x, y)


def changed(**fields):
    problem = linear_problem()
    return replace(problem, **{name: change(getattr(problem, name)) for name, change in fields.items()})


def with_row(at):
    def change(values):
        values = values.clone()
        values[at] += 1e-6
        return values

    return change


CHANGES = {
    "seed": lambda: small(seed=1),
    "x of a training row": lambda: small(changed(x=with_row(5))),
    "y of a training row": lambda: small(changed(y=with_row(5))),
    "x of a validation row": lambda: small(changed(x=with_row(150))),
    "y of a validation row": lambda: small(changed(y=with_row(150))),
    "where training ends": lambda: small(changed(n_train=lambda n: n - 1, n_validation=lambda n: n + 1)),
    "recipe": lambda: small(recipe=replace(RECIPE, lr=1.1e-2)),
    "loss": lambda: small(loss=other_loss),
    "what a loss closes over": lambda: (small(loss=scaled_loss(3.0)), small(loss=scaled_loss(4.0))),
    "what a loss is given": lambda: small(loss=functools.partial(other_loss)),
    "activation": lambda: small(net=perceptron(linear_problem(), 1, 8, "tanh")),
    "dropout": lambda: small(net=perceptron(linear_problem(), 1, 8, "relu", 0.5)),
    "initial weights": lambda: small(net=perceptron(linear_problem(), 1, 8, "relu")),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_training_is_not_mistaken_for_it(what, store, trainings):
    small()
    before = len(trainings)
    torch.manual_seed(99)  # of the networks that are made out here
    CHANGES[what]()
    assert len(trainings) == before + 1 + (what == "what a loss closes over")


@pytest.mark.parametrize("row", [185, 199])
def test_rows_that_no_training_sees_do_not_matter(row, store, trainings):
    small()
    small(changed(x=with_row(row), y=with_row(row)))
    assert len(trainings) == 1


def test_the_global_generator_and_the_number_of_threads_matter(store, trainings):
    problem, net = linear_problem(), perceptron(linear_problem(), 1, 8, "relu", 0.5)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    for seed, threads in ((1, 1), (2, 1), (1, 2), (1, 1)):
        net.requires_grad_(True).load_state_dict(state)
        torch.set_num_threads(threads)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            descend(net.train(), problem, generator(), RECIPE)
    torch.set_num_threads(1)
    assert len(trainings) == 3


@pytest.mark.parametrize("where", ["numpy", "generator", "attribute"])
def test_what_changes_more_than_an_entry_holds_is_trained_every_time(where, store, trainings):
    other = generator(5)

    class Counting(nn.Flatten):
        passes = 0

        def forward(self, x):
            if where == "attribute":
                self.passes = self.passes + 1
            return super().forward(x)

    def loss(net, x, y):
        if where == "numpy":
            return plain_loss(net, x, y) * np.random.random()  # noqa: NPY002
        return plain_loss(net, x, y) * (torch.rand((), generator=other) if where == "generator" else 1)

    for _ in range(2):
        other.manual_seed(5)
        torch.manual_seed(0)
        small(net=nn.Sequential(Counting(), nn.Linear(5, 1)), loss=loss)
    assert len(trainings) == 2
    assert entries(store) == []


def test_a_network_that_came_to_nothing_is_not_kept(store, trainings):
    def nothing(net, x, y):
        return plain_loss(net, x, y) * float("nan")

    recipe = replace(RECIPE, patience=0)
    for _ in range(2):
        assert bits(small(loss=nothing, recipe=recipe))
    assert len(trainings) == 2
    assert entries(store) == []


def test_what_has_no_content_to_tell_it_by_is_trained_every_time(store, trainings):
    def empty_cell():
        if False:
            value = 1

        return lambda net, x, y: plain_loss(net, x, y) if True else value

    for _ in range(2):
        small(loss=empty_cell())
    assert len(trainings) == 2


def test_a_fingerprint_is_the_same_in_another_process_and_does_not_run_words_together():
    values = "Fingerprint({'a': [1, 2.5, None], 'b': (torch.arange(3), Fingerprint, torch.Generator())}).text"
    code = f"import torch; from assay.benchmarks.fingerprint import Fingerprint; print({values})"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        cwd="/",
    )
    assert found.stdout.strip() == eval(values)
    different = [("ab", "c"), ("a", "bc"), (["ab"], "c"), (["ab", "c"],), (b"ab", "c"), (1,), (1.0,), (True,)]
    assert len({Fingerprint(*value).text for value in different}) == len(different)
    assert Fingerprint(torch.zeros(2, 3)).text != Fingerprint(torch.zeros(3, 2)).text
    assert Fingerprint(torch.zeros(2)).text != Fingerprint(-torch.zeros(2)).text


def test_what_contains_itself_has_a_fingerprint():
    circle = [1]
    circle.append(circle)
    assert Fingerprint(circle).text == Fingerprint(circle).text != Fingerprint([1, [1]]).text


# ---- what is changed on the way -------------------------------------------------------------------------


class Bomb:
    """Were it ever unpickled, there would be a file."""

    def __init__(self, trace):
        self.trace = str(trace)

    def __reduce__(self):
        return Path.touch, (Path(self.trace),)


def repacked(file, change):
    """The file with other tensors, under its own name and with a checksum that is right."""
    data = file.read_bytes()
    line, _, payload = data.partition(b"\n")
    from safetensors.torch import load

    tensors = change(load(payload))
    payload = save(tensors)
    words = line.decode().split()
    words[-1] = hashlib.sha256(payload).hexdigest()
    file.write_bytes(" ".join(words).encode() + b"\n" + payload)


def mapped(one):
    """Every weight changed."""
    return lambda tensors: {k: one(v) if k.startswith("network.") else v for k, v in tensors.items()}


def flipped(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(bytes(data))


def swapped(file, other):
    a, b = file.read_bytes(), other.read_bytes()
    file.write_bytes(b)
    other.write_bytes(a)


def in_place_of(file, make):
    file.unlink()
    make(file)


TAMPERED = {
    "a bit of the first line": lambda file, other: flipped(file, 3),
    "a bit of the key": lambda file, other: flipped(file, 20),
    "a bit of the header": lambda file, other: flipped(file, 170),
    "a bit of the last weight": lambda file, other: flipped(file, -1),
    "cut short": lambda file, other: file.write_bytes(file.read_bytes()[:-7]),
    "cut in the first line": lambda file, other: file.write_bytes(file.read_bytes()[:30]),
    "longer": lambda file, other: file.write_bytes(file.read_bytes() + b"\0"),
    "endless": lambda file, other: os.truncate(file, 10_000_000_000),
    "empty": lambda file, other: file.write_bytes(b""),
    "another's file": swapped,
    "NaN": lambda file, other: repacked(file, mapped(lambda w: w * float("nan"))),
    "another type": lambda file, other: repacked(file, mapped(lambda w: w.double())),
    "another shape": lambda file, other: repacked(file, mapped(lambda w: w[None])),
    "another name": lambda file, other: repacked(file, lambda t: {f"{k}2": v for k, v in t.items()}),
    "no tensor": lambda file, other: repacked(file, lambda t: {}),
    "no generator": lambda file, other: repacked(file, lambda t: {k: t[k] for k in t if k != cache.OWN}),
    "a generator's state that is none": lambda file, other: repacked(
        file, lambda t: t | {cache.GLOBAL: torch.zeros(9, dtype=torch.uint8)}
    ),
    "a pickle": lambda file, other: file.write_bytes(pickle.dumps(Bomb(file.parent / "bomb"))),
    "a pickle of torch": lambda file, other: torch.save({"a": Bomb(file.parent / "bomb")}, file),
    "a pickle behind our line": lambda file, other: file.write_bytes(
        cache._line(file.stem, payload := pickle.dumps(Bomb(file.parent / "bomb"))).encode() + b"\n" + payload
    ),
    "a text": lambda file, other: file.write_text("hello\n"),
    "a pipe": lambda file, other: in_place_of(file, os.mkfifo),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_what_was_changed_is_found_trained_anew_and_replaced(how, store, trainings, caplog):
    wanted = bits(small())
    (file,) = entries(store)
    small(seed=1)
    (other,) = set(entries(store)) - {file}
    whole = file.read_bytes()
    TAMPERED[how](file, other)
    with caplog.at_level(logging.INFO):
        assert bits(small()) == wanted
    assert cache.current().damaged == 1
    assert caplog.text.count("is made anew") == 1
    assert len(trainings) == 3
    assert file.read_bytes() == whole
    assert not (file.parent / "bomb").exists()
    assert bits(small()) == wanted
    assert len(trainings) == 3


def test_a_folder_in_its_place_is_left_alone_and_the_rest_goes_on(store, trainings):
    wanted = bits(small())
    (file,) = entries(store)
    file.unlink()
    file.mkdir()
    (file / "theirs").write_text("dear")
    for _ in range(2):
        assert bits(small()) == wanted
    assert (file / "theirs").read_text() == "dear"
    assert len(trainings) == 3
    small(seed=1)
    small(seed=1)
    assert len(trainings) == 4


def test_a_file_in_place_of_a_folder_costs_what_would_lie_there_alone(store, trainings):
    wanted = bits(small())
    (file,) = entries(store)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("theirs")
    assert bits(small()) == wanted
    assert file.parent.read_text() == "theirs"
    small(seed=1)
    small(seed=1)
    assert len(trainings) == 3


def test_nothing_is_left_aside(store):
    small()
    (file,) = entries(store)
    assert file.name.endswith(".network")
    assert file.relative_to(store).parts[:2] == (file.name[:2], file.name[2:4])


# ---- where nothing can be written -----------------------------------------------------------------------


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_once_and_changes_nothing(store, monkeypatch, trainings, caplog):
    wanted = bits(small())
    small(seed=1)
    (file, *_) = entries(store)
    monkeypatch.setattr(Path, "write_bytes", full)
    file.unlink()
    assert [bits(small()), bits(small(seed=2)) != wanted, bits(small())] == [wanted, True, wanted]
    assert caplog.text.count("cannot be written") == 1
    assert "No space left on device" in caplog.text
    assert len(entries(store)) == 1


def test_a_folder_that_can_only_be_read_still_serves(store, monkeypatch, trainings, caplog):
    wanted = bits(small())

    def refuse(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("write_bytes", "replace", "mkdir", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert bits(small()) == wanted
    small(seed=1)
    small(seed=2)
    assert len(trainings) == 3
    assert caplog.text.count("Read-only file system") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_of_the_system_s(store, trainings):
    store.mkdir()
    store.chmod(0o500)
    wanted = bits(small())
    assert folders.unwritable(str(store)) == "Permission denied"
    assert bits(small()) == wanted
    assert len(trainings) == 2


def test_the_cli_can_tell_beforehand(tmp_path, monkeypatch):
    assert folders.unwritable(str(tmp_path)) == folders.unwritable("memory://probe") == ""
    assert list(tmp_path.iterdir()) == []
    assert fsspec.filesystem("memory").find("/probe") == []
    assert folders.unwritable(str(tmp_path / "gone")) == "No such file or directory"
    monkeypatch.setattr(folders.Remote, "write", full)
    assert "No space left" in folders.unwritable("memory://probe")


def test_a_folder_is_made_and_one_that_cannot_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folders.checked("a/b") == str(tmp_path / "a" / "b")
    assert folders.checked(f"file://{tmp_path}/c") == str(tmp_path / "c")
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "c").is_dir()
    assert folders.checked("memory://some/where") == "memory://some/where"
    (tmp_path / "file").write_text("")
    for text in ("file", "file/below", "", " ", "nosuch://bucket/x", "a\0b", "x" * 5000):
        with pytest.raises(AssayError, match=r"^cache '.*; give --cache a folder.*\.$"):
            folders.checked(text)


# ---- behind a URL ---------------------------------------------------------------------------------------


@pytest.fixture
def memory(monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "memory://cache/of/tests")
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_a_url_serves_as_a_folder_does(memory, trainings):
    wanted = bits(small())
    assert bits(small()) == wanted
    (path,) = memory.find("/cache/of/tests")
    assert len(trainings) == 1
    whole = memory.cat_file(path)
    for data in (b"", whole[:-1], whole[:-1] + b"!", b"x" * 10_000_000):
        memory.pipe_file(path, data)
        assert bits(small()) == wanted
        assert memory.cat_file(path) == whole
    assert len(trainings) == 5


@pytest.mark.parametrize("name", ["read", "write"])
def test_a_store_that_cannot_be_reached_is_told_once_and_changes_nothing(
    name, memory, monkeypatch, trainings, caplog
):
    monkeypatch.delenv(cache.VARIABLE)
    wanted = bits(small())
    monkeypatch.setenv(cache.VARIABLE, "memory://away")

    def unreachable(*_, **__):
        raise ConnectionError("no route to the store")

    monkeypatch.setattr(folders.Remote, name, unreachable)
    assert [bits(small()), bits(small())] == [wanted, wanted]
    assert caplog.text.count("no route to the store") == 1
    assert len(trainings) == 3


# ---- several at once ------------------------------------------------------------------------------------

WRITER = """
import sys, torch
from assay.benchmarks.cache import Cache
from assay.benchmarks.training import perceptron
from assay.benchmarks.linear_task import linear_problem
torch.manual_seed(0)
net = perceptron(linear_problem(), 1, 64, "relu")
store = Cache(sys.argv[1])
for _ in range(40):
    assert store.keep("ab" * 32, net, torch.Generator())
    assert store.load("ab" * 32, net, torch.Generator())
    net.requires_grad_(True)
assert store.damaged == 0
"""


def test_two_workers_that_write_one_key_at_once_never_meet_half_a_file(tmp_path):
    command = [sys.executable, "-P", "-c", WRITER, str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert [file.name for file in entries(tmp_path)] == ["ab" * 32 + ".network"]
