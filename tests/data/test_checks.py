import pytest

from synclr_hf.captions.stage import CaptionsConfig
from synclr_hf.data.checks import check_integer, check_number, read_count
from synclr_hf.data.settings import settings_from
from synclr_hf.errors import UserInputError


@pytest.mark.parametrize("value", [1, 5, 10])
def test_good_integers(value):
    check_integer("--size", value, minimum=1, maximum=10, example=4)


@pytest.mark.parametrize("value", [0, 11, -3, 2.0, "4", True, None])
def test_bad_integers(value):
    with pytest.raises(UserInputError) as caught:
        check_integer("--size", value, minimum=1, maximum=10, example=4)
    assert str(caught.value) == f"--size {value} cannot be used; allowed: a whole number, 1 to 10; type --size 4"


@pytest.mark.parametrize("value", [0.1, 1, 1.0])
def test_good_numbers(value):
    check_number("--top-p", value, minimum=0, maximum=1, above_minimum=True, example=0.9)


@pytest.mark.parametrize("value", [0, 1.1, float("nan"), float("inf"), "0.5", False, None])
def test_bad_numbers(value):
    with pytest.raises(UserInputError) as caught:
        check_number("--top-p", value, minimum=0, maximum=1, above_minimum=True, example=0.9)
    assert str(caught.value) == (
        f"--top-p {value} cannot be used; allowed: a number, above 0, up to 1; type --top-p 0.9"
    )


def test_open_ranges_are_told():
    with pytest.raises(UserInputError, match="a whole number, 1 or more"):
        check_integer("--rows", 0, minimum=1, example=2)
    with pytest.raises(UserInputError, match="a number, 0 or more"):
        check_number("--temperature", -1, minimum=0, example=0.8)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1000", 1000), ("1_000", 1000), ("10k", 10_000), ("1M", 1_000_000), ("1.5m", 1_500_000), ("1e6", 1_000_000)],
)
def test_counts_as_people_write_them(text, count):
    assert read_count(text) == count


@pytest.mark.parametrize("text", ["", "many", "1.5", "M", "nan", "inf", "0.0001k", "10kk", "1e5000", "1" * 400])
def test_what_is_no_count(text):
    with pytest.raises(ValueError, match="is no whole number; write 1000, 10k or 1M"):
        read_count(text)


def test_a_recipe_reads_counts_too():
    entries = {"output_dir": "captions", "num_captions": "2M", "rows_per_shard": 500}
    config = settings_from(CaptionsConfig, entries, "captions")
    assert (config.num_captions, config.rows_per_shard) == (2_000_000, 500)
    with pytest.raises(UserInputError, match="section 'captions': num_captions 'many' cannot be used"):
        settings_from(CaptionsConfig, {**entries, "num_captions": "many"}, "captions")
