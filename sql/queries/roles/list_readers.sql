-- list_readers: who was given the rights of the reader role, by name.
--
-- $1 reader  text
-- -> role, may_log_in, reads (the rights come along by themselves)
SELECT member.rolname AS role,
       member.rolcanlogin AS may_log_in,
       pg_catalog.pg_has_role(member.oid, reader.oid, 'USAGE') AS reads
FROM pg_catalog.pg_roles AS reader
JOIN pg_catalog.pg_auth_members AS membership ON membership.roleid = reader.oid
JOIN pg_catalog.pg_roles AS member ON member.oid = membership.member
WHERE reader.rolname = $1::text
  -- Who made the role may manage it, which is no reading.
  AND member.rolname <> session_user
  AND NOT starts_with(member.rolname, 'harvestd_')
GROUP BY member.oid, member.rolname, member.rolcanlogin, reader.oid
ORDER BY member.rolname;
