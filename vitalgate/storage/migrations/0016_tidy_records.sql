-- Housekeeping of records: old changes go, and the words of messages that the retention policy does not keep. A message
-- itself stays, empty and withdrawn, in every version; one under legal hold stays as it is.

CREATE FUNCTION {schema}_records.tidy_records(changes_days integer, message_days integer) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}_records, pg_temp AS $$
DECLARE
    total bigint := 0;
    part bigint;
    old text[];
BEGIN
    WHILE number_changes() > 0 LOOP
    END LOOP;
    DELETE FROM changes WHERE at < now() - make_interval(days => changes_days);
    GET DIAGNOSTICS total = ROW_COUNT;
    WHILE message_days > 0 LOOP
        old := ARRAY(SELECT id FROM messages WHERE sent_at < now() - make_interval(days => message_days)
                     AND NOT legal_hold AND body <> '' ORDER BY sent_at LIMIT 5000);
        EXIT WHEN old = '{}';
        part := expire_messages(old);
        total := total + part;
    END LOOP;
    RETURN total;
END $$;

CREATE FUNCTION {schema}_records.expire_messages(old text[]) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, pg_temp AS $$
DECLARE part bigint;
BEGIN
    PERFORM set_config('vitalgate.verb', 'expire', true);
    UPDATE messages SET body = '', attachments = '[]', withdrawn_reason = 'retention'
    WHERE id = ANY (old) AND NOT legal_hold;
    GET DIAGNOSTICS part = ROW_COUNT;
    UPDATE record_versions SET doc = doc || '{"body": "", "attachments": []}'
    WHERE record = 'message' AND id = ANY (old);
    PERFORM audit_as(coalesce(nullif(setting('who'), ''), 'service:retention'), 'message.expire', 'message', '', NULL,
                     'success', jsonb_build_object('count', part));
    RETURN part;
END $$;
REVOKE EXECUTE ON FUNCTION {schema}_records.tidy_records(integer, integer) FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION {schema}_records.expire_messages(text[]) FROM PUBLIC;

-- The step of an alert is told from the schema of the tables, which the role that adds their chunks may enter.
DROP TRIGGER alert_events_told ON {data}.alert_events;
DROP FUNCTION {schema}_records.tell_alert();
CREATE FUNCTION {data}.tell_alert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    INSERT INTO changes_new (record, id, patient_id, verb, version, status, detail)
    VALUES ('alert', NEW.alert_id, NEW.patient_id, NEW.state, 1, NEW.state,
            jsonb_build_object('rule', NEW.rule, 'priority', NEW.priority, 'onset', NEW.onset));
    PERFORM pg_notify('records', '{schema}');
    RETURN NULL;
END $$;
CREATE TRIGGER alert_events_told AFTER INSERT ON {data}.alert_events
    FOR EACH ROW EXECUTE FUNCTION {data}.tell_alert();
