"""The shipped catalogue is whole and its codes are real; a new kind is one file; errors name file and field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vitalgate.devices import catalogue
from vitalgate.devices.catalogue import CatalogueError, UnknownName
from vitalgate.devices.catalogue_files import loinc_is_valid
from vitalgate.devices.units import mdc_number, quantities
from vitalgate.devices.validate import validate

from .support import NOW, at, context

KINDS = {
    "ecg-patch", "ecg-handheld", "ecg-12-lead", "pulse-oximeter", "bp-cuff", "scale", "thermometer", "glucose-meter",
    "respiration-belt", "spirometer", "ergometer", "activity-band", "manual",
}  # fmt: skip

#: 32-bit numbers as the sources give them, to hold the arithmetic against (not computed here).
MDC_SEEN = {
    "heart_rate": 147842, "pulse_rate": 149530, "spo2": 150456, "perfusion_index": 150448, "respiration_rate": 151562,
    "bp_systolic": 150021, "bp_diastolic": 150022, "bp_mean": 150023, "temperature": 150364, "weight": 188736,
    "bmi": 188752, "body_fat": 188748, "glucose": 160184, "fev1": 152586, "fvc": 188928, "pef": 152584,
    "fev1_fvc": 188948, "steps": 8454247, "distance": 8454247, "energy": 8454263, "power": 8454259, "speed": 8454254,
    "cadence": 8454255, "exercise_heart_rate": 8454258, "rr_interval": 147240, "qrs_duration": 147228,
    "pr_interval": 146944, "qt_interval": 147232, "qtc_interval": 147236, "battery": 67996, "rhythm": 184327,
}  # fmt: skip


def test_the_thirteen_kinds_are_there() -> None:
    assert set(catalogue.load().kinds) == KINDS


def test_every_loinc_code_has_a_right_check_digit() -> None:
    text = "".join(path.read_text() for path in catalogue.HERE.rglob("*.toml"))
    codes = set(re.findall(r"\"(\d{3,7}-\d)\"", text))
    assert len(codes) > 45
    assert [code for code in codes if not loinc_is_valid(code)] == []
    assert not loinc_is_valid("3150-6")


def test_mdc_numbers_are_partition_times_65536_plus_term() -> None:
    metrics = catalogue.load().metrics
    for name, number in MDC_SEEN.items():
        code = metrics[name].mdc
        assert code is not None
        partition, term = (int(part) for part in code.code.split("::"))
        assert code.number == partition * 65536 + term == number, name
    assert {unit.mdc for unit in quantities()["temperature"].units.values()} == {268192, 266560, 266528}
    leads = catalogue.load().kind("ecg-12-lead").channels
    assert (leads["ecg.I"].mdc, leads["ecg.I"].lead_mdc) == (131329, 131073)
    assert (leads["ecg.V6"].mdc, leads["ecg.V6"].lead_mdc) == (131336, 131080)
    assert leads["ecg.III"].lead_mdc == 131133


def test_a_metric_has_a_standard_code_or_a_local_one() -> None:
    for metric in catalogue.load().metrics.values():
        assert metric.loinc or metric.mdc or metric.local, metric.name
        if metric.local:
            assert metric.local.startswith("vitalgate:")


def test_channels_have_the_rates_of_their_kind() -> None:
    kinds = catalogue.load().kinds
    rates = {name: {float(channel.rate) for channel in kind.channels.values()} for name, kind in kinds.items()}
    assert rates["ecg-patch"] == {250.0}
    assert rates["ecg-handheld"] == {300.0}
    assert rates["ecg-12-lead"] == {500.0}
    assert len(kinds["ecg-12-lead"].channels) == 12
    assert rates["pulse-oximeter"]
    assert rates["respiration-belt"]


def test_unusual_limits_lie_inside_the_plausible_ones() -> None:
    for kind in catalogue.load().kinds.values():
        for metric in kind.metrics.values():
            if not metric.coded:
                assert metric.low < metric.high
                assert metric.unusual_low < metric.high
                assert metric.unusual_high > metric.low
                assert metric.units[metric.unit].is_canonical


def test_unknown_names_list_those_there_are() -> None:
    with pytest.raises(UnknownName, match="there are activity-band"):
        catalogue.load().kind("toaster")
    with pytest.raises(UnknownName, match="spo2"):
        catalogue.load().metric("spo")


PUMP = """
kind = "insulin-pump"
title = "Insulin pump"
description = "A kind that only this test knows."
metrics = [{ name = "glucose", units = ["mmol/L"] }, { name = "basal_rate", cadence_s = 300 }]

