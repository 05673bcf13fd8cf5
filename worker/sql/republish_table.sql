-- republish_table: which facts are to be told again, for the length of a session: ids, no personal data.
-- No parameters.
CREATE TEMPORARY TABLE republish (
  place bigint PRIMARY KEY,
  registration_id text NOT NULL,
  tenant_id text NOT NULL
)
