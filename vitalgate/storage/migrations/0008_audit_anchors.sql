-- Signed checkpoints of the audit trail once more, in a table of their own: a trail cut in audit_events or on its Kafka
-- topic does not reach this far back. Append-only, as the trail is.
CREATE TABLE {data}.audit_anchors (
    n         bigint NOT NULL,
    hash      text NOT NULL,
    key_id    text NOT NULL,
    record    bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT audit_anchors_key PRIMARY KEY (n, hash, key_id)
);
CREATE TRIGGER audit_anchors_fixed BEFORE UPDATE OR DELETE ON {data}.audit_anchors
    FOR EACH ROW EXECUTE FUNCTION {data}.refuse_change();
CREATE TRIGGER audit_anchors_kept BEFORE TRUNCATE ON {data}.audit_anchors
    FOR EACH STATEMENT EXECUTE FUNCTION {data}.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON {data}.audit_anchors FROM PUBLIC, CURRENT_USER;
