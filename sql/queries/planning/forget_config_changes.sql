-- forget_config_changes: notes go by age, never by being read: each replica has its own mark.
-- -> change_no
DELETE FROM harvestd.config_change AS note
WHERE note.noted_at < now() - interval '2 hours'
RETURNING note.change_no;
