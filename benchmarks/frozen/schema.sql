-- The tables of one registration, the position on each partition of the log, and the outbox.
-- Every business key has the tenant in it, the distinguishing column first: a foreign key's cached plan that is made on
-- a nearly empty table would otherwise read a whole tenant for each row (README, D-4).

CREATE TABLE tenants (
  tenant_id text NOT NULL,
  slug text NOT NULL,
  name text NOT NULL,
  CONSTRAINT tenants_pk PRIMARY KEY (tenant_id),
  CONSTRAINT tenants_slug_unique UNIQUE (slug)
);

CREATE TABLE catalogues (
  tenant_id text NOT NULL,
  version integer NOT NULL,
  effective_at timestamptz NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT now(),
  applied_by text NOT NULL,
  document json NOT NULL,
  CONSTRAINT catalogues_pk PRIMARY KEY (tenant_id, version),
  CONSTRAINT catalogues_version_positive CHECK (version > 0),
  CONSTRAINT catalogues_tenant_fk FOREIGN KEY (tenant_id) REFERENCES tenants
);
COMMENT ON TABLE catalogues IS 'Immutable versions of a tenant''s rules; the first holds for every record, a later one from effective_at.';

CREATE TABLE kafka_offsets (
  topic text NOT NULL,
  partition integer NOT NULL,
  next_offset bigint NOT NULL,
  owner uuid NOT NULL,
  claimed_at timestamptz NOT NULL,
  last_offset bigint,
  last_digest bytea,
  dead_letter_run integer NOT NULL DEFAULT 0,
  resume_at_offset bigint,
  skip_offset bigint,
  CONSTRAINT kafka_offsets_pk PRIMARY KEY (topic, partition),
  CONSTRAINT kafka_offsets_next_not_negative CHECK (next_offset >= 0)
) WITH (fillfactor = 20);
COMMENT ON TABLE kafka_offsets IS 'Which record is next on a partition, and who may say so. PostgreSQL, not Kafka, knows.';
COMMENT ON COLUMN kafka_offsets.owner IS 'A fresh random UUID of each claim; a batch commits only under it.';
COMMENT ON COLUMN kafka_offsets.last_digest IS 'Of the record at last_offset: another one there means that the topic was made anew.';
COMMENT ON COLUMN kafka_offsets.resume_at_offset IS 'An operator''s `partitions resume`: go on from here.';
COMMENT ON COLUMN kafka_offsets.skip_offset IS 'An operator''s `partitions skip`: dead-letter this one record.';

CREATE TABLE registrations (
  registration_id text NOT NULL,
  tenant_id text NOT NULL,
  status text NOT NULL,
  code text,
  problem json,
  reason text,
  customer_id text,
  fingerprint text,
  catalogue_version integer,
  command_topic text NOT NULL,
  command_partition integer NOT NULL,
  command_offset bigint NOT NULL,
  decided_at timestamptz NOT NULL,
  requested_at timestamptz,
  requested_by text,
  CONSTRAINT registrations_pk PRIMARY KEY (registration_id, tenant_id),
  CONSTRAINT registrations_outcome CHECK (
    status = 'REGISTRATION_COMPLETE' AND customer_id IS NOT NULL AND code IS NULL
    OR status IN ('REJECTED', 'FAILED') AND customer_id IS NULL AND code IS NOT NULL
  )
);
COMMENT ON TABLE registrations IS 'The inbox and the outcome: one row a registration, whatever is delivered how often.';
COMMENT ON COLUMN registrations.decided_at IS 'The command record''s timestamp (LogAppendTime): no clock of ours.';
COMMENT ON COLUMN registrations.reason IS 'For operators only: why a customer is prohibited.';

CREATE TABLE customers (
  customer_id text NOT NULL,
  tenant_id text NOT NULL,
  registration_id text NOT NULL,
  email text NOT NULL,
  email_normalized text NOT NULL,
  phone text,
  status text NOT NULL,
  category_id text NOT NULL,
  categorization json NOT NULL,
  registered_at timestamptz NOT NULL,
  CONSTRAINT customers_pk PRIMARY KEY (customer_id, tenant_id),
  CONSTRAINT customers_email_unique UNIQUE (email_normalized, tenant_id),
  CONSTRAINT customers_registration_fk FOREIGN KEY (registration_id, tenant_id) REFERENCES registrations,
  CONSTRAINT customers_status CHECK (status IN ('PENDING_ACTIVATION', 'ACTIVE', 'SUSPENDED', 'CLOSED'))
);

