-- What was refused or failed is removed when its time is over (docs/operating.md): who may, and how it is found.
-- On large tables make the three indexes beforehand by hand, CONCURRENTLY and under these names: a migration is a transaction, and
-- would keep the workers waiting for as long as it builds them.

CREATE INDEX IF NOT EXISTS registrations_refused_by_age ON registrations (tenant_id, decided_at)
WHERE status IN ('REJECTED', 'FAILED');
CREATE INDEX IF NOT EXISTS dead_letters_by_age ON dead_letters (coalesce(tenant_id, ''), recorded_at);

-- The foreign key looks for customers of each registration that goes.
CREATE INDEX IF NOT EXISTS customers_by_registration ON customers (registration_id, tenant_id);

GRANT DELETE ON registrations, dead_letters TO registration_worker;
