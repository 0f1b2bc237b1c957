"""Recipes: what they may say, and how wrong ones are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fewshot_ns.bench.planning.config_identity import registered_methods, resolve_config
from fewshot_ns.bench.recipes.fields import flag_words
from fewshot_ns.bench.recipes.problems import SchemaError
from fewshot_ns.bench.recipes.protocols import find_protocol
from fewshot_ns.bench.recipes.recipe import Budget, EvaluationOptions
from fewshot_ns.bench.recipes.schema import json_schema
from fewshot_ns.bench.recipes.yaml_file import RECIPES, find_recipe, load_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[3]


def test_a_short_recipe_has_sensible_defaults(write_recipe):
    recipe = load_recipe(write_recipe(methods=["freenerf-lite"], evaluation=None, budget=None))
    (method,), (scene,) = recipe.methods, recipe.scenes
    assert (method.method, method.label, method.overrides) == ("freenerf-lite", "freenerf-lite", ())
    assert method.as_published and method.budget.steps is None and method.scenes is None
    assert (scene.name, scene.parser, scene.flags) == ("plane", "llff-data", ("--num-views", "3"))
    assert recipe.seeds == (0,) and recipe.name == "tiny"


def test_what_the_scene_says_comes_after_what_the_recipe_says(write_recipe):
    scene = {"path": "a/plane", "name": "p", "protocol": "dtu-6", "dataparser": {"resize": "area"}}
    recipe = load_recipe(write_recipe(scenes=[scene], dataparser={"downscale_factor": 4}))
    (found,) = recipe.scenes
    assert found.parser == "dtu-data" and found.protocol.masked and found.protocol.metric("psnr") == "masked_psnr"
    words = ("--num-views", "6", "--view-protocol", "pixelnerf", "--downscale_factor", "4", "--resize", "area")
    assert found.flags == words


def test_budgets_and_variants_of_methods(write_recipe):
    methods = [
        "freenerf-lite",
        {"method": "freenerf-lite", "label": "longer", "budget": {"steps": 9}, "overrides": ["--a", "b"]},
    ]
    recipe = load_recipe(write_recipe(methods=methods, budget={"steps": 4, "cpu-seconds": 7}))
    short, longer = recipe.methods
    assert (short.budget.steps, longer.budget.steps) == (4, 9)
    assert longer.budget.cpu_seconds == 7.0 and longer.overrides == ("--a", "b")
    assert short.as_published and not longer.as_published


def test_flags_of_a_method_on_one_scene(write_recipe):
    row = {"method": "sparsenerf", "on-scenes": {"b": {"pipeline.depth.box-pixels": 60}, "c": ["--x", 1]}}
    recipe = load_recipe(
        write_recipe(methods=[row, {**row, "label": "paper", "as-published": True}], scenes=["b", "c"])
    )
    variant, paper = recipe.methods
    assert dict(variant.on_scenes) == {"b": ("--pipeline.depth.box-pixels", "60"), "c": ("--x", "1")}
    assert not variant.as_published and paper.as_published and variant.overrides == ()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"on-scenes": {"d": {}}}, r"methods\[0\].on-scenes: expected names of scenes .* \(b, c\), found \['d'\]"),
        ({"on-scenes": {"c": {}}, "scenes": ["b"]}, r"on-scenes: expected names of scenes .* \(b\), found \['c'\]"),
        ({"on-scenes": {"b": 3}}, r"methods\[0\].on-scenes: expected a mapping of names of scenes to flags"),
        ({"on-scenes": ["b"]}, r"methods\[0\].on-scenes: expected a mapping of names of scenes to flags"),
        ({"on-scene": {"b": {}}}, "unknown key; did you mean on-scenes?"),
    ],
)
def test_wrong_flags_of_one_scene(write_recipe, row, message):
    with pytest.raises(SchemaError, match=message):
        load_recipe(write_recipe(methods=[{"method": "m", **row}], scenes=["b", "c"]))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"pipeline.depth.loss": "cdf"}, ("--pipeline.depth.loss", "cdf")),
        ({"pipeline": {"depth": {"enabled": False}}}, ("--pipeline.depth.enabled", "False")),
        ({"--train-indices": [1, 5]}, ("--train-indices", "1", "5")),
        ({"depth-dir": None}, ("--depth-dir", "None")),
        (["--lr", 0.5], ("--lr", "0.5")),
    ],
)
def test_flags_may_be_a_mapping_or_words(value, words):
    assert flag_words(value) == words


def test_all_problems_are_told_at_once_with_their_place(write_recipe):
    path = write_recipe(
        protocol="llff-1",
        methods=[{"method": 3, "overides": {}}, {"method": "a", "scenes": ["nowhere"]}],
        scenes=["plane", {"path": "b", "name": "../up"}],
        seeds=[0, -1],
        budget={"steps": 0, "cpu-seconds": "ten"},
        sceens=[],
    )
    with pytest.raises(SchemaError) as caught:
        load_recipe(path)
    text = str(caught.value)
    for line in (
        f"{path}: ",
        "\n  protocol: unknown protocol 'llff-1'; expected llff-N",
        "scenes[1].name: expected a name of letters, digits",
        "methods[0].method: expected a text, found 3",
        "methods[0].overides: unknown key; did you mean overrides?",
        "methods[1].scenes: expected names of scenes of this recipe",
        "each a whole number of at least 0 and at most 4294967295, found [0, -1]",
        "budget.steps: expected a whole number of at least 1, found 0",
        "budget.cpu-seconds: expected a number above 0, found 'ten'",
        "sceens: unknown key; did you mean scenes?",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a mapping, found \\[\\]"),
        ("a: [", "not YAML"),
        ("seeds: [1]\nseeds: [2]", "the key 'seeds' is there more than once"),
        ("methods: [m]\nprotocol: llff-3", "scenes: expected a list with at least one entry, found nothing"),
        ("methods: [m, m]\nprotocol: llff-3\nscenes: [s]", "label 'm' is there more than once"),
        ("methods: [m]\nscenes: [s]", "scenes\\[0\\].protocol: expected .* found nothing"),
        ("methods: [m]\nprotocol: indices\nscenes: [s]", "parser: expected the name of a dataparser"),
        ("methods: [m]\nprotocol: dtu-3\nscenes: [{path: s, parser: llff-data}]", "reads scenes with dtu-data"),
        ("methods: [m]\nprotocol: [dtu-3, dtu-6]\nscenes: [s]", "training across scenes only, found 'dtu-3'"),
        ("methods: [m]\nprotocol: [srn-1, sn64-1]\nscenes: [s]", "protocols of the same data"),
        ("methods: [m]\nprotocol: [srn-1, srn-1]\nscenes: [s]", "expected different protocols"),
        ("methods: [m]\nprotocol: [srn-1, srn-3]\nscenes: [s]", r"protocol\[1\]: unknown protocol 'srn-3'"),
        ("methods: [m]\nprotocol: {name: a}\nscenes: [s]", "sources, a mapping with one of views, random, nearest"),
        ("methods: [m]\nprotocol: {name: a, sources: {view: 3}}\nscenes: [s]", "expected sources with one of views"),
        ("methods: [m]\nprotocol: {name: a, sources: {random: 0}}\nscenes: [s]", "expected one number of views"),
        ("methods: [m]\nprotocol: {name: a, sources: {views: [b]}}\nscenes: [s]", "expected numbers of views, found b"),
        ("methods: [m]\nprotocol: {name: srn-1, sources: {random: 1}}\nscenes: [s]", "name of a known protocol"),
        ("methods: [m]\nprotocol: {name: a, sources: {random: 1}}\nscenes: [s]", "parser: expected the name"),
        ("methods: [m]\nprotocol: []\nscenes: [s]", "expected the name of a protocol, a mapping with name and sources"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text, encoding="utf8")
    with pytest.raises(SchemaError, match=message):
        load_recipe(path)


def test_an_unknown_recipe_is_told_with_the_known():
    with pytest.raises(FileNotFoundError, match="lite-three-scenes"):
        find_recipe("no-such-recipe")
    with pytest.raises(FileNotFoundError, match="found no such file"):
        find_recipe("nowhere/recipe.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_valid(name):
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name and recipe.description


def test_flags_of_every_recipe_are_known_to_nerfstudio():
    """One parse per kind of variant and dataparser; the methods of all of them are registered."""
    seen = set()
    for name in recipe_names():
        recipe = load_recipe(find_recipe(name))
        for method in recipe.methods:
            assert method.method in registered_methods(), f"{name}: {method.method}"
            scene = recipe.scenes[0]
            flags = tuple(word for word in (*method.overrides, *scene.flags) if word.startswith("--"))
            kind = (method.method if method.overrides else "", scene.parser, flags)
            if kind not in seen:
                seen.add(kind)
                words = (*scene.protocol.overrides, *method.overrides, *scene.overrides, scene.parser, *scene.flags)
                parser = getattr(resolve_config(method.method, words).pipeline.datamanager, "dataparser")  # noqa: B009
                if not scene.evaluations:
                    views = len(parser.train_indices or ()) or parser.num_views
                    # 0 is the whole training split.
                    assert views == (scene.protocol.num_views or 0)


def test_the_packages_recipes_are_those_of_the_repository():
    assert RECIPES.resolve() == ROOT / "configs"
    assert recipe_names()


def test_protocols_of_sensors_depth():
    kinect, rooms = find_protocol("nvs-kinect-3"), find_protocol("rgbd-all")
    assert (kinect.parser, kinect.num_views, kinect.dataset) == ("llff-data", 3, None)
    assert kinect.flags == ("--num-views", "3", "--view-protocol", "nvs-kinect")
    assert (rooms.parser, rooms.flags, rooms.num_views) == ("rgbd-data", ("--num-views", "0"), None)
    with pytest.raises(ValueError, match="unknown protocol 'nvs-lidar-3'; expected .*nvs-iphone-N"):
        find_protocol("nvs-lidar-3")


def test_the_views_of_occluded_lego_are_all_different():
    protocol = find_protocol("blender-occluded-14")
    assert protocol.num_views == 14 and len(set(protocol.flags[1:])) == 14


def test_one_training_may_have_several_evaluations(write_recipe):
    own = {"name": "nearest-two", "sources": {"nearest": 2}}
    recipe = load_recipe(write_recipe(methods=["pixelnerf"], protocol=[own, "srn-1", "srn-2"], scenes=["srn/cars"]))
    (scene,) = recipe.scenes
    assert [protocol.name for protocol in scene.evaluations] == ["nearest-two", "srn-1", "srn-2"]
    assert [protocol.sources for protocol in scene.evaluations] == [
        ("--nearest-sources", "2"),
        ("--source-views", "64"),
        ("--source-views", "64", "104"),
    ]
    # Own source views are of the data that the named protocols are of.
    assert (scene.name, scene.parser, scene.flags) == ("cars", "srn-data", ()) and scene.protocol.across
    scenes = [{"path": "solids", "parser": "srn-data", "protocol": {"name": "a", "sources": {"viewlist": "list.txt"}}}]
    (alone,) = load_recipe(write_recipe(scenes=scenes)).scenes
    assert alone.protocol.sources == ("--viewlist", "list.txt") and alone.protocol.num_views is None
    assert not load_recipe(write_recipe()).scenes[0].evaluations


def test_problems_below_one_entry_are_all_told_and_only_once(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(
        "methods: [m, 3, {label: x}, {method: m, label: y, budget: {cpu_seconds: 3, steps: 1.0}}]\n"
        "scenes: [s, '', {path: a, protocol: [srn-1, {name: x/y, sources: {views: [1]}}]}, {path: b, name: s}]\n"
        "protocol: {name: 3, sorces: 3}\n"
        "evaluation: {max-view: 3, metrics: psnr, pictures: null}\n"
        "dataparser: 3\n"
    )
    with pytest.raises(SchemaError) as caught:
        load_recipe(path)
    name = "expected a name of letters, digits and . _ + = - that can be a folder"
    assert sorted(caught.value.problems) == sorted(
        [
            f"protocol.name: {name}, found 3",
            "protocol.sources: expected sources, a mapping with one of views, random, nearest, viewlist, found nothing",
            "protocol.sorces: unknown key; did you mean sources?",
            "dataparser: expected flags as a mapping or as a list of words, found 3",
            "scenes[1].path: expected a text, found ''",
            f"scenes[2].protocol[1].name: {name}, found 'x/y'",
            "methods[1]: expected a mapping, found 3",
            "methods[2].method: expected a text, found nothing",
            "methods[3].budget.steps: expected a whole number of at least 1, found 1.0",
            "methods[3].budget.cpu_seconds: unknown key; did you mean cpu-seconds?",
            "evaluation.max-view: unknown key; did you mean max-views?",
            "evaluation.metrics: expected a list of different entries, each a text, found 'psnr'",
            "scenes: name 's' is there more than once; give the entries a name each",
        ]
    )


def test_keys_without_a_value_count_as_absent(write_recipe):
    nothing = {"evaluation": {"metrics": ["psnr"], "pictures": None}, "budget": {"steps": None}}
    recipe = load_recipe(write_recipe(scenes=[{"path": "plane", "name": None, "overrides": None}], **nothing))
    assert recipe.evaluation == EvaluationOptions(metrics=("psnr",)) and recipe.methods[0].budget == Budget()
    assert recipe.scenes[0].name == "plane" and recipe.scenes[0].overrides == ()


def test_the_text_of_the_evaluation_stays_as_it_is_hashed():
    """Finished cells are known again by a hash of this text."""
    text = "EvaluationOptions(metrics=None, max_views=None, max_scenes=None, max_side=None, pictures=2, curve_steps=0)"
    assert repr(EvaluationOptions()) == text


def test_the_schema_for_editors_is_up_to_date():
    file = RECIPES / "recipe.schema.json"
    assert json.loads(file.read_text(encoding="utf8")) == json.loads(json_schema()), (
        "configs/recipe.schema.json is not that of the models: ns-fewshot bench --schema > configs/recipe.schema.json"
    )


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_name_their_schema_and_follow_it(name):
    jsonschema = pytest.importorskip("jsonschema")
    text = find_recipe(name).read_text(encoding="utf8")
    assert text.startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    jsonschema.validate(yaml.safe_load(text), json.loads(json_schema()))


@pytest.mark.parametrize(
    "text",
    [
        "{methods: [m], scenes: [s], sceens: [s]}",
        "{methods: [], scenes: [s]}",
        "{methods: [{method: m, budget: {cpu_seconds: 3}}], scenes: [s]}",
        "{methods: [m], scenes: [s], protocol: {name: a, sources: {view: 3}}}",
        "{methods: [m], scenes: [s], evaluation: {max-side: 3}}",
    ],
)
def test_an_editor_sees_what_is_wrong(text):
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), json.loads(json_schema()))
