-- Partitions of the audit trail are made by its owner, who cannot log in, when the housekeeper asks for them. Rows that
-- wait in the default partition stay there: the trail is never moved.

--@form plain
CREATE FUNCTION {data}.add_trail_partition(part text, begins timestamptz, ends timestamptz) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {data}, pg_temp AS $$
BEGIN
    IF part !~ '^audit_events_[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no name of a partition of audit_events', part;
    END IF;
    EXECUTE format('CREATE TABLE {data}.%I (LIKE {data}.audit_events INCLUDING DEFAULTS INCLUDING STORAGE)', part);
    EXECUTE format('ALTER TABLE {data}.audit_events ATTACH PARTITION {data}.%I FOR VALUES FROM (%L) TO (%L)',
                   part, begins, ends);
    EXECUTE format('CREATE TRIGGER audit_events_kept BEFORE TRUNCATE ON {data}.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION {data}.refuse_change()', part);
    RETURN true;
EXCEPTION WHEN check_violation THEN
    RETURN false;
END $$;
--@form end
