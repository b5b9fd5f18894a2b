-- Without any key: what is loaded twice is there twice.
CREATE TABLE IF NOT EXISTS chaos.event (
    tenant_id text NOT NULL, script text NOT NULL, number bigint NOT NULL, body text NOT NULL,
    attempt text NOT NULL, written_at timestamptz NOT NULL DEFAULT clock_timestamp());
-- When each call of a script began and ended, committed by itself.
CREATE TABLE IF NOT EXISTS chaos.probe (
    tenant_id text NOT NULL, script text NOT NULL, attempt text NOT NULL, mark text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp());
CREATE TABLE IF NOT EXISTS chaos.kept (
    tenant_id text NOT NULL, number bigint NOT NULL, body text NOT NULL,
    PRIMARY KEY (tenant_id, number));
CREATE TABLE IF NOT EXISTS chaos.listed (
    tenant_id text NOT NULL, number bigint NOT NULL, PRIMARY KEY (tenant_id, number));
