-- person_insert: one person, once. Parameters: the columns.
INSERT INTO persons (customer_id, tenant_id, person_id, first_name, last_name, customer_name, date_of_birth,
  place_of_birth, gender, nationality, nationalities, addresses, contacts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (customer_id, tenant_id) DO NOTHING
