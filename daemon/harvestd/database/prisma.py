"""What an application that uses Prisma adds to its schema.prisma after an adoption."""

from __future__ import annotations

PRISMA_LINES = """\
For an application with Prisma: add these lines to schema.prisma, so that `prisma migrate` and
`prisma db pull` agree with what is there now, and give existing DateTime fields of the three
models @db.Timestamptz(6):

enum DataSourceRunStatus {
  // RUNNING COMPLETED FAILED, and:
  PENDING
  WAITING
}

// the model of the table tenant
  id        String    @id @default(dbgenerated("(gen_random_uuid())::text"))
  name      String    @default("")
  createdAt DateTime  @default(now()) @map("created_at") @db.Timestamptz(6)
  runsMax   Int?      @map("runs_max")
  pausedAt  DateTime? @map("paused_at") @db.Timestamptz(6)

// the model of the table tenant_data_source_config
  id        String   @id @default(dbgenerated("(gen_random_uuid())::text"))
  createdAt DateTime @default(now()) @map("created_at") @db.Timestamptz(6)
  updatedAt DateTime @default(now()) @updatedAt @map("updated_at") @db.Timestamptz(6)

// the model of the table data_source_run
  id                  String    @id @default(dbgenerated("(gen_random_uuid())::text"))
  status              DataSourceRunStatus @default(PENDING)
  startedAt           DateTime  @default(now()) @map("started_at") @db.Timestamptz(6)
  completedAt         DateTime? @map("completed_at") @db.Timestamptz(6)
  lastFetchedDataDate DateTime? @map("last_fetched_data_date") @db.Timestamptz(6)
  runNo       BigInt    @unique @default(autoincrement()) @map("run_no")
  dueAt       DateTime  @default(now()) @map("due_at") @db.Timestamptz(6)
  notBefore   Unsupported("timestamptz") @default(dbgenerated("'-infinity'")) @map("not_before")
  fence       BigInt    @default(0)
  replicaId   String?   @map("replica_id") @db.Uuid
  origin      DateTime? @db.Timestamptz(6)
  covered     Unsupported("tstzmultirange") @default(dbgenerated("'{}'"))
  failures    Int       @default(0)
  blockedBy   String?   @map("blocked_by")
  reason      String?
  retiredAt   DateTime? @map("retired_at") @db.Timestamptz(6)
  rowsWritten BigInt    @default(0) @map("rows_written")
  pluginHash  String?   @map("plugin_hash")
  deaths      Int       @default(0)
  cutAt       DateTime  @default(now()) @map("cut_at") @db.Timestamptz(6)

And for the role the application connects as, since a time without a zone is read in the
session's own:  ALTER ROLE <the application's role> SET timezone = 'UTC';"""
