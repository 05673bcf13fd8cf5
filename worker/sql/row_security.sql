-- row_security: whether policies hold for this session's role; they do not for a superuser, nor for one with BYPASSRLS.
SELECT row_security_active('customers_of_tenant') AS holds
