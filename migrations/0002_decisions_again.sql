-- What a decision was made of, so that it can be made again years later; and versions of the rules that nobody can change.

CREATE VIEW decision_inputs WITH (security_invoker = true) AS
SELECT c.customer_id, c.tenant_id, c.registration_id, c.registered_at, c.category_id, c.categorization::text AS categorization,
  p.date_of_birth, coalesce(p.nationalities, ARRAY[p.nationality]) AS nationalities,
  p.nationalities IS NOT NULL AS nationalities_told,
  ARRAY(SELECT DISTINCT a ->> 'country' FROM json_array_elements(p.addresses) AS a) AS residences,
  p.place_of_birth IS NOT NULL AS place_of_birth_told,
  c.phone IS NOT NULL AS phone_told,
  d.catalogue_version, d.decision::text AS decision
FROM customers AS c
JOIN persons AS p USING (customer_id, tenant_id)
JOIN decisions AS d USING (customer_id, tenant_id);
COMMENT ON VIEW decision_inputs IS 'Everything that the rules may know of a customer, and what they said; no name, address or email, but for what a caller wrote into a parameter.';

CREATE FUNCTION catalogues_never_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'versions of a catalogue are never changed or removed: decisions were made by them';
END
$$;
CREATE FUNCTION catalogues_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE newest record;
BEGIN
  SELECT version, effective_at INTO newest FROM catalogues WHERE tenant_id = NEW.tenant_id ORDER BY version DESC LIMIT 1;
  IF NEW.version <> coalesce(newest.version, 0) + 1
    OR newest.version IS NOT NULL AND NEW.effective_at < greatest(newest.effective_at, clock_timestamp() + interval '30 seconds') THEN
    RAISE EXCEPTION 'a further version of a catalogue follows the newest one, and holds only after a while: use "registration catalogue apply"';
  END IF;
  RETURN NEW;
END
$$;
CREATE TRIGGER catalogues_ordered BEFORE INSERT ON catalogues FOR EACH ROW EXECUTE FUNCTION catalogues_in_order();
CREATE TRIGGER catalogues_immutable BEFORE UPDATE OR DELETE OR TRUNCATE ON catalogues
FOR EACH STATEMENT EXECUTE FUNCTION catalogues_never_change();
