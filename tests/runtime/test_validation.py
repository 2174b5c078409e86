"""Every fault of a configuration is one line with the path of its field, and valid values pass unchanged."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import AfterValidator, Field

from deft_jax.runtime import validation
from deft_jax.runtime.validation import ConfigErrors, Count, NonNegative, Number, Positive, Text, section


def _even(value):
    if value % 2:
        raise ValueError("must be even")
    return value


@section
class Steps:
    rule: Literal["steps"]
    steps: Count | Annotated[tuple[Count, ...], Field(min_length=1)]
    """As the tag of this section is called."""


@section
class Fall:
    rule: Literal["fall"]
    rate: Positive


@section
class Inner:
    size: Count
    share: NonNegative = 0.5
    pair: tuple[Count, Number] = (1, 1.0)
    even: Annotated[Count, AfterValidator(_even)] = 2


@section
class Whole:
    name: Text
    inner: Inner
    stages: Annotated[Steps | Fall, Field(discriminator="rule")]
    several: Mapping[str, Inner] | None = None
    seed: Count | None = None


VALID = {"name": "a", "inner": {"size": 1}, "stages": {"rule": "fall", "rate": 1.0}}


def lines_of(values, kind=Whole, path=""):
    with pytest.raises(ConfigErrors) as error:
        validation.parse(kind, values, path)
    assert str(error.value).splitlines() == list(error.value.lines)
    return list(error.value.lines)


def test_a_mapping_becomes_a_frozen_tree_with_defaults():
    parsed = validation.parse(Whole, VALID)
    assert parsed.inner == Inner(size=1)
    assert parsed.stages == Fall(rule="fall", rate=1.0)
    assert parsed.seed is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed.name = "b"


def test_none_is_a_value_only_where_the_type_allows_it():
    assert validation.parse(Whole, VALID | {"seed": None, "several": None}) == validation.parse(Whole, VALID)
    assert lines_of(VALID | {"name": None}) == ["name must be text, got None"]


def test_all_faults_are_reported_at_once_one_line_each():
    values = {
        "name": 3,
        "inner": {"size": 0, "pair": (1, "x")},
        "stages": {"rule": "steps", "steps": (4, 0)},
        "seeds": 1,
    }
    assert lines_of(values) == [
        "name must be text, got 3",
        "inner.size must be at least 1, got 0",
        "inner.pair[1] must be a number, got 'x'",
        "stages.steps[1] must be at least 1, got 0",
        "the configuration has no field 'seeds'; known: name, inner, stages, several, seed; did you mean 'seed'?",
    ]


@pytest.mark.parametrize(("changes", "line"), [
    ({"inner": 3}, "inner must be a section with fields of its own, got 3"),
    ({"inner": {}}, "inner lacks the field 'size', which has no default"),
    ({"inner": {"size": 1, "width": 2}}, "inner has no field 'width'; known: size, share, pair, even"),
    ({"inner": {"size": 1, "even": 3}}, "inner.even must be even, got 3"),
    ({"stages": {}}, "stages lacks the field 'rule', which chooses the others"),
    ({"stages": {"rule": "x"}}, "stages.rule must be one of 'steps', 'fall', got 'x'"),
    ({"stages": {"rule": "fall"}}, "stages lacks the field 'rate', which has no default"),
    ({"stages": {"rule": "fall", "rate": 1.0, "steps": 4}}, "stages has no field 'steps'; known: rule, rate"),
    ({"stages": {"rule": "steps"}}, "stages lacks the field 'steps', which has no default"),
    ({"stages": {"rule": "steps", "steps": "x"}}, "stages.steps must be a whole number or a list, got 'x'"),
    ({"stages": {"rule": "steps", "steps": 0}}, "stages.steps must be at least 1, got 0"),
    ({"stages": {"rule": "steps", "steps": ()}}, "stages.steps must be a list with at least 1 entries, got ()"),
    ({"stages": {"rule": "steps", "steps": (0,)}}, "stages.steps[0] must be at least 1, got 0"),
    ({"several": {"b": {"size": 0}}}, "several.b.size must be at least 1, got 0"),
    ({"several": {"b": 3}}, "several.b must be a section with fields of its own, got 3"),
    ({"several": 3}, "several must be a section with fields of its own, got 3"),
    ({"seed": True}, "seed must be a whole number, got True"),
])
def test_each_fault_is_one_line_with_the_path_of_its_field(changes, line):
    assert lines_of(VALID | changes) == [line]


def test_entries_missing_because_they_are_faulty_are_no_fault_of_the_length():
    kind = Annotated[tuple[Count, ...], Field(min_length=2)]
    with pytest.raises(ConfigErrors) as error:
        validation.check(kind, (0, 1), "steps")
    assert error.value.lines == ("steps[0] must be at least 1, got 0",)


def test_the_path_of_a_section_is_part_of_the_path_of_its_fields():
    assert lines_of({"size": 0}, Inner, "model") == ["model.size must be at least 1, got 0"]
    assert lines_of(3, Inner, "model") == ["model must be a section with fields of its own, got 3"]
    assert lines_of(3) == ["the configuration must be a section with fields of its own, got 3"]


@pytest.mark.parametrize(
    ("value", "want"),
    [(np.int64(3), 3), (np.array([1, 2]), (1, 2)), ([1, np.int8(2)], (1, 2)), (range(1, 3), (1, 2))],
)
def test_numpy_values_and_sequences_become_python_values(value, want):
    parsed = validation.check(Count | tuple[Count, ...], value, "steps")
    assert parsed == want
    assert type(parsed) is type(want)


@pytest.mark.parametrize(("kind", "value", "allowed"), [
    (validation.Integer, 2**31, "at most 2147483647"),
    (validation.Integer, -(2**31), "at least -2147483647"),
    (validation.NonNegativeInt, -1, "at least 0"),
    (validation.count_from(5), 4, "at least 5"),
    (Number, 1e39, r"at most 3.40282e\+38"),
    (Number, float("nan"), "a finite number"),
    (Positive, 0.0, "above 0"),
    (validation.Share, 1.5, "at most 1"),
    (validation.Flag, 1, "True or False"),
    (Annotated[Count, Field(multiple_of=2)], 3, "a multiple of 2"),
])
def test_numbers_are_those_of_int32_and_float32_within_their_bounds(kind, value, allowed):
    with pytest.raises(ConfigErrors, match=f"^x must be {allowed}, got "):
        validation.check(kind, value, "x")


@pytest.mark.parametrize(
    ("field", "nearest"), [("sized", "size"), ("shares", "share"), ("evne", "even"), ("learning_rate", None)]
)
def test_an_unknown_field_is_named_with_the_nearest_known_one(field, nearest):
    [line] = lines_of({"size": 1, field: 3}, Inner, "model")
    question = f"; did you mean '{nearest}'?" if nearest else ""
    assert line == f"model has no field '{field}'; known: size, share, pair, even{question}"


# ---- options of functions ----


def annotated(
    images,
    count: Count,
    ratio: float = 1.0,
    limit: float = float("inf"),
    widths: int | Sequence[int] = 4,
    pair: tuple[int, float] = (1, 1.0),
    kind: Literal["a", "b"] = "a",
    path: str | os.PathLike = "",
    seed: int | None = None,
    anything: Any = None,
):
    pass


def unannotated(images, count, ratio=1.0, steps=3, name="x", flag=False, other=None):
    pass


def open_ended(images, steps=3, **options):
    pass


def unresolvable(images, thing: "Unknown", steps: "AlsoUnknown" = 3):  # noqa: F821
    pass


def options_of(function, **options):
    return validation.options_of(function, options, "objective", given=("images",))


@pytest.mark.parametrize(("function", "options"), [
    (annotated, {"count": 2, "limit": float("inf"), "widths": (1, 2), "seed": None, "anything": object}),
    (annotated, {"count": 2, "kind": "b", "path": "there", "pair": (2, 0.5)}),
    (unannotated, {"count": object, "ratio": 2.0, "other": 3}),
    (open_ended, {"steps": 4, "anything": "else"}),
    (unresolvable, {"thing": object}),
])
def test_valid_options_pass_unchanged(function, options):
    assert options_of(function, **options) == options


@pytest.mark.parametrize(("function", "options", "line"), [
    (annotated, {}, "objective lacks the field 'count', which has no default"),
    (annotated, {"count": 1, "counts": 1}, "objective has no field 'counts'; known: count, ratio, limit, widths, "),
    (annotated, {"count": 1, "images": 1}, "objective has no field 'images'; known: count"),
    (annotated, {"count": 0}, "objective.count must be at least 1, got 0"),
    (annotated, {"count": 1, "ratio": float("inf")}, "objective.ratio must be a finite number, got inf"),
    (annotated, {"count": 1, "widths": "x"}, "objective.widths must be a whole number or a list, got 'x'"),
    (annotated, {"count": 1, "widths": (1, 2**31)}, "objective.widths[1] must be at most 2147483647, got "),
    (annotated, {"count": 1, "pair": (1, "x")}, "objective.pair[1] must be a number, got 'x'"),
    (annotated, {"count": 1, "kind": "c"}, "objective.kind must be one of 'a' or 'b', got 'c'"),
    (annotated, {"count": 1, "path": 3}, "objective.path must be a path, got 3"),
    (annotated, {"count": 1, "seed": "x"}, "objective.seed must be a whole number, got 'x'"),
    (unannotated, {"count": 1, "ratio": "x"}, "objective.ratio must be a number, got 'x'"),
    (unannotated, {"count": 1, "steps": 1.5}, "objective.steps must be a whole number, got 1.5"),
    (unannotated, {"count": 1, "name": 3}, "objective.name must be text, got 3"),
    (unannotated, {"count": 1, "flag": 1}, "objective.flag must be True or False, got 1"),
    (open_ended, {"steps": "x", "anything": "else"}, "objective.steps must be a whole number, got 'x'"),
    (open_ended, {"images": 3}, "objective has no field 'images'; known: steps"),
    (unresolvable, {"thing": 1, "steps": "x"}, "objective.steps must be a whole number, got 'x'"),
])
def test_each_fault_of_an_option_is_one_line_with_its_path(function, options, line):
    with pytest.raises(ConfigErrors) as error:
        options_of(function, **options)
    [only] = error.value.lines
    assert only.startswith(line)


def test_all_faults_of_options_are_reported_at_once():
    with pytest.raises(ConfigErrors) as error:
        options_of(annotated, ratio="x", width=3)
    assert [line.split(" ")[:2] for line in error.value.lines] == [
        ["objective.ratio", "must"],
        ["objective", "has"],
        ["objective", "lacks"],
    ]


def test_options_that_are_no_mapping_are_refused():
    with pytest.raises(ConfigErrors, match="objective must be a section with fields of its own, got 3"):
        validation.options_of(annotated, 3, "objective")
