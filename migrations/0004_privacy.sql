-- PostgreSQL keeps samples of what columns hold in pg_statistic, and writes what statements are given into its log: neither shall
-- have names, addresses or password hashes (README, "Privacy").

-- No sample of a column that no statement looks for. The parents' columns are sampled too, and their change reaches the tables.
ALTER TABLE customers_of_tenant
  ALTER COLUMN email SET STATISTICS 0,
  ALTER COLUMN phone SET STATISTICS 0;
ALTER TABLE persons_of_tenant
  ALTER COLUMN first_name SET STATISTICS 0,
  ALTER COLUMN last_name SET STATISTICS 0,
  ALTER COLUMN customer_name SET STATISTICS 0,
  ALTER COLUMN date_of_birth SET STATISTICS 0,
  ALTER COLUMN place_of_birth SET STATISTICS 0,
  ALTER COLUMN gender SET STATISTICS 0,
  ALTER COLUMN nationality SET STATISTICS 0,
  ALTER COLUMN nationalities SET STATISTICS 0;
ALTER TABLE users_of_tenant ALTER COLUMN username SET STATISTICS 0;
ALTER TABLE users ALTER COLUMN password_hash SET STATISTICS 0;
-- The look-up by email needs to know that each occurs once, else it might read the whole table: this keeps that, and two samples.
ALTER TABLE customers ALTER COLUMN email_normalized SET STATISTICS 1;

-- Whatever the server logs, it leaves values out for this database. Only administrators may say so; where whoever migrates is none,
-- the README says what an administrator does.
DO $$
BEGIN
  EXECUTE format('ALTER DATABASE %I SET log_parameter_max_length = 0', current_database());
  EXECUTE format('ALTER DATABASE %I SET log_error_verbosity = %L', current_database(), 'terse');
EXCEPTION WHEN insufficient_privilege THEN
  NULL;
END
$$;
