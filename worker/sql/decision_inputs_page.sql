-- decision_inputs_page: what decisions of a tenant were made of, page by page.
-- $1 text tenant id  $2 text customer id after which the page begins  $3 int most rows
-- The page is cut before the view is joined: else each page would read persons and decisions from their start.
SELECT customer_id, tenant_id, registered_at, categorization, date_of_birth, nationalities, nationalities_told, residences,
  place_of_birth_told, phone_told, catalogue_version, decision
FROM decision_inputs
WHERE (customer_id, tenant_id) IN (
    SELECT customer_id, tenant_id FROM customers WHERE tenant_id = $1 AND customer_id > $2 ORDER BY customer_id LIMIT $3
  )
ORDER BY customer_id
