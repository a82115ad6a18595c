-- What devices sent: readings with their versions, waveform blocks, statuses, dead letters, and the ledger that
-- accounts for every item of them.

CREATE TABLE {data}.readings (
    time          timestamptz NOT NULL,
    device_id     text NOT NULL,
    metric        text NOT NULL,
    site          text NOT NULL,
    idx           integer NOT NULL,
    version       integer NOT NULL,
    current       boolean NOT NULL,
    derived       boolean NOT NULL DEFAULT false,
    retracted     boolean NOT NULL DEFAULT false,
    unusual       boolean NOT NULL DEFAULT false,
    value_num     double precision,
    value_code    text,
    comparator    text,
    absent        text,
    unit          text NOT NULL,
    value_sent    double precision,
    unit_sent     text,
    time_sent     timestamptz,
    offset_min    smallint,
    group_id      text,
    context       jsonb,
    flags         text[],
    epoch         text,
    seq           bigint,
    epoch_no      integer NOT NULL,
    ord           bigint NOT NULL,
    item          integer NOT NULL,
    sightings     bigint[],
    received_at   timestamptz NOT NULL,
    skew_s        integer NOT NULL,
    trace         uuid,
    message_id    uuid NOT NULL,
    content       bigint,
    raw_partition integer NOT NULL,
    raw_offset    bigint NOT NULL,
    CONSTRAINT readings_key PRIMARY KEY (device_id, metric, time, site, idx, version)
) {timed};
CREATE INDEX readings_origin ON {data}.readings (device_id, ord);
CREATE INDEX readings_seen ON {data}.readings (device_id) WHERE sightings IS NOT NULL;
-- By time for the aggregates, whose refresh would read a whole chunk without it.
CREATE INDEX readings_raw ON {data}.readings USING brin (raw_offset, time)
    WITH (pages_per_range = 32, autosummarize = on);
--@timed readings time segmentby=device_id,metric orderby=time,site,idx,version

CREATE TABLE {data}.pending_corrections (
    device_id     text NOT NULL,
    target_epoch  text NOT NULL,
    target_seq    bigint NOT NULL,
    target_item   integer NOT NULL,
    derived       boolean NOT NULL,
    metric        text NOT NULL,
    site          text NOT NULL,
    time          timestamptz NOT NULL,
    idx           integer NOT NULL,
    epoch         text NOT NULL,
    seq           bigint NOT NULL,
    epoch_no      integer NOT NULL,
    ord           bigint NOT NULL,
    item          integer NOT NULL,
    received_at   timestamptz NOT NULL,
    skew_s        integer NOT NULL,
    trace         uuid,
    message_id    text NOT NULL,
    content       bigint,
    raw_partition integer NOT NULL,
    raw_offset    bigint NOT NULL,
    PRIMARY KEY (device_id, target_epoch, target_seq, target_item, epoch_no, ord, item)
);

CREATE TABLE {data}.recordings (
    device_id    text NOT NULL,
    channel      text NOT NULL,
    recording    text NOT NULL,
    first_sample bigint NOT NULL,
    stop_sample  bigint NOT NULL,
    first_time   timestamptz NOT NULL,
    last_time    timestamptz NOT NULL,
    longest      integer NOT NULL,
    rate_num     integer NOT NULL,
    rate_den     integer NOT NULL,
    blocks       bigint NOT NULL,
    anchor_time  timestamptz NOT NULL,
    anchor_sample bigint NOT NULL,
    sum_x        double precision NOT NULL,
    sum_y        double precision NOT NULL,
    sum_xx       double precision NOT NULL,
    sum_xy       double precision NOT NULL,
    packed_through bigint,
    PRIMARY KEY (device_id, channel, recording)
) WITH (fillfactor = 70);

