-- make_history_partitions: the history's partitions for this month and the next two.
-- -> done
SELECT harvestd.make_history_partitions() IS NULL AS done;
