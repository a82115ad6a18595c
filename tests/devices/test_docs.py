"""docs/mqtt.md is run: every payload on it is decoded, the shell and the C example send what the page says."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from vitalgate.config.settings import IntakeSettings, MqttSettings
from vitalgate.devices import decode, pages
from vitalgate.devices.check import check
from vitalgate.devices.codec import pack_samples, typed_array, unpack_samples
from vitalgate.devices.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "mqtt.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```(json|cbor) (\w+) ([\w-]+)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def payload_of(form: str, text: str) -> bytes:
    if form == "json":
        return text.encode()
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


def test_there_are_examples_of_every_kind_of_message() -> None:
    assert {(form, leaf) for form, leaf, _, _ in EXAMPLES} >= {
        ("json", "readings"), ("json", "waveforms"), ("json", "status"), ("cbor", "readings"), ("cbor", "waveforms"),
    }  # fmt: skip


@pytest.mark.parametrize(("form", "leaf", "kind", "text"), EXAMPLES)
def test_every_payload_on_the_page_is_accepted(form: str, leaf: str, kind: str, text: str) -> None:
    findings = check(payload_of(form, text), leaf, kind)
    assert [str(finding) for finding in findings if finding.level == "wrong"] == []
    assert any(finding.item is not None and finding.level == "fine" for finding in findings)


def test_the_packed_samples_are_those_of_the_page() -> None:
    assert pack_samples([0, 3, 1, 200]).hex(" ") == "01 00 06 03 8e 03"
    assert "`01 00 06 03 8e 03`" in PAGE
    tag = typed_array([0, 3, 1, 200])
    assert f"`d8 4d 48 {tag.value.hex(' ')}`" in PAGE
    (packet,) = (text for form, leaf, _, text in EXAMPLES if (form, leaf) == ("cbor", "waveforms"))
    document = decode.decode(payload_of("cbor", packet))
    assert unpack_samples(document["waveforms"][0]["samples"]) == [0, 3, 1, 200]
    (reading,) = (text for form, leaf, _, text in EXAMPLES if (form, leaf) == ("cbor", "readings"))
    assert f"A reading in {len(payload_of('cbor', reading))} bytes" in PAGE


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (f"{MqttSettings().max_payload_bytes:,}", "mqtt.max_payload_bytes"),
        (f"{IntakeSettings().max_readings:,}", "intake.max_readings"),
        (f"{IntakeSettings().max_samples:,}", "intake.max_samples"),
        (f"{IntakeSettings().max_backfill_days} days", "intake.max_backfill_days"),
        (f"{IntakeSettings().max_ahead_s:g} s", "intake.max_ahead_s"),
        (f"{IntakeSettings().skew_tolerance_s:g} s", "intake.skew_tolerance_s"),
        (f"{IntakeSettings().max_messages_per_s:g}", "intake.max_messages_per_s"),
    ],
)
def test_the_limits_are_the_settings(value: str, name: str) -> None:
    assert f"| {value} | `{name}` |" in PAGE


def test_the_pages_of_reasons_and_kinds_are_up_to_date() -> None:
    assert (DOCS / "reasons.md").read_text(encoding="utf-8") == pages.reasons()
    assert (DOCS / "kinds.md").read_text(encoding="utf-8") == pages.kinds()
    assert all(f"`{reason}`" in pages.reasons() for reason in Reason)


CAPTURE = """#!/bin/sh
while [ $# -gt 1 ]; do
  case "$1" in -t) printf '%s\\n' "$2" ;; -m) printf '%s\\n' "$2" ;; esac
  shift
done
"""


def test_the_shell_example_sends_a_message(tmp_path: Path) -> None:
    script = re.search(r"^(mosquitto_pub .*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert script is not None
    command = tmp_path / "mosquitto_pub"
    command.write_text(CAPTURE)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PASSWORD": "secret"}
    done = subprocess.run(["sh", "-c", script[1]], env=environment, capture_output=True, text=True, check=True)
    topic, payload = done.stdout.strip().split("\n")
    assert topic == "v1/devices/therm-1/readings"
    assert not [finding for finding in check(payload.encode(), "readings", "thermometer") if finding.level == "wrong"]


#: As much of libmosquitto as the example uses, so that it is compiled and run where the library's headers are not.
HEADER = """
#include <stdbool.h>
#include <stdio.h>
#define MOSQ_ERR_SUCCESS 0
struct mosquitto;
typedef void (*told)(struct mosquitto *, void *, int);
struct mosquitto { told connected, published; };
static struct mosquitto the_one;
static int mosquitto_lib_init(void) { return 0; }
static int mosquitto_lib_cleanup(void) { return 0; }
static const char *mosquitto_connack_string(int code) { return code ? "refused" : "accepted"; }
static struct mosquitto *mosquitto_new(const char *id, bool clean, void *obj) { return &the_one; }
static int mosquitto_username_pw_set(struct mosquitto *m, const char *u, const char *p) { return 0; }
static void mosquitto_connect_callback_set(struct mosquitto *m, told f) { m->connected = f; }
static void mosquitto_publish_callback_set(struct mosquitto *m, told f) { m->published = f; }
static int mosquitto_connect(struct mosquitto *m, const char *host, int port, int alive) { return 0; }
static int mosquitto_disconnect(struct mosquitto *m) { return 0; }
static int mosquitto_loop_forever(struct mosquitto *m, int ms, int n) { m->connected(m, NULL, 0); return 0; }
static void mosquitto_destroy(struct mosquitto *m) { }
static int mosquitto_publish(struct mosquitto *m, int *mid, const char *topic, int n, const void *data, int qos,
                             bool retain) {
  printf("%s %d ", topic, qos);
  for (int i = 0; i < n; i++) printf("%02x", ((const unsigned char *)data)[i]);
  m->published(m, NULL, 1);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_example_sends_a_packet(tmp_path: Path) -> None:
    code = re.search(r"^```c\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert code is not None
    (tmp_path / "mosquitto.h").write_text(HEADER)
    (tmp_path / "device.c").write_text(code[1])
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function"]
    subprocess.run(["cc", *flags, "-I", tmp_path, tmp_path / "device.c", "-o", tmp_path / "device"], check=True)
    done = subprocess.run(
        [tmp_path / "device", "ecg-1", "secret", "5", "1000", "1795255200"], capture_output=True, text=True, check=True
    )
    topic, qos, payload = done.stdout.split()
    assert (topic, qos) == ("v1/devices/ecg-1/waveforms", "1")
    findings = check(bytes.fromhex(payload), "waveforms", "ecg-patch")
    assert [finding.level for finding in findings] == ["fine", "fine"]
    assert "250 samples, 1 s at 250 Hz" in findings[1].text