CREATE TABLE {data}.waveforms (
    time          timestamptz NOT NULL,
    device_id     text NOT NULL,
    channel       text NOT NULL,
    recording     text NOT NULL,
    first_sample  bigint NOT NULL,
    count         integer NOT NULL,
    epoch_no      integer NOT NULL,
    ord           bigint NOT NULL,
    item          integer NOT NULL,
    sightings     bigint[],
    version       integer NOT NULL DEFAULT 1,
    current       boolean NOT NULL DEFAULT true,
    n_items       integer NOT NULL DEFAULT 1,
    rate_num      integer NOT NULL,
    rate_den      integer NOT NULL,
    gain          double precision NOT NULL,
    baseline      double precision NOT NULL,
    unit          text NOT NULL,
    codec         smallint NOT NULL,
    samples       bytea NOT NULL,
    items         bytea,
    missing       integer[],
    flags         text[],
    time_sent     timestamptz,
    offset_min    smallint,
    epoch         text,
    seq           bigint,
    received_at   timestamptz NOT NULL,
    skew_s        integer NOT NULL,
    trace         uuid,
    message_id    text NOT NULL,
    raw_partition integer NOT NULL,
    raw_offset    bigint NOT NULL,
    CONSTRAINT waveforms_key PRIMARY KEY (device_id, channel, recording, first_sample, epoch_no, ord, item, time)
) {timed};
ALTER TABLE {data}.waveforms ALTER COLUMN samples SET STORAGE EXTERNAL;
ALTER TABLE {data}.waveforms ALTER COLUMN items SET STORAGE EXTERNAL;
CREATE INDEX waveforms_time ON {data}.waveforms (device_id, channel, time);
CREATE INDEX waveforms_origin ON {data}.waveforms (device_id, channel, epoch_no, ord);
CREATE INDEX waveforms_raw ON {data}.waveforms USING brin (raw_offset) WITH (pages_per_range = 32, autosummarize = on);
--@timed waveforms time

CREATE TABLE {data}.device_status (
    time          timestamptz NOT NULL,
    device_id     text NOT NULL,
    digest        bytea NOT NULL,
    state         text NOT NULL,
    battery       double precision,
    firmware      text,
    serial        text,
    detail        jsonb,
    epoch         text,
    seq           bigint,
    received_at   timestamptz NOT NULL,
    trace         uuid,
    raw_partition integer NOT NULL,
    raw_offset    bigint NOT NULL,
    CONSTRAINT device_status_key PRIMARY KEY (device_id, time, digest)
) {timed};
--@timed device_status time

CREATE TABLE {data}.payloads (
    hash   bytea PRIMARY KEY,
    bytes  bytea NOT NULL
);

CREATE TABLE {data}.dead_letters (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dead_id       text NOT NULL UNIQUE,
    device_id     text NOT NULL,
    reason        text NOT NULL,
    detail        text NOT NULL,
    item          integer NOT NULL,
    mqtt_topic    text NOT NULL,
    received_at   timestamptz NOT NULL,
    payload_hash  bytea NOT NULL,
    content_hash  bytea NOT NULL,
    epoch         text,
    seq           bigint,
    trace         uuid,
    raw_partition integer NOT NULL,
    raw_offset    bigint NOT NULL,
    seen          integer NOT NULL DEFAULT 1,
    last_seen_at  timestamptz NOT NULL,
    by_recorder   boolean NOT NULL DEFAULT false,
    replays       integer NOT NULL DEFAULT 0,
    replayed_at   timestamptz,
    resolved_at   timestamptz,
    resolved_by   text
);
CREATE UNIQUE INDEX dead_letters_open ON {data}.dead_letters (device_id, payload_hash, item) WHERE resolved_at IS NULL;
CREATE INDEX dead_letters_hash ON {data}.dead_letters (payload_hash);
CREATE INDEX dead_letters_content ON {data}.dead_letters (device_id, content_hash);
CREATE INDEX dead_letters_time ON {data}.dead_letters (received_at);

CREATE TABLE {data}.ledger (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    last_offset   bigint NOT NULL CHECK (last_offset >= first_offset),
    messages      bigint NOT NULL,
    items         bigint NOT NULL,
    stored        bigint NOT NULL,
    duplicate     bigint NOT NULL,
    dead_lettered bigint NOT NULL,
    derived       bigint NOT NULL,
    published     boolean NOT NULL DEFAULT false,
    applied_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    made_by       text NOT NULL DEFAULT '',
    renumbered    jsonb,
    CONSTRAINT ledger_once EXCLUDE USING gist (
        topic WITH =, partition WITH =, int8range(first_offset, last_offset, '[]') WITH &&)
);
CREATE INDEX ledger_high_water ON {data}.ledger (topic, partition, last_offset);
CREATE INDEX ledger_unpublished ON {data}.ledger (topic, partition, first_offset) WHERE NOT published;

CREATE TABLE {data}.ledger_holes (
    topic         text NOT NULL,
    partition     integer NOT NULL,
    first_offset  bigint NOT NULL,
    last_offset   bigint NOT NULL,
    found_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, first_offset)
);

-- Closed partitions or chunks that were rewritten without the room that joined rows left behind.
CREATE TABLE {data}.squeezed (
    relation   text PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {data}.retention_drops (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name    text NOT NULL,
    from_time     timestamptz,
    to_time       timestamptz,
    stored        bigint NOT NULL,
    derived       bigint NOT NULL,
    dead_lettered bigint NOT NULL,
    dropped_at    timestamptz NOT NULL DEFAULT now()
);
