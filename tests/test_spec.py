"""`name[parameter=value,...]`: what is read, what is refused and in which words, what is written back."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt
from pydantic import AfterValidator

from assay import datasets
from assay.benchmarks.grid import parameters_of
from assay.benchmarks.plugin import DATASETS
from assay.benchmarks.registry import AssayError, Registry
from assay.benchmarks.spec import parse, setting, settings, shown


def checked_odd(value):
    if value % 2 == 0:
        raise ValueError(f"{value} is even; give an odd number.")  # a whole sentence, as formula's are
    return value


def lens(  # noqa: PLR0913 - one parameter of every type
    case,
    /,
    *,
    steps: Annotated[int, Ge(1)] = 50,
    width: Annotated[float, Gt(0)] = 0.25,
    rule: Literal["rescale", "captum"] = "rescale",
    note: str = "",
    flip: bool = False,
    data: Path | None = None,
    share: float = 1,  # an int where a float is meant, as people write it
    odd: Annotated[int, AfterValidator(checked_odd)] = 3,
):
    """A plug-in with a parameter of every type."""


REGISTRY = Registry("method")
REGISTRY.add(lens, version=1, paper="https://example.org")


def one(text):
    """The only setting that `text` asks for."""
    (found,) = settings(REGISTRY, text)
    return found


def refusal(text):
    """What the user reads, which is always one line."""
    with pytest.raises(AssayError) as caught:
        settings(REGISTRY, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert not message.endswith("..")
    return message


# ---- reading --------------------------------------------------------------------------------------------

READ = [
    ("lens", {}),
    ("  lens ", {}),
    ("lens[steps=3]", {"steps": 3}),
    ("lens[ steps = 3 , width = 1e-3 ]", {"steps": 3, "width": 1e-3}),
    ("lens[flip=true,note=false]", {"flip": True, "note": False}),
    ("lens[note=a-b.c_1]", {"note": "a-b.c_1"}),
    ("lens[note='3']", {"note": "3"}),
    ('lens[note="a, [b] = c"]', {"note": "a, [b] = c"}),
    ("""lens[note='say "hi"']""", {"note": 'say "hi"'}),
    ("lens[data=/tmp/a.csv]", {"data": "/tmp/a.csv"}),
    ("lens[steps=[1,2],flip=[true,false]]", {"steps": [1, 2], "flip": [True, False]}),
    ("lens[steps=[[1,2],3]]", {"steps": [[1, 2], 3]}),
    ("lens[width=-.5]", {"width": -0.5}),
]


@pytest.mark.parametrize(("text", "given"), READ)
def test_reads(text, given):
    name, values = parse(text)
    assert name == "lens"
    assert values == given
    assert [type(v) for v in values.values()] == [type(v) for v in given.values()]


UNREADABLE = [
    "",
    " ",
    "lens[",
    "lens[]",
    "lens]",
    "lens[steps]",
    "lens[steps=]",
    "lens[=1]",
    "lens[steps=1",
    "lens[steps=1]]",
    "lens[steps=1,]",
    "lens[steps=1]x",
    "lens[steps=1 2]",
    "lens[steps=[1,2]",
    "lens[steps=[]]",
    "lens[steps=[1 2]]",
    "lens steps=1",
    "[steps=1]",
    '"lens"[steps=1]',
    'lens[note="open]',
    "lens[note=it's]",
    "lens,steps=1]",
    "lens[steps=1[width=2]",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_refuses_what_is_not_of_the_form(text):
    message = refusal(text)
    assert message.startswith(f"cannot read {text!r}")
    assert "name[parameter=value,...]" in message  # the remedy


def test_a_parameter_given_twice_is_refused():
    assert "steps" in refusal("lens[steps=1,steps=2]")


def test_a_line_break_in_the_text_stays_out_of_the_message():
    refusal("lens[note=\n\n")
    refusal('le\nns[note="x"]')


# ---- sweeping -------------------------------------------------------------------------------------------


def test_lists_sweep_in_their_order_the_last_fastest():
    found = settings(REGISTRY, "lens[steps=[3,1],width=0.5,flip=[true,false]]")
    assert [(s.params["steps"], s.params["width"], s.params["flip"]) for s in found] == [
        (3, 0.5, True),
        (3, 0.5, False),
        (1, 0.5, True),
        (1, 0.5, False),
    ]
    assert len({s.key for s in found}) == 4
    assert len({s.text for s in found}) == 4


def test_a_sweep_of_one_is_the_value():
    assert settings(REGISTRY, "lens[steps=[3]]") == settings(REGISTRY, "lens[steps=3]")


def test_one_wrong_value_of_a_sweep_is_named():
    assert "0" in refusal("lens[steps=[1,0]]")


# ---- checking -------------------------------------------------------------------------------------------


def test_every_parameter_has_its_value():
    assert one("lens[steps=3]").params == {
        "steps": 3,
        "width": 0.25,
        "rule": "rescale",
        "note": "",
        "flip": False,
        "data": None,
        "share": 1,
        "odd": 3,
    }


def test_an_unknown_plugin_comes_with_the_nearest():
    assert "no method is called 'lans'" in refusal("lans")
    assert "Did you mean 'lens'?" in refusal("lans[steps=3]")


def test_an_unknown_parameter_comes_with_the_nearest_and_all():
    message = refusal("lens[step=3]")
    assert "method 'lens' has no parameter 'step'. Did you mean 'steps'?" in message
    assert "Known: data, flip, note, odd, rule, share, steps, width." in message


WRONG = [
    ("lens[steps=0]", "steps", "0", "50"),
    ("lens[steps=-1]", "steps", "-1", "50"),
    ("lens[steps=2.5]", "steps", "2.5", "50"),
    ("lens[steps=2.0]", "steps", "2.0", "50"),
    ("lens[steps=many]", "steps", "'many'", "50"),
    ("lens[steps=true]", "steps", "True", "50"),  # a bool is no int
    ("lens[steps=[[1,2]]]", "steps", "[1, 2]", "50"),
    ("lens[width=0]", "width", "0", "0.25"),
    ("lens[width=nan]", "width", "nan", "0.25"),
    ("lens[width=true]", "width", "True", "0.25"),
    ("lens[width=wide]", "width", "'wide'", "0.25"),
    ("lens[flip=1]", "flip", "1", "False"),  # an int is no bool
    ("lens[flip=0.0]", "flip", "0.0", "False"),
    ("lens[rule=zero]", "rule", "'zero'", "'rescale'"),
    ("lens[rule=1]", "rule", "1", "'rescale'"),
]


@pytest.mark.parametrize(("text", "parameter", "got", "default"), WRONG)
def test_a_wrong_value_is_refused_with_the_default(text, parameter, got, default):
    message = refusal(text)
    assert f"method 'lens': parameter {parameter} cannot be {got}: " in message
    assert message.endswith(f"the default is {default}.")


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("lens[note=5]", 'write it in quotes, "5", if it is meant as text.'),
        ("lens[note=true]", 'write it in quotes, "True", if it is meant as text.'),
        ("lens[data=5]", "leave it out, or mend it."),
    ],
)
def test_where_the_default_is_no_remedy_another_is_named(text, remedy):
    assert refusal(text).endswith(remedy)


@pytest.mark.parametrize("text", ['lens[steps="5"]', 'lens[width="0.5"]', "lens[flip=yes]", 'lens[flip="1"]'])
def test_text_never_turns_into_a_number_or_a_bool(text):
    refusal(text)


def test_a_choice_names_what_is_allowed():
    message = refusal("lens[rule=zero]")
    assert "'rescale'" in message
    assert "'captum'" in message


def test_what_a_parameter_s_own_check_says_becomes_part_of_the_sentence():
    message = refusal("lens[odd=4]")
    assert "parameter odd cannot be 4: 4 is even; give an odd number" in message
    assert ".;" not in message


def test_a_whole_number_is_a_float_where_a_float_is_meant():
    assert one("lens[width=2]") == one("lens[width=2.0]")
    assert isinstance(one("lens[width=2]").params["width"], float)


# ---- writing --------------------------------------------------------------------------------------------

REACHABLE = [
    *("lens", "lens[steps=7]", "lens[width=1e-7]", "lens[width=1e22]", "lens[width=inf]"),
    *("lens[rule=captum]", "lens[flip=true]", "lens[steps=7,width=3]", "lens[share=0.1]"),
    *("lens[note=word]", "lens[note='']", "lens[note=' ']", "lens[note='two words']", "lens[note=a-b.c]"),
    *("lens[note='a,b']", "lens[note='[x]']", "lens[note='k=v']", "lens[note='7']", "lens[note='-.5']"),
    *("lens[note='1e3']", "lens[note='1_000']", "lens[note='é']", "lens[note='a\\b']", "lens[note='a\nb']"),
    *("lens[note='true']", "lens[note='false']", "lens[note='nan']", "lens[note='inf']"),
    *("lens[note='infinity']", "lens[note='None']", """lens[note="it's"]""", """lens[note='say "hi"']"""),
    *("lens[data=a.csv]", "lens[data='my tables/a.csv']", "lens[data=/tmp/a.csv]", "lens[data='nan']"),
]


@pytest.mark.parametrize("text", REACHABLE)
def test_a_setting_written_and_read_again_is_the_same(text):
    found = one(text)
    assert one(found.text) == found


def test_the_text_holds_only_what_differs_from_the_defaults():
    assert one("lens[steps=50,width=0.25,note='',flip=false,rule=rescale]").text == "lens"
    assert one("lens[flip=true,steps=7]").text == "lens[steps=7,flip=true]"  # in the signature's order


# ---- keys -----------------------------------------------------------------------------------------------


def test_the_key_depends_on_name_version_and_every_value():
    plugin = REGISTRY["lens"]
    base = setting(plugin, {})
    newer = type(plugin)(plugin.kind, plugin.name, plugin.function, "2", plugin.paper)
    other = type(plugin)(plugin.kind, "lens_2", plugin.function, "1", plugin.paper)
    keys = {base.key, setting(newer, {}).key, setting(other, {}).key}
    keys |= {one(t).key for t in ("lens[steps=7]", "lens[width=7]", "lens[flip=true]", "lens[note=x]")}
    assert len(keys) == 7
    assert json.loads(base.key)[:2] == ["lens", "1"]


def test_the_default_given_is_the_default_left_out():
    assert one("lens[share=1]") == one("lens")
    # 1 == 1.0, but a key says "1" or "1.0": which one must not hang on what was asked for first
    assert type(one("lens").params["share"]) is type(one("lens[share=1]").params["share"])


def test_a_file_counts_by_its_content_not_its_name(tmp_path):
    a, b, c = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    a.write_text("1,2\n")
    b.write_text("1,2\n")
    c.write_text("1,3\n")
    keys = [one(f"lens[data='{path}']").key for path in (a, b, c)]
    assert keys[0] == keys[1] != keys[2]


def test_an_edited_file_is_another_setting(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("1,2\n")
    before = one(f"lens[data='{table}']").key
    table.write_text("1,3\n")
    assert one(f"lens[data='{table}']").key != before


def test_a_file_that_is_not_there_counts_by_its_name(tmp_path):
    assert one(f"lens[data='{tmp_path / 'a'}']").key != one(f"lens[data='{tmp_path / 'b'}']").key


def published(root, text="file_name,label\na.png,1\n", condition="RBFP"):
    """A folder laid out as data sets are published."""
    for split in ("train", "val"):
        (root / condition / split).mkdir(parents=True)
        (root / condition / split / "metadata.csv").write_text(text)
    return root


def test_a_folder_counts_by_its_lists_of_files_not_its_name(tmp_path):
    a, b = (published(tmp_path / name) for name in "ab")
    c, d = (
        published(tmp_path / "c", "file_name,label\nb.png,1\n"),
        published(tmp_path / "d", condition="SBFP"),
    )
    keys = [one(f"lens[data='{path}']").key for path in (a, b, c, d)]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert str(tmp_path) not in keys[0]


def test_an_edited_folder_is_another_setting(tmp_path):
    folder = published(tmp_path / "a")
    keys = [one(f"lens[data='{folder}']").key]
    (folder / "RBFP" / "train" / "a.png").write_bytes(b"a picture, which is not read")
    assert one(f"lens[data='{folder}']").key == keys[0]
    for split in ("train", "val"):
        (folder / "RBFP" / split / "metadata.csv").write_text("file_name,label\na.png,2\n")
        keys.append(one(f"lens[data='{folder}']").key)
    (folder / "metadata.csv").write_text("")
    keys.append(one(f"lens[data='{folder}']").key)
    (folder / "RBFP" / "val" / "metadata.csv").unlink()
    keys.append(one(f"lens[data='{folder}']").key)
    assert len(set(keys)) == 5


def test_a_folder_that_lists_nothing_counts_by_its_name(tmp_path):
    keys = set()
    for name in "ab":
        (tmp_path / name / "deep" / "deeper" / "still").mkdir(parents=True)
        (tmp_path / name / "metadata.csv").mkdir()  # no file
        keys.add(one(f"lens[data='{tmp_path / name}']").key)
    assert len(keys) == 2


def test_tables_name_a_folder_and_not_where_it_lies(tmp_path, monkeypatch):
    (tmp_path / "home" / "sets" / "pictures").mkdir(parents=True)
    (tmp_path / "a.csv").write_text("1\n")
    assert shown(tmp_path / "home" / "sets" / "pictures") == "sets/pictures"
    for other in (tmp_path / "a.csv", tmp_path / "nowhere", 0.5, True, "a/b/c", None):
        assert shown(other) == str(other)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path, wanted in (("home", "home"), ("home/sets/pictures", "sets/pictures"), ("~/sets", "~/sets")):
        assert shown(Path(path)) == wanted
    DATASETS.discover(datasets)
    found = setting(DATASETS["chaosmining_vision"], {"path": str(tmp_path / "home" / "sets" / "pictures")})
    assert parameters_of(found).split()[0] == "path=sets/pictures"
    assert one(found.text.replace("chaosmining_vision[path", "lens[data")).params["data"].is_absolute()


def test_a_parameter_without_a_default_is_refused_in_a_sentence():
    def blunt(case, /, *, steps: int): ...

    def use():
        registry = Registry("method")
        registry.add(blunt, version=1, paper="https://example.org")
        return [s.key for s in settings(registry, "blunt")]

    with pytest.raises(AssayError, match="steps"):
        use()
