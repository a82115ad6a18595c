-- Enabling an account also lifts a lock-out after too many wrong passwords, of an account that is active.
CREATE OR REPLACE FUNCTION {schema}_records.administer(target text, doing text, facts jsonb) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    account users;
    given text := facts->>'role';
BEGIN
    IF NOT trusted() AND NOT EXISTS (
            SELECT FROM permissions p WHERE p.record = 'user' AND p.verb = doing AND p.role = acting_role()
            AND p.relation = CASE WHEN target = setting('user') THEN 'own' ELSE 'stranger' END) THEN
        RAISE EXCEPTION 'role % may not % this user', setting('role'), doing USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO account FROM users WHERE id = target FOR UPDATE;
    IF account.id IS NULL THEN
        RAISE EXCEPTION 'no such user' USING ERRCODE = 'VG404';
    END IF;
    CASE doing
    WHEN 'approve' THEN
        IF account.status NOT IN ('pending', 'invited') THEN
            RAISE EXCEPTION 'the account is %', account.status USING ERRCODE = 'VG409';
        END IF;
        IF given = 'clinician' THEN
            INSERT INTO clinicians (clinician_id, name) VALUES (facts->>'clinician', coalesce(facts->>'name', ''))
            ON CONFLICT DO NOTHING;
        END IF;
        UPDATE users SET status = 'active', patient_id = coalesce(facts->>'patient', patient_id),
            clinician_id = coalesce(facts->>'clinician', clinician_id), changed_at = now(), version = version + 1
        WHERE id = target;
        INSERT INTO user_roles (user_id, role) VALUES (target, given) ON CONFLICT DO NOTHING;
    WHEN 'grant' THEN
        INSERT INTO user_roles (user_id, role) VALUES (target, given) ON CONFLICT DO NOTHING;
        UPDATE users SET changed_at = now(), version = version + 1 WHERE id = target;
    WHEN 'disable' THEN
        UPDATE users SET status = 'disabled', changed_at = now(), version = version + 1 WHERE id = target;
        UPDATE sessions SET ended_at = now(), ended_because = 'disabled' WHERE user_id = target AND ended_at IS NULL;
    WHEN 'enable' THEN
        IF account.status = 'active' AND account.locked_until IS NOT NULL THEN
            facts := facts || jsonb_build_object('lifted', true, 'failures', account.failures);
        ELSIF account.status <> 'disabled' THEN
            RAISE EXCEPTION 'the account is % and not locked', account.status USING ERRCODE = 'VG409';
        END IF;
        UPDATE users SET status = 'active', failures = 0, locked_until = NULL, changed_at = now(),
            version = version + 1 WHERE id = target;
    ELSE
        RAISE EXCEPTION 'user has no verb "%"', doing USING ERRCODE = 'VG409';
    END CASE;
    PERFORM audit('user.' || doing, 'user', target, NULL, 'success', facts - 'name');
END $$;
