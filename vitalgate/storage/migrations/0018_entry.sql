-- The beginning of a request, in one statement; and the samples of a stretch of time, by a plan that is kept.

-- Called by the API's own connection at the start of a transaction: proves that the access token still holds, with the
-- roles that the caller takes the user to have, then acts as that user, in the role of applications, until its end.
-- Without a mark nothing is proven: the caller has just done it.
CREATE FUNCTION {schema}_records.enter(
    mark bytea, roles_known text[], acts text, as_role text, session text, place text, team text) RETURNS void
    LANGUAGE plpgsql SET search_path = {schema}_records, pg_temp AS $$
BEGIN
    IF mark IS NOT NULL AND NOT EXISTS (
            SELECT FROM session_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
            WHERE t.hash = mark AND t.kind = 'access' AND t.expires_at > now() AND s.id = session AND s.user_id = acts
              AND s.ended_at IS NULL AND s.expires_at > now() AND u.status = 'active'
              AND roles_known = ARRAY (SELECT r.role FROM user_roles r WHERE r.user_id = u.id ORDER BY r.role)) THEN
        RAISE EXCEPTION 'the access token does not hold any more' USING ERRCODE = 'VG401';
    END IF;
    PERFORM set_config('vitalgate.user', acts, true), set_config('vitalgate.role', as_role, true),
            set_config('vitalgate.session', session, true), set_config('vitalgate.place', place, true),
            set_config('vitalgate.who', 'user:' || acts, true), set_config('vitalgate.verb', '', true),
            set_config('vitalgate.team', team, true), set_config('role', '{schema}_app', true);
END $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.enter(bytea, text[], text, text, text, text, text) FROM PUBLIC;

-- Rows of waveforms that reach into [start, stop), of the devices that a patient had then and of a visible patient
-- alone; `low` and `high` say when each device was the patient's: readers cut to it.
CREATE FUNCTION {schema}_records.waveform_rows(
    patient text, wanted text, start timestamptz, stop timestamptz, of_device text)
    RETURNS TABLE (device_id text, low timestamptz, high timestamptz, "time" timestamptz, recording text,
                   first_sample bigint, count integer, rate_num integer, rate_den integer, gain double precision,
                   baseline double precision, unit text, codec smallint, samples bytea, missing integer[], items bytea)
    STABLE LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF NOT patient = ANY (readable('device_data')) THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT a.device_id, a.low, a.high, w.time, w.recording, w.first_sample, w.count, w.rate_num, w.rate_den, w.gain,
           w.baseline, w.unit, w.codec, w.samples, w.missing, w.items
    FROM (SELECT x.device_id, greatest(lower(x.during), start) AS low,
                 least(coalesce(upper(x.during), 'infinity'), stop) AS high
          FROM assignments x
          WHERE x.patient_id = patient AND x.during && tstzrange(start, stop)
            AND (of_device IS NULL OR x.device_id = of_device)) AS a
    JOIN recordings r ON r.device_id = a.device_id AND r.channel = wanted AND r.first_time < a.high
         AND r.last_time > a.low
    JOIN {data}.waveforms w ON w.device_id = r.device_id AND w.channel = wanted AND w.recording = r.recording
         AND w.current AND w.time < a.high AND w.time < stop
         AND w.time >= a.low - make_interval(secs => (r.longest + 1) * r.rate_den / r.rate_num::double precision)
    ORDER BY a.low, a.device_id, r.first_time, w.recording, w.first_sample;
END $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.waveform_rows(text, text, timestamptz, timestamptz, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION {schema}_records.waveform_rows(text, text, timestamptz, timestamptz, text) TO {schema}_app;
