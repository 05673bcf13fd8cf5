-- Who may do what: the worker writes, the ingress reads the tenant that it has named, the session service reads one view.
-- The three are groups: a process logs in as a role of its own that is a member of one (README, "Database roles").

-- Roles belong to the whole server and a migration to one database: another one may make them at this moment, or have made
-- them long ago. Whoever may not make roles finds them made by an administrator.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['registration_worker', 'registration_ingress', 'registration_session'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
      BEGIN
        EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
      EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL;
      END;
    END IF;
  END LOOP;
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO registration_worker, registration_ingress, registration_session', current_schema());
END
$$;

-- The worker: what its statements do, and no more. It writes persons, users and decisions, and never reads one.
GRANT SELECT ON tenants, catalogues TO registration_worker;
GRANT SELECT, INSERT, UPDATE ON kafka_offsets, registrations, dead_letters TO registration_worker;
GRANT SELECT, INSERT, DELETE ON outbox TO registration_worker;
GRANT SELECT (email_normalized, tenant_id), INSERT ON customers TO registration_worker;
GRANT INSERT ON persons, users, decisions TO registration_worker;

-- The ingress reads rows of one tenant through tables that hold none: each is the parent of the table with the rows, with the
-- columns that the ingress may see, and with row-level security. A query of a parent is held to the parent's rights and policies
-- alone, so that whoever writes the rows is free of them: COPY refuses every role that policies apply to (README, "Database roles").
-- A column that is here can't be renamed or get another type in the table itself: do so here, and it follows.
CREATE TABLE customers_of_tenant (
  customer_id text,
  tenant_id text,
  registration_id text,
  email text,
  phone text,
  status text,
  category_id text,
  categorization json,
  registered_at timestamptz,
  CONSTRAINT customers_of_tenant_holds_nothing CHECK (false) NO INHERIT
);
CREATE TABLE persons_of_tenant (
  customer_id text,
  tenant_id text,
  person_id text,
  first_name text,
  last_name text,
  customer_name text,
  date_of_birth date,
  place_of_birth text,
  gender text,
  nationality text,
  nationalities text[],
  addresses json,
  contacts json,
  CONSTRAINT persons_of_tenant_holds_nothing CHECK (false) NO INHERIT
);
CREATE TABLE users_of_tenant (
  customer_id text,
  tenant_id text,
  user_id text,
  username text,
  status text,
  roles text[],
  is_active boolean,
  requires_password_change boolean,
  two_factor_enabled boolean,
  CONSTRAINT users_of_tenant_holds_nothing CHECK (false) NO INHERIT
);
CREATE TABLE decisions_of_tenant (
  customer_id text,
  tenant_id text,
  decision json,
  CONSTRAINT decisions_of_tenant_holds_nothing CHECK (false) NO INHERIT
);
ALTER TABLE customers INHERIT customers_of_tenant;
ALTER TABLE persons INHERIT persons_of_tenant;
ALTER TABLE users INHERIT users_of_tenant;
ALTER TABLE decisions INHERIT decisions_of_tenant;
COMMENT ON TABLE customers_of_tenant IS 'The customers of the tenant that the transaction has named in registration.tenant; no rows of its own.';
COMMENT ON TABLE persons_of_tenant IS 'The persons of the tenant that the transaction has named in registration.tenant; no rows of its own.';
COMMENT ON TABLE users_of_tenant IS 'The users of that tenant, without their password hashes; no rows of its own.';
COMMENT ON TABLE decisions_of_tenant IS 'The decisions of that tenant; no rows of its own.';

-- For everybody, the owner too; for reading, so that nothing else is ever allowed. A setting that was local to a transaction
-- is an empty text afterwards, and not null.
CREATE POLICY customers_of_the_named_tenant ON customers_of_tenant FOR SELECT
USING (tenant_id = nullif(current_setting('registration.tenant', true), ''));
CREATE POLICY persons_of_the_named_tenant ON persons_of_tenant FOR SELECT
USING (tenant_id = nullif(current_setting('registration.tenant', true), ''));
CREATE POLICY users_of_the_named_tenant ON users_of_tenant FOR SELECT
USING (tenant_id = nullif(current_setting('registration.tenant', true), ''));
CREATE POLICY decisions_of_the_named_tenant ON decisions_of_tenant FOR SELECT
USING (tenant_id = nullif(current_setting('registration.tenant', true), ''));
ALTER TABLE customers_of_tenant ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE persons_of_tenant ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE users_of_tenant ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE decisions_of_tenant ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- One look-up serves requests of many tenants, so it can't name one: it takes exact pairs, and nothing else leads to a row. The
-- body is bound to these tables now, whatever search_path a caller has.
CREATE FUNCTION outcomes_of(tenant_ids text[], registration_ids text[])
RETURNS TABLE (
  tenant_id text, registration_id text, status text, code text, problem json, customer_id text, fingerprint text,
  command_topic text, command_partition integer, command_offset bigint, username text, user_status text
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT r.tenant_id, r.registration_id, r.status, r.code, r.problem, r.customer_id, r.fingerprint,
    r.command_topic, r.command_partition, r.command_offset, c.email, c.status
  FROM unnest(tenant_ids, registration_ids) AS w (tenant_id, registration_id)
  JOIN registrations AS r ON r.registration_id = w.registration_id AND r.tenant_id = w.tenant_id
  LEFT JOIN customers AS c ON c.customer_id = r.customer_id AND c.tenant_id = r.tenant_id;
END;
REVOKE EXECUTE ON FUNCTION outcomes_of FROM PUBLIC;

GRANT SELECT ON tenants, catalogues, ingress_keys TO registration_ingress;
GRANT SELECT ON customers_of_tenant, persons_of_tenant, users_of_tenant, decisions_of_tenant TO registration_ingress;
GRANT EXECUTE ON FUNCTION outcomes_of TO registration_ingress;

-- By the name as customers compare it, which has an index.
CREATE VIEW session_users WITH (security_barrier = true) AS
SELECT u.tenant_id, c.email_normalized AS username_normalized, u.username, u.password_hash, u.status, u.user_id
FROM users AS u
JOIN customers AS c USING (customer_id, tenant_id);
COMMENT ON VIEW session_users IS 'What a session service needs to log a user in, and nothing else of a customer.';
GRANT SELECT ON session_users TO registration_session;
