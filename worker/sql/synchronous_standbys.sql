-- synchronous_standbys: which standbys must have a commit before it is answered; empty where none must.
SELECT current_setting('synchronous_standby_names')
