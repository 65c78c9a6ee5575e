# Certainly reads, but not certain to the classifier: what it costs to be simple.
SELECT update FROM (SELECT 1 AS update) x
SELECT substring('abc' FROM 1 FOR key) FROM (SELECT 1 AS key) x
SELECT 'C:\'
SELECT U&"d\0061t" FROM (SELECT 1 AS dat) x
EXPLAIN (ANALYZE FALSE) SELECT 1
SELECT 1 AS "a""b"
SELECT E'a'⏎'b\'c', 1
SELECT É FROM größe
