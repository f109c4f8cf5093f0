import math
from xml.etree import ElementTree

import pytest

from synclr_hf.report.curves import HEIGHT, MAX_POINTS, SHEET_COLUMNS, WIDTH, curves, curves_sheet, number_text, ticks


def history(values, key="loss"):
    return [{"step": 10 * (place + 1), key: value} for place, value in enumerate(values)]


def line_points(svg):
    path = [node for node in ElementTree.fromstring(svg).iter() if node.tag == "path"][0].get("d")
    return [
        tuple(map(float, pair.split())) for pair in path.replace("h0", "").replace("M", "L").split("L")[1:]
    ], path.count("M")


def test_every_numeric_key_becomes_a_curve_in_a_fixed_order():
    log = [{"step": step, "epoch": 0.1, "zebra": 1.0, "ibot": 4.0, "loss": 9.0 - step, "text": "x"} for step in (1, 2)]
    log.append({"step": 2, "train_runtime": 3.0, "train_loss": 8.0, "once": 1.0})
    found = curves(log)
    assert [curve.key for curve in found] == ["loss", "ibot", "zebra"]
    assert found[0].last == "7" and found[2].title == "Zebra"


def test_points_are_inside_the_frame_and_fall_as_the_values_do():
    points, pieces = line_points(curves(history([5.0, 4.0, 2.0]))[0].svg)
    assert pieces == 1
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert points[0][1] < points[1][1] < points[2][1]  # y grows downwards
    assert points[2][1] - points[1][1] == pytest.approx(2 * (points[1][1] - points[0][1]), abs=0.3)


def test_values_that_are_not_finite_leave_gaps_and_are_told():
    curve = curves(history([3.0, math.nan, 2.0, 1.0, math.inf]))[0]
    points, pieces = line_points(curve.svg)
    assert len(points) == 3 and pieces == 2
    assert curve.problem == "2 of 5 values not finite, first at step 20"
    assert curve.last == "1"
    assert "nan" not in curve.svg and "inf" not in curve.svg


def test_nothing_but_nan_and_a_constant_and_an_empty_log():
    lost, constant = curves([{"step": step, "loss": math.nan, "rate": 0.0} for step in (1, 2, 3)])
    assert lost.svg == "" and lost.last == "" and "3 of 3" in lost.problem
    assert "nan" not in constant.svg
    assert curves([]) == []


def test_long_logs_are_thinned_and_keep_their_last_value():
    curve = curves(history([100 - place / 100 for place in range(5000)]))[0]
    points, _ = line_points(curve.svg)
    assert len(points) <= MAX_POINTS + 2 and curve.last == "50.01"
    assert len(curve.svg) < 60_000


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.994, 1), (1e-9, 3e-9), (-5, 12345), (0, 0)])
def test_ticks_are_round_and_inside(low, high):
    found = ticks(low, high)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)


def test_number_text():
    texts = [number_text(value) for value in (0, 2e-4, 0.07, 1234.5, 250_000, 9.0714)]
    assert texts == ["0", "2e-4", "0.07", "1,234", "2.5e5", "9.071"]


def test_the_sheet_holds_every_curve_beside_the_others_and_is_whole_xml():
    log = [{"step": step, "loss": 9.0 - step, "ibot": 4.0, "a<b": 1.0, "zebra": 2.0} for step in (1, 2, 3)]
    sheet = ElementTree.fromstring(curves_sheet(log))
    places = {(node.get("x"), node.get("y")) for node in sheet if node.tag.endswith("svg")}
    assert len(places) == 4 and len({x for x, _ in places}) == SHEET_COLUMNS
    texts = [node.text for node in sheet.iter() if node.tag.endswith("text") and node.get("class") == "title"]
    assert texts[:2] == ["Loss, sum of its parts", "iBOT, masked patches"] and "A<b" in texts
    assert ElementTree.fromstring(curves_sheet([])).get("width") is not None
