-- What the git data source keeps, in its own schema `git`.
--
-- The framework makes the schema, adds deleted_at and written_at, row-level security and the
-- guard. A force push deletes nothing here: commits and their changes stay; a ref is moved.

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
    -- The message was longer than 2 MiB and body ends there.
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

-- By committer date: what `activity` reads for a window.
CREATE INDEX IF NOT EXISTS commit_by_committed_at ON git.commit (tenant_id, committed_at);

CREATE TABLE IF NOT EXISTS git.file_change (
    tenant_id     text NOT NULL,
    repository_id text NOT NULL,
    sha           text NOT NULL,
    -- Which of the commit's changes, from 1, in git's order. A path is no key: it may be longer
    -- than an index admits.
    number        integer NOT NULL,
    -- As it is, but for odd ones: docs/git.md says how those are written.
    path          text NOT NULL,
    -- added, modified, deleted or renamed (maybe modified, too), against the first parent.
    change        text NOT NULL,
    renamed_from  text,
    -- 100644 a file, 100755 an executable one, 120000 a symbolic link, 160000 a submodule; of a
    -- deleted one what it was.
    mode          text NOT NULL,
    -- Null for a binary file.
    insertions    bigint,
    deletions     bigint,
    CONSTRAINT file_change_pkey PRIMARY KEY (tenant_id, repository_id, sha, number),
    CONSTRAINT file_change_is_of_a_repository FOREIGN KEY (tenant_id, repository_id)
        REFERENCES git.repository (tenant_id, id)
);

CREATE TABLE IF NOT EXISTS git.ref (
    tenant_id     text NOT NULL,
    repository_id text NOT NULL,
    -- The full name, such as refs/heads/main; odd ones are written as odd paths are.
    name          text NOT NULL,
    -- branch or tag.
    kind          text NOT NULL,
    -- What it points at: a commit, an annotated tag, or (tags only) a tree or a file.
    sha           text NOT NULL,
    -- The commit that it leads to; null for a tag of a tree or a file.
    commit_sha    text,
    -- Of an annotated tag, else null; the date also where git knows no usable one.
    tagger_name   text,
    tagger_email  text,
    tagged_at     timestamptz,
    subject       text,
    CONSTRAINT ref_pkey PRIMARY KEY (tenant_id, repository_id, name),
    CONSTRAINT ref_is_of_a_repository FOREIGN KEY (tenant_id, repository_id)
        REFERENCES git.repository (tenant_id, id)
);

CREATE TABLE IF NOT EXISTS git.activity (
    tenant_id    text NOT NULL,
    -- The first 320 characters: no usable address is longer.
    author_email text NOT NULL,
    -- The day in UTC of the committer's date.
    day          date NOT NULL,
    -- In all repositories of the tenant, each commit once; 0 where there are none any more.
    commits      bigint NOT NULL,
    CONSTRAINT activity_pkey PRIMARY KEY (tenant_id, author_email, day)
);
