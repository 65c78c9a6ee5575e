# Each is Class::Pin with the word before the bar.
SET | SET search_path = x
SET | SET search_path TO x, y
SET | set session work_mem = '1MB'
SET | SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
SET | SET TIME ZONE 'UTC'
SET | SET ROLE a
SET | SET SESSION AUTHORIZATION a
SET | SET NAMES 'UTF8'
SET | /* a */ SET -- b⏎ x.y = 'z'
SET | SET local.x = 1
SET | SET transaction.x = 1
SET | SET "local" = 1
SET | SELECT 1; SET x = 1
SET | BEGIN; SET x = 1; COMMIT
SET | SET x = 1; SELECT 1
SET | SELECT 'a\'; SET x = 1; --'
RESET | RESET ALL
RESET | RESET search_path
RESET | RESET SESSION AUTHORIZATION
PREPARE | PREPARE q AS SELECT 1
PREPARE | PREPARE q (int) AS SELECT $1
PREPARE | PREPARE transaction AS SELECT 1
DEALLOCATE | DEALLOCATE q
DEALLOCATE | DEALLOCATE ALL
LISTEN | LISTEN channel
UNLISTEN | UNLISTEN *
LOAD | LOAD 'auto_explain'
DISCARD | DISCARD PLANS
DISCARD | DISCARD TEMP
DISCARD | DISCARD SEQUENCES
DISCARD | SELECT 1; DISCARD ALL
WITH HOLD cursor | DECLARE c CURSOR WITH HOLD FOR SELECT 1
WITH HOLD cursor | DECLARE c NO SCROLL CURSOR with/**/hold FOR SELECT 1
temporary table | CREATE TEMP TABLE x (id int)
temporary table | CREATE TEMPORARY TABLE x AS SELECT 1
temporary table | CREATE LOCAL TEMP TABLE x (id int)
temporary table | CREATE GLOBAL TEMPORARY TABLE x (id int)
temporary table | CREATE OR REPLACE TEMP VIEW x AS SELECT 1
temporary table | CREATE TEMP SEQUENCE x
temporary table | create/**/temp table if not exists x (id int)
temporary table | CREATE TABLE pg_temp.x (id int)
temporary table | SELECT * INTO TEMP x FROM orders
temporary table | SELECT 1 INTO TEMPORARY TABLE x
temporary table | SELECT 1 INTO LOCAL TEMP x
temporary table | SELECT * FROM pg_temp.x
temporary table | INSERT INTO "pg_temp".x VALUES (1)
temporary table | SELECT * FROM pg_temp_3.x
temporary table | EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1
temporary table | EXPLAIN (ANALYZE) CREATE TEMP TABLE x AS SELECT 1
advisory lock | SELECT pg_advisory_lock(1)
advisory lock | SELECT pg_catalog.pg_advisory_lock(1, 2)
advisory lock | SELECT pg_advisory_lock_shared(1)
advisory lock | SELECT pg_try_advisory_lock(1)
advisory lock | SELECT PG_TRY_ADVISORY_LOCK_SHARED (1)
advisory lock | SELECT pg_advisory_unlock(1)
advisory lock | SELECT pg_advisory_unlock_all()
advisory lock | INSERT INTO orders (id) SELECT 1 WHERE "pg_try_advisory_lock"(1)
advisory lock | WITH a AS (SELECT pg_advisory_lock(1)) SELECT 1
set_config | SELECT set_config('search_path', 'x', false)
set_config | SELECT pg_catalog.set_config('search_path', '', false)
set_config | SELECT 1, "set_config" ('a', 'b', true) FROM orders
setseed | SELECT setseed(0.5)
sequence state | SELECT currval('numbers')
sequence state | SELECT lastval()
sequence state | INSERT INTO orders (id) VALUES (currval('numbers'))
dblink | SELECT dblink_connect('x', 'y')
dblink | SELECT * FROM dblink('x', 'select 1') AS t(a int)
replication session | SELECT pg_create_logical_replication_slot('a', 'b', true)
a function with an escaped name | SELECT U&"set\005fconfig"('a', 'b', false)
