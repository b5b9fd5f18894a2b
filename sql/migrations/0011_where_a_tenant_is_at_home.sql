-- breaking: no
-- Which replicas tenants may be at home with (not with one that drains, nor with a command that
-- ends by itself), and what those can run (null: not told yet): a tenant's home is one that has
-- all of its scripts.  An older replica never says that it houses anybody, and takes whatever is
-- due.

ALTER TABLE harvestd.replica
    ADD COLUMN houses boolean NOT NULL DEFAULT false,
    ADD COLUMN scripts text[];
