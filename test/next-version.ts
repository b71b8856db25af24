import { cp, writeFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import type { Db } from '../src/db/database.ts'
import { type Migration, migrate } from '../src/db/migrate.ts'
import { temporaryDirectory } from './harness.ts'

/** Brings the database to a made-up next version, as its first server does at its start. @returns what was applied. */
export async function migrateToNextVersion(stack: AsyncDisposableStack, db: Db): Promise<Migration[]> {
  const directory = await temporaryDirectory(stack)
  await cp(new URL('../src/db/migrations/', import.meta.url), directory, { recursive: true })
  await writeFile(`${directory}/9001_next.sql`, EXPAND)
  return migrate(db, pathToFileURL(`${directory}/`))
}

/** What an expanding migration may do, to every table that the proxy writes. */
const EXPAND = `
do $$
declare
  name text;
begin
  for name in
    select relname from pg_class where relkind in ('r', 'p') and not relispartition and relnamespace = 'public'::regnamespace
      and relname <> 'schema_migrations'
  loop
    execute format('alter table %I add column next_version_note text', name);
    execute format('alter table %I add column next_version_count integer not null default 0', name);
  end loop;
end
$$;
create table next_version (organization_id uuid not null, id uuid not null, primary key (organization_id, id));
create index attempts_next_version on attempts (organization_id, next_version_note);
`
