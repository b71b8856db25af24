import { sql } from 'kysely'
import type { Tx } from '../db/database.ts'

/** Rows before `rows_from` (a day, UTC) may go, in this organization. */
export interface RowsMark {
  organization_id: string
  rows_from: string
}

/** What each organization's policy allows today, as far as that is more than what it allowed before. By whole months. */
export async function findDueMarks(tx: Tx, defaultDays: number | null): Promise<RowsMark[]> {
  const { rows } = await sql<RowsMark>`
    with allowed as (
      select organizations.id as organization_id,
        date_trunc('month', now() at time zone 'UTC' - make_interval(days => coalesce(rows_days, ${defaultDays}::integer)))::date
          as rows_from
      from organizations left join organization_policies on organization_policies.organization_id = organizations.id
    )
    select allowed.organization_id, allowed.rows_from::text
    from allowed left join attempt_retention as former using (organization_id)
    where allowed.rows_from > coalesce(former.rows_from, '-infinity')
    order by 1`.execute(tx)
  return rows
}

/** Only forward: what is gone does not come back. */
export async function raiseMark(tx: Tx, { organization_id, rows_from }: RowsMark): Promise<void> {
  await sql`
    insert into attempt_retention (organization_id, rows_from) values (${organization_id}, ${rows_from}::date)
    on conflict (organization_id) do update
    set rows_from = greatest(attempt_retention.rows_from, excluded.rows_from), updated_at = now()`.execute(tx)
}

export async function listMarks(tx: Tx): Promise<RowsMark[]> {
  const { rows } = await sql<RowsMark>`
    select organization_id, rows_from::text from attempt_retention order by 1`.execute(tx)
  return rows
}

/** A monthly partition: the first day of its month and of the next. */
export interface Month {
  partition: string
  from: string
  to: string
}

export async function listMonths(tx: Tx): Promise<Month[]> {
  const { rows } = await sql<Month>`
    select relname as partition, from_day::text as from, (from_day + interval '1 month')::date::text as to
    from (
      select relname::text, to_date(right(relname, 6), 'YYYYMM') as from_day
      from pg_inherits join pg_class on pg_class.oid = inhrelid
      where inhparent = 'attempts'::regclass and relname ~ '^attempts_\\d{6}$'
    ) as partitions
    order by 2`.execute(tx)
  return rows
}

export async function countRowsByOrganization(
  tx: Tx,
  month: Month,
): Promise<{ organization_id: string; rows: bigint }[]> {
  const { rows } = await sql<{ organization_id: string; rows: bigint }>`
    select organization_id, count(*) as rows from attempts where ${isWithin(month)} group by 1 order by 1`.execute(tx)
  return rows
}

/** Whether any organization has rows in that month that it keeps. Steps from organization to organization, however many rows. */
export async function isMonthKept(tx: Tx, month: Month): Promise<boolean> {
  const { rows } = await sql<{ isKept: boolean }>`
    with recursive present as (
      (select organization_id from attempts where ${isWithin(month)} order by organization_id limit 1)
      union all
      select (
        select organization_id from attempts
        where ${isWithin(month)} and organization_id > present.organization_id
        order by organization_id limit 1
      )
      from present where organization_id is not null
    )
    select exists (
      select from present where organization_id is not null and not exists (
        select from attempt_retention
        where attempt_retention.organization_id = present.organization_id and rows_from >= ${month.to}::date
      )
    ) as "isKept"`.execute(tx)
  return rows[0]?.isKept ?? true
}

export async function dropMonth(tx: Tx, month: Month): Promise<void> {
  await sql`drop table ${sql.table(month.partition)}`.execute(tx)
}

/** Keeps everybody off the table for the moment that it takes to drop a partition. */
export async function lockAttempts(tx: Tx): Promise<void> {
  await sql`lock table attempts in access exclusive mode`.execute(tx)
}

/** Deletes some rows that an organization no longer keeps. Sums stay: no trigger and nothing else follows. */
export async function deleteRows(tx: Tx, organizationId: string, month: Month, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from attempts where (organization_id, attempt_id, opened_at) in (
      select organization_id, attempt_id, opened_at from attempts
      where organization_id = ${organizationId} and ${isWithin(month)}
      limit ${limit}
    ) and ${isWithin(month)}`.execute(tx)
  return Number(numAffectedRows ?? 0n)
}

function isWithin(month: Month) {
  return sql`opened_at >= ${month.from}::date::timestamp at time zone 'UTC'
    and opened_at < ${month.to}::date::timestamp at time zone 'UTC'`
}
