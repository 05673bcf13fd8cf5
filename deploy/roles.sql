-- What an administrator does once for a database (README, "Database roles" and "Privacy"): the official image runs it on a new
-- cluster. The owner is no superuser, so that the dev cluster shows what a managed PostgreSQL has to give.
\set owner `cat /run/registration/owner`
\set worker `cat /run/registration/worker`
\set ingress `cat /run/registration/ingress`
\set sessions `cat /run/registration/sessions`

CREATE ROLE registration_worker;
CREATE ROLE registration_ingress;
CREATE ROLE registration_session;
CREATE ROLE onboarding_owner LOGIN PASSWORD :'owner';
CREATE ROLE onboarding_worker LOGIN PASSWORD :'worker' IN ROLE registration_worker;
CREATE ROLE onboarding_ingress LOGIN PASSWORD :'ingress' IN ROLE registration_ingress;
CREATE ROLE onboarding_sessions LOGIN PASSWORD :'sessions' IN ROLE registration_session;

ALTER DATABASE registration OWNER TO onboarding_owner;
ALTER DATABASE registration SET log_parameter_max_length = 0;
ALTER DATABASE registration SET log_error_verbosity = 'terse';
