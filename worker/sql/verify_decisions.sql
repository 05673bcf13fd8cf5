-- verify_decisions: customers chosen at random over all of them, with what their decisions were made of, and what they were.
-- $1 int most rows
SELECT tenant_id, customer_id, registration_id, registered_at, categorization, date_of_birth, nationalities,
  nationalities_told, residences, place_of_birth_told, phone_told, catalogue_version, decision
FROM decision_inputs
WHERE (customer_id, tenant_id) IN (SELECT customer_id, tenant_id FROM customers ORDER BY random() LIMIT $1)
