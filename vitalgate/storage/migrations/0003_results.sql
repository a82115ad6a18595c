-- What was made of it: beats by block, features, alert events, the audit trail.
-- A result is named by the patient whose samples it was made from, too: in a block during which the device changed
-- hands there are two results, one of each patient's samples.

CREATE TABLE {data}.beat_blocks (
    time              timestamptz NOT NULL,
    device_id         text NOT NULL,
    recording         text NOT NULL,
    channel           text NOT NULL,
    algorithm         text NOT NULL,
    block             bigint NOT NULL,
    revision          bigint NOT NULL,
    algorithm_version text NOT NULL,
    first_sample      bigint NOT NULL,
    stop_sample       bigint NOT NULL,
    rate              text NOT NULL,
    inputs            jsonb,
    quality           jsonb,
    beats             integer NOT NULL,
    first_beat        timestamptz,
    last_beat         timestamptz,
    patient_id        text NOT NULL,
    CONSTRAINT beat_blocks_key PRIMARY KEY (device_id, recording, channel, algorithm, block, patient_id, time)
) {timed};
CREATE INDEX beat_blocks_time ON {data}.beat_blocks (device_id, time);
CREATE INDEX beat_blocks_patient ON {data}.beat_blocks (patient_id, time);
--@timed beat_blocks time segmentby=device_id,patient_id orderby=time,block,recording,channel,algorithm

CREATE TABLE {data}.beats (
    time              timestamptz NOT NULL,
    device_id         text NOT NULL,
    channel           text NOT NULL,
    recording         text NOT NULL,
    algorithm         text NOT NULL,
    block             bigint NOT NULL,
    sample            bigint NOT NULL,
    kind              text NOT NULL,
    rr_ms             double precision,
    patient_id        text NOT NULL,
    CONSTRAINT beats_key PRIMARY KEY (device_id, channel, time, recording, algorithm, sample, patient_id)
) {timed};
CREATE INDEX beats_patient ON {data}.beats (patient_id, time);
--@timed beats time segmentby=device_id,channel,patient_id orderby=time,sample,recording,algorithm

CREATE TABLE {data}.features (
    time              timestamptz NOT NULL,
    device_id         text NOT NULL,
    recording         text NOT NULL,
    channel           text NOT NULL,
    name              text NOT NULL,
    algorithm         text NOT NULL,
    first_sample      bigint NOT NULL,
    stop_sample       bigint NOT NULL,
    end_time          timestamptz NOT NULL,
    value             double precision,
    unit              text NOT NULL,
    algorithm_version text NOT NULL,
    revision          bigint NOT NULL,
    withdrawn         boolean NOT NULL,
    detail            jsonb,
    patient_id        text NOT NULL,
    CONSTRAINT features_key PRIMARY KEY (device_id, recording, channel, name, algorithm, first_sample, patient_id, time)
) {timed};
CREATE INDEX features_time ON {data}.features (device_id, name, time);
CREATE INDEX features_patient ON {data}.features (patient_id, name, time);
--@timed features time segmentby=device_id,name,patient_id orderby=time,first_sample,recording,channel,algorithm

CREATE SEQUENCE {data}.alert_events_n;

CREATE TABLE {data}.alert_events (
    onset        timestamptz NOT NULL,
    event_id     text NOT NULL,
    n            bigint NOT NULL DEFAULT nextval('{data}.alert_events_n'),
    alert_id     text NOT NULL,
    patient_id   text NOT NULL,
    team         text NOT NULL,
    rule         text NOT NULL,
    rule_version text NOT NULL,
    title        text NOT NULL,
    priority     text NOT NULL,
    state        text NOT NULL,
    detected_at  timestamptz,
    cleared_at   timestamptz,
    received_at  timestamptz,
    value        double precision,
    unit         text,
    limit_value  text,
    metric       text,
    hindsight    boolean NOT NULL DEFAULT false,
    text         text,
    evidence     text[] NOT NULL,
    CONSTRAINT alert_events_key PRIMARY KEY (event_id, onset)
) {timed};
CREATE INDEX alert_events_alert ON {data}.alert_events (alert_id);
CREATE INDEX alert_events_patient ON {data}.alert_events (patient_id, onset);
--@timed alert_events onset segmentby=patient_id orderby=onset,event_id

CREATE TABLE {data}.audit_events (
    time          timestamptz NOT NULL,
    n             bigint NOT NULL,
    event_id      text NOT NULL,
    who           text NOT NULL,
    action        text NOT NULL,
    entity_type   text NOT NULL,
    entity_id     text NOT NULL,
    place         text NOT NULL,
    outcome       text NOT NULL,
    checkpoint    boolean NOT NULL,
    inbox_offset  bigint,
    previous_hash text,
    hash          text NOT NULL,
    record        bytea NOT NULL,
    CONSTRAINT audit_events_key PRIMARY KEY (n, checkpoint, time)
) {timed};
CREATE INDEX audit_events_entity ON {data}.audit_events (entity_type, entity_id, time);
--@timed audit_events time append_only

-- The trail only grows. The owner's own rights go too, so that a mistake in our code cannot do what it must not.
CREATE FUNCTION {data}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_events_fixed BEFORE UPDATE OR DELETE ON {data}.audit_events
    FOR EACH ROW EXECUTE FUNCTION {data}.refuse_change();
CREATE TRIGGER audit_events_kept BEFORE TRUNCATE ON {data}.audit_events
    FOR EACH STATEMENT EXECUTE FUNCTION {data}.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON {data}.audit_events FROM PUBLIC, CURRENT_USER;
