-- breaking: no
-- A tenant's name, its limit, its pause and whatever else an application keeps in its row say
-- nothing of a data source: noted as a change of configuration, each ended that tenant's rate
-- limits and backoffs. Only an id that comes or goes is one.

CREATE FUNCTION harvestd.note_changed_ids() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO harvestd.config_change (tenant_id)
    (SELECT before.id FROM before EXCEPT SELECT after.id FROM after)
    UNION
    (SELECT after.id FROM after EXCEPT SELECT before.id FROM before);
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION harvestd.note_changed_ids() FROM PUBLIC;

DROP TRIGGER harvestd_note_update_new ON public.tenant;
DROP TRIGGER harvestd_note_update_old ON public.tenant;
CREATE TRIGGER harvestd_note_update AFTER UPDATE ON public.tenant
    REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT
    EXECUTE FUNCTION harvestd.note_changed_ids();
