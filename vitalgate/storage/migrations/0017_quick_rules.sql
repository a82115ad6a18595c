-- The rules that are asked for every row and request, in a language that keeps its plans.

CREATE OR REPLACE FUNCTION {schema}_records.acting_role() RETURNS text STABLE LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = {schema}_records, {data}, pg_temp AS $$
BEGIN
    RETURN (SELECT r.role FROM users u JOIN user_roles r ON r.user_id = u.id
            WHERE u.id = setting('user') AND r.role = setting('role') AND u.status = 'active');
END $$;

CREATE OR REPLACE FUNCTION {schema}_records.relation_to(patient text) RETURNS text STABLE LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    mine text := acting_role();
BEGIN
    RETURN coalesce((SELECT relation FROM relations
                     WHERE user_id = setting('user') AND role = mine AND patient_id = patient), 'stranger');
END $$;

CREATE OR REPLACE FUNCTION {schema}_records.may(what text, doing text, patient text, doc jsonb) RETURNS boolean STABLE
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}_records, {data}, pg_temp AS $$
DECLARE
    mine text := acting_role();
    theirs text;
BEGIN
    IF mine IS NULL OR NOT EXISTS (SELECT FROM permissions p
                                   WHERE p.record = what AND p.verb = doing AND p.role = mine) THEN
        RETURN false;
    END IF;
    theirs := relation_to(patient);
    RETURN coalesce((SELECT holds(p.condition, doc) FROM permissions p
                     WHERE p.record = what AND p.verb = doing AND p.role = mine AND p.relation = theirs), false);
END $$;

-- A program of ours that puts sealed values under another key changes nothing of what the profile says: no version.
CREATE FUNCTION {schema}_records.resealing() RETURNS boolean STABLE LANGUAGE sql
    AS $$ SELECT {schema}_records.setting('verb') = 'reseal' AND {schema}_records.trusted() $$;
DROP TRIGGER a_guard ON {schema}_records.patient_profiles;
DROP TRIGGER z_keep ON {schema}_records.patient_profiles;
CREATE TRIGGER a_guard BEFORE INSERT OR UPDATE ON {schema}_records.patient_profiles
    FOR EACH ROW WHEN (NOT {schema}_records.resealing()) EXECUTE FUNCTION {schema}_records.guard('patient_profile');
CREATE TRIGGER z_keep AFTER INSERT OR UPDATE ON {schema}_records.patient_profiles
    FOR EACH ROW WHEN (NOT {schema}_records.resealing()) EXECUTE FUNCTION {schema}_records.keep('patient_profile');
