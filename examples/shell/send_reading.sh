#!/bin/sh
# Send one temperature and wait for its receipt: sh send_reading.sh 36.8
# Exit status 0: kept. 1: no receipt within VG_WAIT seconds; send it again with the same epoch and seq (VG_EPOCH, VG_SEQ).
set -eu
value=${1:?the temperature in degrees Celsius}
host=${VG_HOST:-127.0.0.1} port=${VG_PORT:-1883} device=${VG_DEVICE:?} password=${VG_PASSWORD:?}
epoch=${VG_EPOCH:-$(od -An -N6 -tx1 /dev/urandom | tr -d ' \n')}
seq=${VG_SEQ:-1}
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
time=${VG_TIME:-$now}

receipts=$(mktemp)
trap 'kill "$listener" 2>/dev/null || true; rm -f "$receipts"' EXIT
mosquitto_sub -V 5 -h "$host" -p "$port" -i "$device-listen" -u "$device" -P "$password" -q 1 \
  -W "${VG_WAIT:-20}" -t "v1/devices/$device/receipts" >"$receipts" &
listener=$!
sleep 1

mosquitto_pub -V 5 -h "$host" -p "$port" -i "$device-send" -u "$device" -P "$password" -q 1 \
  -t "v1/devices/$device/readings" \
  -m '{"epoch":"'"$epoch"'","seq":'"$seq"',"sent_at":"'"$now"'","readings":[{"metric":"temperature","value":'"$value"',"unit":"Cel","site":"ear","time":"'"$time"'"}]}'

# Kept when a receipt of this epoch reaches this number. A device that sends many needs "beyond" too: see docs/mqtt.md.
tries=0
while [ "$tries" -lt $((5 * ${VG_WAIT:-20})) ]; do
  kept=$(sed -n 's/.*"epoch":"'"$epoch"'","kept_through":\(-\{0,1\}[0-9]*\).*/\1/p' "$receipts" | tail -n 1)
  if [ "${kept:--1}" -ge "$seq" ]; then
    grep '"epoch":"'"$epoch"'"' "$receipts" | tail -n 1
    exit 0
  fi
  tries=$((tries + 1))
  sleep 0.2
done
echo "no receipt; send it again: VG_EPOCH=$epoch VG_SEQ=$seq VG_TIME=$time sh $0 $value" >&2
exit 1