CREATE TABLE persons (
  customer_id text NOT NULL,
  tenant_id text NOT NULL,
  person_id text NOT NULL,
  first_name text NOT NULL,
  last_name text NOT NULL,
  customer_name text NOT NULL,
  date_of_birth date NOT NULL,
  place_of_birth text,
  gender text,
  nationality text NOT NULL,
  nationalities text[],
  addresses json NOT NULL,
  contacts json NOT NULL,
  CONSTRAINT persons_pk PRIMARY KEY (customer_id, tenant_id),
  CONSTRAINT persons_customer_fk FOREIGN KEY (customer_id, tenant_id) REFERENCES customers
);

COMMENT ON COLUMN persons.nationalities IS 'All of them, where the person told all; null where only one was told.';

CREATE TABLE users (
  customer_id text NOT NULL,
  tenant_id text NOT NULL,
  user_id text NOT NULL,
  username text NOT NULL,
  password_hash text NOT NULL,
  status text NOT NULL,
  roles text[] NOT NULL,
  is_active boolean NOT NULL,
  requires_password_change boolean NOT NULL,
  two_factor_enabled boolean NOT NULL,
  CONSTRAINT users_pk PRIMARY KEY (customer_id, tenant_id),
  CONSTRAINT users_customer_fk FOREIGN KEY (customer_id, tenant_id) REFERENCES customers
);

CREATE TABLE decisions (
  customer_id text NOT NULL,
  tenant_id text NOT NULL,
  catalogue_version integer NOT NULL,
  risk_level text NOT NULL,
  risk_score smallint NOT NULL,
  due_diligence text NOT NULL,
  verification_level text NOT NULL,
  next_review_on date NOT NULL,
  decision json NOT NULL,
  CONSTRAINT decisions_pk PRIMARY KEY (customer_id, tenant_id),
  CONSTRAINT decisions_customer_fk FOREIGN KEY (customer_id, tenant_id) REFERENCES customers,
  CONSTRAINT decisions_score CHECK (risk_score BETWEEN 0 AND 100)
);
COMMENT ON COLUMN decisions.decision IS 'As decided, byte for byte (json keeps its text): recomputing it must give the same.';

CREATE TABLE outbox (
  command_topic text NOT NULL,
  command_partition integer NOT NULL,
  command_offset bigint NOT NULL,
  kind text NOT NULL,
  key bytea,
  value bytea,
  headers json NOT NULL,
  sealed boolean NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT outbox_pk PRIMARY KEY (command_topic, command_partition, command_offset, kind),
  CONSTRAINT outbox_kind CHECK (kind IN ('event', 'dead-letter'))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE outbox IS 'Messages that are committed and not yet known to be published. It drains to zero.';
COMMENT ON COLUMN outbox.sealed IS 'A dead letter''s key, value and headers are one AES-GCM box in value.';

CREATE TABLE dead_letters (
  topic text NOT NULL,
  partition integer NOT NULL,
  "offset" bigint NOT NULL,
  code text NOT NULL,
  tenant_id text,
  registration_id text,
  sealed bytea,
  recorded_at timestamptz NOT NULL,
  stored_at timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT dead_letters_pk PRIMARY KEY (topic, partition, "offset")
);
COMMENT ON COLUMN dead_letters.sealed IS 'The original key, value and headers, sealed; null where they carried a plaintext password.';

CREATE TABLE ingress_keys (
  name text NOT NULL,
  value bytea NOT NULL,
  CONSTRAINT ingress_keys_pk PRIMARY KEY (name)
);
COMMENT ON TABLE ingress_keys IS 'Secrets shared by every ingress, made once here and never rotated.';
INSERT INTO ingress_keys (name, value)
SELECT name, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
FROM unnest(ARRAY['registration-tag', 'partition-key', 'fingerprint']) AS name;
