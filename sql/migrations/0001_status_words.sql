-- breaking: no
-- The words of data_source_run.status.  An application may have made the type with three of
-- them (Prisma); a word added here can be used only after this transaction, hence a migration
-- of its own.
DO $$
BEGIN
    IF to_regtype('public."DataSourceRunStatus"') IS NULL THEN
        CREATE TYPE public."DataSourceRunStatus" AS ENUM ('RUNNING', 'COMPLETED', 'FAILED');
    END IF;
END
$$;
ALTER TYPE public."DataSourceRunStatus" ADD VALUE IF NOT EXISTS 'RUNNING';
ALTER TYPE public."DataSourceRunStatus" ADD VALUE IF NOT EXISTS 'COMPLETED';
ALTER TYPE public."DataSourceRunStatus" ADD VALUE IF NOT EXISTS 'FAILED';
ALTER TYPE public."DataSourceRunStatus" ADD VALUE IF NOT EXISTS 'PENDING';
ALTER TYPE public."DataSourceRunStatus" ADD VALUE IF NOT EXISTS 'WAITING';
