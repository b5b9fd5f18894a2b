-- wake_changed_scripts: a new content of its plugin ends a run's backoff at once.
--
-- $1 sources  text[]    every script of the catalog: its data source
-- $2 scripts  text[]    its name, same order
-- $3 plugins  text[]    and the content hash of the folder that it came from
-- $4 run_nos  bigint[]  only of these; null: of all
-- -> run_no, woken (false: it is under way with the old content, or locked: to be asked again)
--
-- A wait for an upstream stays: that is no failure of the plugin.
WITH stale AS (
    SELECT failing.run_no
    FROM unnest($1::text[], $2::text[], $3::text[]) AS content (data_source, script, plugin_hash)
    JOIN public.data_source_run AS failing
      ON failing.data_source = content.data_source AND failing.script = content.script
    WHERE (failing.failures > 0 OR failing.deaths > 0)
      AND failing.plugin_hash IS DISTINCT FROM content.plugin_hash
      AND failing.retired_at IS NULL
      AND ($4::bigint[] IS NULL OR failing.run_no = ANY ($4::bigint[]))
),
free AS (
    SELECT run.run_no
    FROM stale
    JOIN public.data_source_run AS run ON run.run_no = stale.run_no
    WHERE run.replica_id IS NULL
    ORDER BY run.run_no
    FOR NO KEY UPDATE OF run SKIP LOCKED
),
woken AS (
    UPDATE public.data_source_run AS run
    SET due_at     = least(run.due_at, now()),
        not_before = CASE WHEN run.status = 'FAILED' THEN '-infinity' ELSE run.not_before END,
        failures   = 0,
        deaths     = 0
    FROM free
    WHERE run.run_no = free.run_no
    RETURNING run.run_no
)
SELECT stale.run_no, woken.run_no IS NOT NULL AS woken
FROM stale
LEFT JOIN woken ON woken.run_no = stale.run_no
ORDER BY stale.run_no;
