-- wake_changed_scripts: a new content of its plugin ends a run's backoff at once.
--
-- $1 sources  text[]   every script of the catalog: its data source
-- $2 scripts  text[]   its name, same order
-- $3 plugins  text[]   and the content hash of the folder that it came from
-- -> run_no
--
-- A wait for an upstream stays: that is no failure of the plugin.
UPDATE public.data_source_run AS run
SET due_at     = least(run.due_at, now()),
    not_before = CASE WHEN run.status = 'FAILED' THEN '-infinity' ELSE run.not_before END,
    failures   = 0,
    deaths     = 0
FROM (SELECT failing.run_no
      FROM unnest($1::text[], $2::text[], $3::text[]) AS content (data_source, script, plugin_hash)
      JOIN public.data_source_run AS failing
        ON failing.data_source = content.data_source AND failing.script = content.script
      WHERE failing.failures > 0
        AND failing.plugin_hash IS DISTINCT FROM content.plugin_hash
        AND failing.retired_at IS NULL
        AND failing.replica_id IS NULL
      FOR NO KEY UPDATE OF failing SKIP LOCKED) AS free
WHERE run.run_no = free.run_no
RETURNING run.run_no;