[define.basal_rate]
title = "Basal rate"
quantity = "flow"
resolution = 0.01
plausible = [0, 50]
unusual_above = 10

[[channels]]
names = ["pressure"]
title = "Reservoir pressure"
quantity = "pressure"
rate = "1000/3"
rate_min = "100"
rate_max = "400"
plausible = [0, 300]
"""


def test_a_new_kind_is_one_file_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "insulin-pump.toml").write_text(PUMP)
    kind = catalogue.load(tmp_path).kind("insulin-pump")
    assert kind.metrics["basal_rate"].local == "vitalgate:basal_rate"
    document = {
        "readings": [
            {"metric": "basal_rate", "value": 0.5, "unit": "L/s", "time": at()},
            {"metric": "glucose", "value": 5.5, "unit": "mg/dL", "time": at()},
        ]
    }
    outcome = validate(document, "readings", kind, context())
    assert [reading.value_num for reading in outcome.readings] == [30.0]
    assert [dead.reason for dead in outcome.dead] == ["unknown_unit"]
    block = {"channel": "pressure", "start": at(), "rate": "1000/3", "gain": 1, "unit": "mm[Hg]", "samples": [1, 2]}
    assert validate({"waveforms": [block]}, "waveforms", kind, context(received_us=NOW)).waveforms[0].rate_den == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("plausible = [0, 50]", "plausible = [50, 0]"), "define.basal_rate: .*first limit must be below"),
        (('quantity = "flow"', 'quantity = "speedd"'), "define.basal_rate.quantity: .*speedd"),
        (('title = "Insulin pump"', ""), "title: Field required"),
        (('name = "glucose"', 'name = "glucosse"'), "metrics: no metric 'glucosse'"),
        (('["mmol/L"]', '["mg"]'), r"metrics.glucose.units: \['mg'\] must be some of"),
        (('kind = "insulin-pump"', 'kind = "pump"'), "kind: 'pump' must be the file's name"),
        (('rate = "1000/3"', 'rate = "50"'), "channels.0: .*rate 50 is not between"),
        (('names = ["pressure"]', 'names = ["ecg.V9"]'), "channels.names: 'ecg.V9' is not ecg. and one of"),
        (("cadence_s = 300", "cadence = 300"), "metrics.1.cadence: .*not permitted"),
        (("resolution = 0.01", 'resolution = 0.01\nloinc = ["3150-6"]'), "define.basal_rate.loinc.0: .*check digit"),
        (("resolution = 0.01", 'mdc = { ref = "X", code = "2:1" }\nresolution = 0.01'), "define.basal_rate.mdc.code"),
        (("[define.basal_rate]", "[define.basal_rate"), "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_field(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    path = tmp_path / "insulin-pump.toml"
    assert change[0] in PUMP
    path.write_text(PUMP.replace(*change))
    with pytest.raises(CatalogueError, match=re.escape(str(path)) + ".*" + says):
        catalogue.load(tmp_path)


def test_mdc_numbers_have_two_parts() -> None:
    assert mdc_number("128::29268") == 8417876
    for wrong in ("2", "2:1", "a::1", "70000::1", "1::70000"):
        with pytest.raises(ValueError, match="MDC code"):
            mdc_number(wrong)
