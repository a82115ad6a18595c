-- Aggregates of current, numeric readings: by device in base tables of a minute and a quarter of an hour, by patient in views.
-- A bucket in which a device changed hands is counted from the readings themselves.

CREATE FUNCTION {data}.bucket_of(width interval, moment timestamptz) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    AS $$ SELECT date_bin(width, moment, timestamptz '2000-01-01 00:00:00+00') $$;

-- Stretches of time whose aggregates are to be computed again; device_id NULL is all devices.
CREATE TABLE {data}.aggregates_dirty (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device_id  text,
    from_time  timestamptz NOT NULL,
    to_time    timestamptz NOT NULL
);

--@form plain
CREATE TABLE {data}.readings_minute (
    bucket     timestamptz NOT NULL,
    device_id  text NOT NULL,
    metric     text NOT NULL,
    unit       text NOT NULL,
    n          bigint NOT NULL,
    total      double precision NOT NULL,
    low        double precision NOT NULL,
    high       double precision NOT NULL,
    CONSTRAINT readings_minute_key PRIMARY KEY (device_id, metric, bucket, unit)
) {timed};
--@timed readings_minute bucket

CREATE TABLE {data}.readings_quarter (
    bucket     timestamptz NOT NULL,
    device_id  text NOT NULL,
    metric     text NOT NULL,
    unit       text NOT NULL,
    n          bigint NOT NULL,
    total      double precision NOT NULL,
    low        double precision NOT NULL,
    high       double precision NOT NULL,
    CONSTRAINT readings_quarter_key PRIMARY KEY (device_id, metric, bucket, unit)
) {timed};
--@timed readings_quarter bucket
--@form end
--@form timescale
-- Materialized only: what a real-time aggregate adds is computed over all devices, however few are asked for.
CREATE MATERIALIZED VIEW {data}.readings_minute WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT time_bucket(interval '1 minute', time) AS bucket, device_id, metric, unit, count(*) AS n,
       sum(value_num) AS total, min(value_num) AS low, max(value_num) AS high
FROM {data}.readings
WHERE current AND NOT retracted AND value_num IS NOT NULL AND comparator IS NULL
GROUP BY time_bucket(interval '1 minute', time), device_id, metric, unit
WITH NO DATA;

CREATE MATERIALIZED VIEW {data}.readings_quarter WITH (timescaledb.continuous, timescaledb.materialized_only = true) AS
SELECT time_bucket(interval '15 minutes', bucket) AS bucket, device_id, metric, unit, sum(n)::bigint AS n,
       sum(total) AS total, min(low) AS low, max(high) AS high
FROM {data}.readings_minute
GROUP BY time_bucket(interval '15 minutes', bucket), device_id, metric, unit
WITH NO DATA;
--@form end

CREATE VIEW {data}.readings_minute_by_patient AS
SELECT a.patient_id, g.device_id, g.metric, g.unit, g.bucket, g.n, g.total, g.low, g.high
FROM {data}.readings_minute g
JOIN {data}.assignments a ON a.device_id = g.device_id
     AND a.during @> tstzrange(g.bucket, g.bucket + interval '1 minute') AND g.bucket >= lower(a.during)
     AND g.bucket < coalesce(upper(a.during), 'infinity')
UNION ALL
SELECT e.patient_id, e.device_id, r.metric, r.unit, e.bucket, count(*), sum(r.value_num), min(r.value_num),
       max(r.value_num)
FROM (
    SELECT a.patient_id, a.device_id, a.during, {data}.bucket_of(interval '1 minute', lower(a.during)) AS bucket
    FROM {data}.assignments a
    UNION
    SELECT a.patient_id, a.device_id, a.during, {data}.bucket_of(interval '1 minute', upper(a.during))
    FROM {data}.assignments a WHERE NOT upper_inf(a.during)
) AS e
JOIN {data}.readings r ON r.device_id = e.device_id AND r.time >= e.bucket AND r.time < e.bucket + interval '1 minute'
     AND e.during @> r.time AND r.current AND NOT r.retracted AND r.value_num IS NOT NULL AND r.comparator IS NULL
WHERE NOT e.during @> tstzrange(e.bucket, e.bucket + interval '1 minute')
GROUP BY e.patient_id, e.device_id, r.metric, r.unit, e.bucket;

CREATE VIEW {data}.readings_quarter_by_patient AS
SELECT a.patient_id, g.device_id, g.metric, g.unit, g.bucket, g.n, g.total, g.low, g.high
FROM {data}.readings_quarter g
JOIN {data}.assignments a ON a.device_id = g.device_id
     AND a.during @> tstzrange(g.bucket, g.bucket + interval '15 minutes') AND g.bucket >= lower(a.during)
     AND g.bucket < coalesce(upper(a.during), 'infinity')
UNION ALL
SELECT e.patient_id, e.device_id, r.metric, r.unit, e.bucket, count(*), sum(r.value_num), min(r.value_num),
       max(r.value_num)
FROM (
    SELECT a.patient_id, a.device_id, a.during, {data}.bucket_of(interval '15 minutes', lower(a.during)) AS bucket
    FROM {data}.assignments a
    UNION
    SELECT a.patient_id, a.device_id, a.during, {data}.bucket_of(interval '15 minutes', upper(a.during))
    FROM {data}.assignments a WHERE NOT upper_inf(a.during)
) AS e
JOIN {data}.readings r ON r.device_id = e.device_id AND r.time >= e.bucket AND r.time < e.bucket + interval '15 minutes'
     AND e.during @> r.time AND r.current AND NOT r.retracted AND r.value_num IS NOT NULL AND r.comparator IS NULL
WHERE NOT e.during @> tstzrange(e.bucket, e.bucket + interval '15 minutes')
GROUP BY e.patient_id, e.device_id, r.metric, r.unit, e.bucket;

CREATE VIEW {schema}.readings_by_minute AS
SELECT u.patient_id, u.metric, u.unit, u.bucket AS time, sum(u.n)::bigint AS n, sum(u.total) / sum(u.n) AS mean,
       min(u.low) AS low, max(u.high) AS high
FROM {data}.readings_minute_by_patient u
GROUP BY u.patient_id, u.metric, u.unit, u.bucket;

CREATE VIEW {schema}.readings_by_hour AS
SELECT u.patient_id, u.metric, u.unit, date_trunc('hour', u.bucket, 'UTC') AS time, sum(u.n)::bigint AS n, sum(u.total) / sum(u.n) AS mean,
       min(u.low) AS low, max(u.high) AS high
FROM {data}.readings_quarter_by_patient u
GROUP BY u.patient_id, u.metric, u.unit, date_trunc('hour', u.bucket, 'UTC');

-- The day is the patient's own: midnight to midnight in the time zone that was in force.
CREATE VIEW {schema}.readings_by_day AS
SELECT u.patient_id, u.metric, u.unit, (u.bucket AT TIME ZONE z.zone)::date AS day, z.zone AS time_zone,
       sum(u.n)::bigint AS n, sum(u.total) / sum(u.n) AS mean, min(u.low) AS low, max(u.high) AS high
FROM {data}.readings_quarter_by_patient u
JOIN (SELECT patient_id, zone, since, lead(since, 1, 'infinity') OVER (PARTITION BY patient_id ORDER BY since) AS until
      FROM {data}.patient_zones) AS z
  ON z.patient_id = u.patient_id AND u.bucket >= z.since AND u.bucket < z.until
GROUP BY u.patient_id, u.metric, u.unit, (u.bucket AT TIME ZONE z.zone)::date, z.zone;
