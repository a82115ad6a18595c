-- A profile that names no time zone takes over the one in which the patient is registered; it does not move them to UTC.

ALTER TABLE {schema}_records.patient_profiles ALTER COLUMN time_zone DROP DEFAULT;

CREATE OR REPLACE FUNCTION {schema}_records.enrol() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    IF NEW.time_zone IS NULL THEN
        NEW.time_zone := coalesce((SELECT zone FROM patient_zones WHERE patient_id = NEW.patient_id AND since <= now()
                                   ORDER BY since DESC LIMIT 1), 'UTC');
    END IF;
    IF TG_OP = 'INSERT' THEN
        INSERT INTO patients (patient_id, team)
        VALUES (NEW.patient_id, coalesce(nullif(setting('team'), ''), 'care')) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            INSERT INTO patient_zones VALUES (NEW.patient_id, '-infinity', NEW.time_zone);
            PERFORM tell_patient(NEW.patient_id);
            RETURN NEW;
        END IF;
    END IF;
    IF NEW.time_zone IS DISTINCT FROM (SELECT zone FROM patient_zones WHERE patient_id = NEW.patient_id
                                       AND since <= now() ORDER BY since DESC LIMIT 1) THEN
        INSERT INTO patient_zones VALUES (NEW.patient_id, now(), NEW.time_zone)
        ON CONFLICT (patient_id, since) DO UPDATE SET zone = excluded.zone;
        PERFORM tell_patient(NEW.patient_id);
    END IF;
    RETURN NEW;
END $$;
