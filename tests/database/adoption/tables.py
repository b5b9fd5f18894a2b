"""The application's three tables: as Prisma makes them, and what to compare them by."""

from __future__ import annotations

from typing import Any, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[Any]"

# What `prisma migrate` writes for the specification's models, and for an application's Tenant.
STATUS = """CREATE TYPE "DataSourceRunStatus" AS ENUM ('RUNNING', 'COMPLETED', 'FAILED');"""
TENANT = """
    CREATE TABLE "tenant" (
        "id" TEXT NOT NULL,
        "name" TEXT NOT NULL,
        "slug" TEXT NOT NULL,
        "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "trial_ends_at" TIMESTAMP(3),
        CONSTRAINT "tenant_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "tenant_slug_key" ON "tenant"("slug");"""
CONFIG = """
    CREATE TABLE "tenant_data_source_config" (
        "id" TEXT NOT NULL,
        "tenant_id" TEXT NOT NULL,
        "data_source" TEXT NOT NULL,
        "key" TEXT NOT NULL,
        "value" TEXT NOT NULL,
        "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updated_at" TIMESTAMP(3) NOT NULL,
        CONSTRAINT "tenant_data_source_config_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "tenant_data_source_config_tenant_id_data_source_key_key"
        ON "tenant_data_source_config"("tenant_id", "data_source", "key");
    ALTER TABLE "tenant_data_source_config" ADD CONSTRAINT
        "tenant_data_source_config_tenant_id_fkey" FOREIGN KEY ("tenant_id")
        REFERENCES "tenant"("id") ON DELETE CASCADE ON UPDATE CASCADE;"""
RUN = """
    CREATE TABLE "data_source_run" (
        "id" TEXT NOT NULL,
        "tenant_id" TEXT NOT NULL,
        "data_source" TEXT NOT NULL,
        "script" TEXT NOT NULL,
        "status" "DataSourceRunStatus" NOT NULL,
        "started_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "completed_at" TIMESTAMP(3),
        "error" TEXT,
        "last_fetched_data_date" TIMESTAMP(3),
        CONSTRAINT "data_source_run_pkey" PRIMARY KEY ("id")
    );
    CREATE UNIQUE INDEX "data_source_run_tenant_id_data_source_script_key"
        ON "data_source_run"("tenant_id", "data_source", "script");
    CREATE INDEX "data_source_run_tenant_id_idx" ON "data_source_run"("tenant_id");
    CREATE INDEX "data_source_run_data_source_idx" ON "data_source_run"("data_source");
    CREATE INDEX "data_source_run_tenant_id_data_source_idx"
        ON "data_source_run"("tenant_id", "data_source");
    ALTER TABLE "data_source_run" ADD CONSTRAINT "data_source_run_tenant_id_fkey"
        FOREIGN KEY ("tenant_id") REFERENCES "tenant"("id") ON DELETE CASCADE ON UPDATE CASCADE;"""
PRISMA = STATUS + TENANT + CONFIG + RUN
ROWS = """
    INSERT INTO tenant (id, name, slug, created_at, trial_ends_at)
    VALUES ('t1', 'Acme', 'acme', '2025-03-30 02:30:00.123', '2026-01-01 00:00');
    INSERT INTO tenant_data_source_config (id, tenant_id, data_source, key, value, updated_at)
    VALUES ('c1', 't1', 'git', 'GIT_TOKEN', 'secret', '2026-01-01 00:00');
    INSERT INTO data_source_run
        (id, tenant_id, data_source, script, status, started_at, last_fetched_data_date)
    VALUES
        ('r1', 't1', 'git', 'repository.ts', 'COMPLETED', '2026-01-02 03:04', '2026-01-02'),
        ('r2', 't1', 'git', 'commit.ts', 'RUNNING', '2026-01-02 03:04', NULL),
        ('r3', 't1', 'git', 'commit.js', 'FAILED', '2026-01-02 03:04', NULL),
        ('r4', 't1', 'jira', 'issue', 'FAILED', '2026-01-02 03:04', NULL),
        ('r5', 't1', 'jira', 'issue.ts', 'COMPLETED', '2026-01-02 03:04', NULL);
"""
SHAPE_COLUMNS = """
    SELECT relation.relname::text AS place, attribute.attname::text AS name,
           format_type(attribute.atttypid, attribute.atttypmod) AS type,
           attribute.attnotnull AS required, attribute.attidentity::text AS identity,
           pg_get_expr(fallback.adbin, fallback.adrelid) AS fallback
    FROM pg_class AS relation
    JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    LEFT JOIN pg_attrdef AS fallback
      ON fallback.adrelid = relation.oid AND fallback.adnum = attribute.attnum
    WHERE relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
      AND attribute.attnum > 0 AND NOT attribute.attisdropped"""
SHAPE_OTHERS = """
    SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index
    JOIN pg_class AS relation ON relation.oid = indrelid
    WHERE relation.relname IN ('tenant', 'tenant_data_source_config', 'data_source_run')
    UNION ALL
    SELECT 'trigger', pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    UNION ALL
    SELECT 'options', relname || ' ' || coalesce(array_to_string(reloptions, ' '), '')
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    UNION ALL
    SELECT 'word', enumlabel FROM pg_enum"""
