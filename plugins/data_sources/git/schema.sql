-- What the git data source keeps, in its own schema `git`.
--
-- The framework makes the schema, adds deleted_at and written_at, row-level security and the
-- guard. A force push deletes nothing here: commits stay until a sweep marks them.

CREATE TABLE IF NOT EXISTS git.repository (
    tenant_id       text NOT NULL,
    -- Half of the SHA-256 of the url, in hexadecimal: the same for every tenant, for ever.
    id              text NOT NULL,
    -- As normalised, never with credentials.
    url             text NOT NULL,
    -- Null while the upstream's HEAD is detached, or points at a branch without commits.
    default_branch  text,
    -- The commit that HEAD points at.
    head            text,
    -- The oldest of the commits without parents and the newest of the tips, by committer date;
    -- null in an empty repository, and where git knows no usable date.
    first_commit    text,
    first_commit_at timestamptz,
    last_commit     text,
    last_commit_at  timestamptz,
    CONSTRAINT repository_pkey PRIMARY KEY (tenant_id, id)
);

CREATE TABLE IF NOT EXISTS git.commit (
    tenant_id                text NOT NULL,
    repository_id            text NOT NULL,
    sha                      text NOT NULL,
    parents                  text[] NOT NULL,
    author_name              text NOT NULL,
    author_email             text NOT NULL,
    -- Null where the commit holds no date, or one outside the years 1 to 9999.
    authored_at              timestamptz,
    -- East of Greenwich; null where it is missing or a whole day and more.
    author_offset_minutes    integer,
    committer_name           text NOT NULL,
    committer_email          text NOT NULL,
    committed_at             timestamptz,
    committer_offset_minutes integer,
    -- The first paragraph of the message on one line, and what follows it.
    subject                  text NOT NULL,
    body                     text NOT NULL,
    -- The message was longer than 4 MiB and body ends there.
    body_cut                 boolean NOT NULL,
    -- Against the first parent (a merge counts all that it brought in), against nothing for a
    -- commit without parents; renames are found; a binary file counts as a file without lines.
    files                    integer NOT NULL,
    insertions               bigint NOT NULL,
    deletions                bigint NOT NULL,
    CONSTRAINT commit_pkey PRIMARY KEY (tenant_id, repository_id, sha),
    CONSTRAINT commit_is_of_a_repository FOREIGN KEY (tenant_id, repository_id)
        REFERENCES git.repository (tenant_id, id)
);
