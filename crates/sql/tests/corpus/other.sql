# Each is of the class before the bar.
begin | BEGIN
begin | begin work;
begin | BEGIN TRANSACTION
begin | START TRANSACTION
begin | BEGIN ISOLATION LEVEL REPEATABLE READ
begin | BEGIN ISOLATION LEVEL SERIALIZABLE
begin | START TRANSACTION ISOLATION LEVEL READ UNCOMMITTED, NOT DEFERRABLE
begin | BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE
begin | BEGIN READ ONLY, ISOLATION LEVEL SERIALIZABLE
begin read only | BEGIN READ ONLY
begin read only | START TRANSACTION READ ONLY
begin read only | begin transaction isolation level repeatable read, read only
begin read only | BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
begin read only | /* a */ BEGIN -- b⏎ READ/**/ONLY
begin read write | BEGIN READ WRITE
begin read write | START TRANSACTION READ WRITE, ISOLATION LEVEL READ COMMITTED
begin read write | BEGIN READ ONLY READ WRITE
begin read write | BEGIN READ WRITE READ ONLY
end | COMMIT
end | commit work
end | COMMIT TRANSACTION;
end | END
end | END WORK
end | ROLLBACK
end | ROLLBACK WORK
end | ABORT
end | abort transaction
end | COMMIT AND NO CHAIN
end | ROLLBACK AND NO CHAIN; -- done
reset | DISCARD ALL
reset | discard/**/all;
empty | ;
empty | -- nothing
empty | /* nothing /* at all */ */ ;;
