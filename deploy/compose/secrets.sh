#!/bin/sh
# Make the secrets that docker-compose.yml mounts, once; those that are there are kept.
set -eu
umask 077
mkdir -p secrets
random() { od -An -tx1 -N24 /dev/urandom | tr -d ' \n'; }
for name in gateway_password broker_admin_password database_password grafana_password; do
  [ -s "secrets/$name" ] || random > "secrets/$name"
done
[ -s secrets/database_passfile ] || printf 'timescaledb:5432:*:vitalgate:%s\n' "$(cat secrets/database_password)" > secrets/database_passfile
[ -s secrets/audit_signing_key ] || openssl genpkey -algorithm ed25519 -out secrets/audit_signing_key
# The ring that seals what names a person (`vitalgate keys`): keep a copy where no backup of the database is.
[ -s secrets/key_ring ] || for use in seal index; do
  printf '%s %.1s-%s-%s %s\n' "$use" "$use" "$(date -u +%Y%m%d)" "$(od -An -tx1 -N4 /dev/urandom | tr -d ' \n')" \
    "$(openssl rand -base64 32)"
done > secrets/key_ring
# The containers read them as other users; the directory itself stays closed.
chmod 644 secrets/*
chmod 700 secrets
echo "secrets/ is ready; docker compose up --build"
