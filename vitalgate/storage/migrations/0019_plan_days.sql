-- An active plan's alert limits are the patient's, marked as the plan's, and go when it is not active any more. They hold
-- in the plan's days alone, midnight to midnight where the patient is: a plan that nobody closes ends by itself.
CREATE OR REPLACE FUNCTION {schema}_records.apply_limits() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    mark text := 'plan:' || NEW.id;
    wanted jsonb := CASE WHEN NEW.status = 'active' THEN NEW.alert_overrides ELSE '{}' END;
    was jsonb;
    made jsonb := '{}';
    rule text;
    entries jsonb;
    zone text := coalesce((SELECT z.zone FROM patient_zones z WHERE z.patient_id = NEW.patient_id AND z.since <= now()
                           ORDER BY z.since DESC LIMIT 1), 'UTC');
    ends timestamptz := (NEW.end_date + 1)::timestamp AT TIME ZONE zone;
    -- A plan of today is in force as soon as it is active, whatever the day is elsewhere.
    begins timestamptz := CASE WHEN NEW.start_date > greatest((now() AT TIME ZONE zone)::date,
                                                              (now() AT TIME ZONE 'UTC')::date)
                               THEN NEW.start_date::timestamp AT TIME ZONE zone END;
BEGIN
    SELECT overrides INTO was FROM patients WHERE patient_id = NEW.patient_id FOR UPDATE;
    FOR rule IN SELECT jsonb_object_keys(was) UNION SELECT jsonb_object_keys(wanted) LOOP
        entries := was->rule;
        IF left(rule, 1) <> '_' THEN
            entries := CASE jsonb_typeof(entries) WHEN 'array' THEN entries WHEN 'object' THEN jsonb_build_array(entries)
                       ELSE '[]' END;
            SELECT coalesce(jsonb_agg(e ORDER BY n), '[]') INTO entries
            FROM jsonb_array_elements(entries) WITH ORDINALITY AS x (e, n) WHERE e->>'author' IS DISTINCT FROM mark;
            IF wanted ? rule THEN
                SELECT entries || coalesce(jsonb_agg(e || jsonb_build_object('author', mark) || jsonb_strip_nulls(
                    jsonb_build_object('from', greatest((e->>'from')::timestamptz, begins),
                                       'to', least((e->>'to')::timestamptz, ends))) ORDER BY n), '[]') INTO entries
                FROM jsonb_array_elements(CASE jsonb_typeof(wanted->rule) WHEN 'array' THEN wanted->rule
                                          ELSE jsonb_build_array(wanted->rule) END) WITH ORDINALITY AS x (e, n);
            END IF;
            IF jsonb_array_length(entries) = 1 AND jsonb_typeof(was->rule) = 'object' THEN
                entries := entries->0;
            END IF;
            CONTINUE WHEN entries = '[]';
        END IF;
        made := made || jsonb_build_object(rule, entries);
    END LOOP;
    IF made <> was THEN
        UPDATE patients SET overrides = made, updated_at = now() WHERE patient_id = NEW.patient_id;
        PERFORM tell_patient(NEW.patient_id);
    END IF;
    RETURN NULL;
END $$;
