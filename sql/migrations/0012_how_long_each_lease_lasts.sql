-- breaking: no
-- Each replica's own lease: two that were configured differently declared one another dead.  Of an
-- older replica, null, whoever judges takes his own.

ALTER TABLE harvestd.replica
    ADD COLUMN lease interval;
